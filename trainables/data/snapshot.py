"""A snapshot: one atomic configuration with its DFT reference, and the table that holds them.  eV, Å, K."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from ase.data import chemical_symbols
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TOO_FEW = "import two snapshots or more, better three, or join datasets by `dftune data merge`"

_vector = pa.list_(pa.float64(), 3)
SNAPSHOTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("cell", pa.list_(_vector, 3), nullable=False, metadata={"unit": "Å", "axes": "vector, xyz"}),
        pa.field("positions", pa.list_(_vector), nullable=False, metadata={"unit": "Å", "axes": "atom, xyz"}),
        pa.field("numbers", pa.list_(pa.int32()), nullable=False),
        pa.field("grid", pa.list_(pa.int32(), 3), nullable=False),
        pa.field("temperature", pa.float64(), nullable=False, metadata={"unit": "K"}),
        pa.field("n_electrons", pa.float64(), nullable=False),
        pa.field("total_energy", pa.float64(), metadata={"unit": "eV", "meaning": "free energy A = E - τS"}),
        pa.field("band_energy", pa.float64(), metadata={"unit": "eV"}),
        pa.field("entropy_term", pa.float64(), metadata={"unit": "eV", "meaning": "-τS"}),
        pa.field("hartree_energy", pa.float64(), metadata={"unit": "eV"}),
        pa.field("xc_energy", pa.float64(), metadata={"unit": "eV"}),
        pa.field("ewald_energy", pa.float64(), metadata={"unit": "eV"}),
        pa.field("fermi_level", pa.float64(), metadata={"unit": "eV"}),
        pa.field("forces", pa.list_(_vector), metadata={"unit": "eV/Å", "axes": "atom, xyz"}),
        pa.field("stress", pa.list_(_vector, 3), metadata={"unit": "eV/Å³", "meaning": "dA/dε / Ω, tension positive"}),
        pa.field("ldos_sha256", pa.string(), nullable=False),
        pa.field("density_sha256", pa.string()),
    ]
)
ENERGIES = tuple(field.name for field in SNAPSHOTS if (field.metadata or {}).get(b"unit") == b"eV")
_ARRAYS = {"cell": np.float64, "positions": np.float64, "numbers": np.int64, "forces": np.float64, "stress": np.float64}


@dataclass(frozen=True, eq=False, kw_only=True)
class Snapshot:
    """One atomic configuration with its DFT reference.  Its fields are the columns of SNAPSHOTS, with their units.

    ``total_energy`` is the free energy A.  ``forces``, ``stress`` and the energies are None if the DFT gave none.
    """

    id: str
    split: Split = "train"
    group: str = "all"
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    grid: tuple[int, int, int]
    temperature: float
    n_electrons: float
    total_energy: float | None = None
    band_energy: float | None = None
    entropy_term: float | None = None
    hartree_energy: float | None = None
    xc_energy: float | None = None
    ewald_energy: float | None = None
    fermi_level: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    ldos_sha256: str = ""
    density_sha256: str | None = None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Snapshot":
        """From one row of the table.  Raises TypeError or ValueError: it holds no numbers where they belong."""
        for name, dtype in _ARRAYS.items():
            if row[name] is not None:
                row[name] = np.array(row[name], dtype=dtype)
        return cls(**row | {"grid": tuple(map(int, row["grid"]))})

    def to_row(self) -> dict[str, Any]:
        """One row of the table."""
        return {
            name: value.tolist() if isinstance(value := getattr(self, name), np.ndarray) else value
            for name in SNAPSHOTS.names
        }

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def n_points(self) -> int:
        return math.prod(self.grid)

    @property
    def volume(self) -> float:
        """Cell volume Ω [Å³]."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def cell_and_atoms(self) -> tuple[bytes, bytes]:
        """Equal for snapshots of one cell, to 1e-5 Å, whose atoms are the same in the same order."""
        return self.numbers.tobytes(), np.round(self.cell, 5).tobytes()

    def valences(self, species: Mapping[str, float]) -> NDArray[np.float64]:
        """Valence electrons of the atoms, from those of the elements by their symbols."""
        return np.array([species[chemical_symbols[number]] for number in self.numbers])

    @property
    def structure_hash(self) -> str:
        return structure_hash(self.cell, self.positions, self.numbers, self.grid)


def structure_hash(cell: NDArray, positions: NDArray, numbers: NDArray, grid: tuple[int, int, int]) -> str:
    """Hash of all that descriptors depend on besides their settings, to 1e-6 Å.  Stale files are recognised by it."""
    # + 0.0 turns the -0.0 that -1e-9 is rounded to into 0.0, which JSON writes differently.
    lengths = [(np.round(values, 6) + 0.0).tolist() for values in (cell, positions)]
    content = [*lengths, list(map(int, numbers)), list(grid)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
