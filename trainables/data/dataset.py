"""A dataset: a folder of DFT snapshots with one energy grid.  eV, Å, K.

dataset.json         DatasetInfo
snapshots.parquet    one row a snapshot, see SNAPSHOTS
ldos/ID.arrow        column ldos, fixed_size_list[n_energy] of float16 or float32 [1/(eV Å³)], both spins summed
density/ID.arrow     optional; column density, float32 [1/Å³]
descriptors/KEY/ID.arrow    column descriptor, fixed_size_list<float32>[n_components]
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..descriptors.bispectrum import BispectrumSettings, descriptor_path, structure_hash
from ..errors import DatasetError, one_line
from ..files import sha256
from ..physics.energies import Energies, energies
from ..physics.energies import n_electrons as count_electrons
from ..physics.local import dos
from .energy_grid import EnergyGrid
from .kohn_sham import KohnSham
from .mirror import Mirror, is_url, name_of
from .shards import ShardFile, in_shards, to_batches, write

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# A right LDOS is within 1.2 meV/atom at 900 to 3200 K; one cut at the bottom of the band, or unfolded by another width
# than it was broadened with, is off by tens.
MOST_BAND_ENERGY_ERROR = 10.0  # [meV/atom]

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
        pa.field("ldos_sha256", pa.string(), nullable=False),
        pa.field("density_sha256", pa.string()),
    ]
)
_ARRAYS = {"cell": np.float64, "positions": np.float64, "numbers": np.int64, "forces": np.float64}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One atomic configuration with its DFT reference; the columns of SNAPSHOTS.

    ``total_energy`` is the free energy A; ``forces`` and the energies are None where the DFT gave none.
    """

    id: str
    split: Split
    group: str
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    grid: tuple[int, int, int]
    temperature: float
    n_electrons: float
    total_energy: float | None
    band_energy: float | None
    entropy_term: float | None
    hartree_energy: float | None
    xc_energy: float | None
    ewald_energy: float | None
    fermi_level: float | None
    forces: NDArray[np.float64] | None
    ldos_sha256: str
    density_sha256: str | None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Snapshot":
        """From one row of the table."""
        for name, dtype in _ARRAYS.items():
            if row[name] is not None:
                row[name] = np.array(row[name], dtype=dtype)
        return cls(**row | {"grid": tuple(row["grid"])})

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
        return int(np.prod(self.grid))

    @property
    def volume(self) -> float:
        """Cell volume Ω [Å³]."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def structure_hash(self) -> str:
        return structure_hash(self.cell, self.positions, self.numbers, self.grid)


class DatasetInfo(BaseModel):
    """What all snapshots of a dataset share: the contents of dataset.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    species: dict[str, float] = Field(description="chemical symbol -> valence electrons of its pseudopotential")
    energy_grid: EnergyGrid
    dft: KohnSham | None = Field(default=None, description="None: not known, hence no total free energies")
    units: dict[str, str] = {
        "length": "Å",
        "energy": "eV",
        "temperature": "K",
        "ldos": "1/(eV Å³), both spins summed",
        "density": "1/Å³",
    }
    source: str = Field(description="where the snapshots come from, and under which settings")


@dataclass(frozen=True)
class SnapshotReport:
    """How the stored LDOS of one snapshot compares with its DFT reference."""

    id: str
    electrons_error: float  # electrons counted from the LDOS at the DFT's Fermi level, minus the DFT's
    band_energy_error: float | None  # least-squares quadrature minus DFT [meV/atom]


class Dataset:
    """A dataset folder, opened for reading; big arrays stay on disk until asked for.

    Args:
        path: the folder.
        info: its dataset.json.
        snapshots: its rows, in table order.
        mirror: where the folder mirrors a URL, what brings its files; those it does not have yet come when asked for.
    """

    def __init__(
        self, path: Path, info: DatasetInfo, snapshots: Sequence[Snapshot], mirror: Mirror | None = None
    ) -> None:
        self.path = path
        self.info = info
        self.snapshots = list(snapshots)
        self._mirror = mirror

    @classmethod
    def open(cls, location: str | Path) -> "Dataset":
        """Open a dataset.

        Args:
            location: folder, or URL of one (``mirror.py`` says which URLs there are).

        Raises:
            DatasetError: it is missing, incomplete, damaged, or of another format version.
        """
        mirror = Mirror(str(location)) if is_url(location) else None
        path = Path(location).expanduser().resolve() if mirror is None else mirror.folder
        if not (path / "dataset.json").is_file():
            raise DatasetError(f"{path}: not a dataset (no dataset.json); make one with `dftune data import`")
        try:
            info = DatasetInfo.model_validate_json((path / "dataset.json").read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path / 'dataset.json'}: {one_line(error)}; import the dataset again") from error
        table_path = path / "snapshots.parquet"
        try:
            table = pq.read_table(table_path, page_checksum_verification=True)
            rows = table.to_pylist()
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise DatasetError(f"{table_path}: missing or damaged; import the dataset again") from error
        if not table.schema.equals(SNAPSHOTS):
            raise DatasetError(f"{table_path}: columns differ from this version's; import the dataset again")
        snapshots = [Snapshot.from_row(row) for row in rows]
        if not snapshots:
            raise DatasetError(f"{table_path}: holds no snapshot; import the dataset again")
        return cls(path, info, snapshots, mirror)

    @property
    def location(self) -> str:
        """Where any process of any machine opens it: the folder, or the URL that the folder mirrors."""
        return str(self.path) if self._mirror is None else self._mirror.url

    @property
    def name(self) -> str:
        """The last part of its location."""
        return name_of(self.location)

    def only(self, snapshots: Sequence[Snapshot]) -> "Dataset":
        """The same dataset with some of its snapshots."""
        return Dataset(self.path, self.info, snapshots, self._mirror)

    def _file(self, name: str, sha256: str | None = None) -> Path:
        """Where a file of the dataset is on this machine; there is none where the dataset has none.

        Raises:
            DatasetError: it cannot be brought here, or is another one than ``sha256`` says.
        """
        return self.path / name if self._mirror is None else self._mirror.fetch(name, sha256)

    def _finished(self, name: str) -> None:
        """A file has been written: from now on, it is there for all."""
        if self._mirror is not None:
            self._mirror.push(name)

    def __getitem__(self, snapshot: str) -> Snapshot:
        for candidate in self.snapshots:
            if candidate.id == snapshot:
                return candidate
        raise DatasetError(
            f"{self.location}: has no snapshot '{snapshot}'; it has {', '.join(s.id for s in self.snapshots)}"
        )

    def split(self, name: Split) -> list[Snapshot]:
        """The snapshots of one split.

        Raises:
            DatasetError: there is none.
        """
        chosen = [s for s in self.snapshots if s.split == name]
        if not chosen:
            raise DatasetError(
                f"{self.location}: has no {name} snapshot; import it again with --validation and --test snapshots"
            )
        return chosen

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every row of the table, the checksum of every LDOS among them: which data a model was trained on.

        ``dft`` is no part of it: nothing is trained on it, so adding it leaves studies and models those of the dataset.
        """
        content = [self.info.model_dump(mode="json", exclude={"dft"}), [s.to_row() for s in self.snapshots]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def ldos(self, snapshot: Snapshot) -> ShardFile:
        """LDOS of a snapshot, shape (n_points, n_energy) [1/(eV Å³)].

        Raises:
            DatasetError: missing, damaged or of another shape.
        """
        return ShardFile(
            self._file(f"ldos/{snapshot.id}.arrow", snapshot.ldos_sha256),
            "ldos",
            n_points=snapshot.n_points,
            n=self.info.energy_grid.n_energy,
            remedy=self._remedy,
        )

    def density(self, snapshot: Snapshot) -> ShardFile:
        """Reference electron density of a snapshot, shape (n_points,) [1/Å³].  Errors as ``ldos``."""
        return ShardFile(
            self._file(f"density/{snapshot.id}.arrow", snapshot.density_sha256),
            "density",
            n_points=snapshot.n_points,
            n=0,
            remedy=self._remedy,
        )

    def descriptors(self, snapshot: Snapshot, settings: BispectrumSettings) -> ShardFile:
        """Descriptors of a snapshot, shape (n_points, n_components).

        Raises:
            DatasetError: not computed, damaged, or of another setting or structure.
        """
        path = self._file(_descriptor_name(snapshot, settings))
        return self._descriptor_file(path, snapshot, settings)

    def _descriptor_file(
        self, path: Path, snapshot: Snapshot, settings: BispectrumSettings, n_points: int | None = None
    ) -> ShardFile:
        options = f"--cutoff {settings.cutoff:g} --two-j-max {settings.two_j_max}"
        remedy = f"run `dftune descriptors compute {self.location} {options}`"
        n_points = snapshot.n_points if n_points is None else n_points
        file = ShardFile(path, "descriptor", n_points=n_points, n=settings.n_components, remedy=remedy)
        if file.metadata.get("settings") != settings.model_dump_json():
            raise DatasetError(
                f"{path}: descriptors of another setting, {file.metadata.get('settings')}, "
                f"not {settings.model_dump_json()}; remove the folder and {remedy}"
            )
        if file.metadata.get("structure") != snapshot.structure_hash:
            raise DatasetError(f"{path}: descriptors of another structure than snapshot {snapshot.id}; {remedy}")
        return file

    def without_descriptors(self, settings: BispectrumSettings) -> list[Snapshot]:
        """Snapshots whose descriptors are missing or damaged: what `descriptors compute` has to do.

        Of those behind a URL that are not here yet, only whether they are there is looked at.
        """
        there = set() if self._mirror is None else self._mirror.names(f"descriptors/{settings.key}")

        def usable(snapshot: Snapshot) -> bool:
            path = descriptor_path(self.path, settings, snapshot.id)
            if path.name in there and not path.exists():
                return True
            try:
                self.descriptors(snapshot, settings)
            except DatasetError:
                return False
            return True

        return [s for s in self.snapshots if not usable(s)]

    def write_descriptors(self, snapshot: Snapshot, settings: BispectrumSettings, values: NDArray[np.float32]) -> None:
        """Store the descriptors of a snapshot, (n_points, n_components), whole or not at all."""
        metadata = _descriptor_metadata(snapshot, settings)
        write(descriptor_path(self.path, settings, snapshot.id), to_batches(values, "descriptor", metadata))
        self._finished(_descriptor_name(snapshot, settings))

    def not_stored(self, settings: BispectrumSettings) -> str | None:
        """What to say where descriptors could not be stored at the URL; None where all are, and of a folder."""
        if self._mirror is None:
            return None
        there = self._mirror.names(f"descriptors/{settings.key}")
        left = sum(f"{s.id}.arrow" not in there for s in self.snapshots)
        if left == 0:
            return None
        return (
            f"{self.location}: cannot be written, so the descriptors of {left} snapshots stay in {self.path} of the "
            "machines that computed them, and are computed again where they are needed"
        )

    @property
    def is_mirrored(self) -> bool:
        """Whether it lies behind a URL, and each machine has files of its own."""
        return self._mirror is not None

    def described(self) -> list[str]:
        """Keys of the descriptor settings that it has a folder of."""
        if self._mirror is not None:
            return sorted(self._mirror.names("descriptors"))
        return [path.name for path in sorted((self.path / "descriptors").glob("*")) if path.is_dir()]

    @property
    def _remedy(self) -> str:
        if self._mirror is None:
            return "import the dataset again"
        return "remove this file to have it fetched again, and where that does not help, upload the dataset again"

    def piece_of_descriptors(self, snapshot: Snapshot, settings: BispectrumSettings, points: range) -> ShardFile:
        """Descriptors of some grid points, kept until they are joined with the others.  Errors as ``descriptors``."""
        return self._descriptor_file(self._piece(snapshot, settings, points), snapshot, settings, len(points))

    def write_piece_of_descriptors(
        self, snapshot: Snapshot, settings: BispectrumSettings, points: range, values: NDArray[np.float32]
    ) -> None:
        """Store the descriptors of some grid points, (len(points), n_components), whole or not at all."""
        metadata = _descriptor_metadata(snapshot, settings)
        write(self._piece(snapshot, settings, points), to_batches(values, "descriptor", metadata))

    def join_descriptors(self, snapshot: Snapshot, settings: BispectrumSettings, pieces: Sequence[range]) -> None:
        """Store the descriptors of a snapshot, whole or not at all, from pieces in grid order, which are then removed.

        No more than a piece and a shard are held at once.  Errors as ``descriptors``.
        """
        metadata = _descriptor_metadata(snapshot, settings)
        arrays = (self.piece_of_descriptors(snapshot, settings, points).array() for points in pieces)
        shards = (to_batches(shard, "descriptor", metadata)[0] for shard in in_shards(arrays))
        write(descriptor_path(self.path, settings, snapshot.id), shards)
        self._finished(_descriptor_name(snapshot, settings))
        shutil.rmtree(self._piece(snapshot, settings, pieces[0]).parent, ignore_errors=True)

    def _piece(self, snapshot: Snapshot, settings: BispectrumSettings, points: range) -> Path:
        folder = descriptor_path(self.path, settings, snapshot.id).parent / f".{snapshot.id}.pieces"
        return folder / f"{points.start}-{points.stop}.arrow"

    def dos(self, snapshot: Snapshot) -> NDArray[np.float64]:
        """Reference DOS of a snapshot, from its LDOS, shape (n_energy,) [1/eV]."""
        return dos(self.ldos(snapshot).array(), volume=snapshot.volume)

    def energies(self, snapshot: Snapshot) -> Energies:
        """Energies from the reference LDOS by least-squares quadrature [eV].  Errors as ``physics.energies``."""
        quadrature = self.info.energy_grid.quadrature()
        return energies(
            self.dos(snapshot), quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature
        )

    def verify(self) -> None:
        """Compare the checksum of every LDOS and density with the table's.

        Raises:
            DatasetError: at the first file that is missing, damaged or another one.
        """
        for snapshot in self.snapshots:
            for kind, expected in (("ldos", snapshot.ldos_sha256), ("density", snapshot.density_sha256)):
                if expected is None:
                    continue
                # Missing, truncated and misshapen files have their own words.
                path = getattr(self, kind)(snapshot).path
                if sha256(path) != expected:
                    raise DatasetError(f"{path}: its SHA-256 differs from the table's; {self._remedy}")

    def check(self) -> Iterator[SnapshotReport]:
        """Read every file once: checksums, finite values, electron count, band energy.

        Raises:
            DatasetError: at the first file that is damaged or does not agree with the table.
        """
        self.verify()
        for snapshot in self.snapshots:
            yield check_ldos(self.ldos(snapshot).array(), snapshot, self.info.energy_grid, where=snapshot.id)


def _descriptor_name(snapshot: Snapshot, settings: BispectrumSettings) -> str:
    return descriptor_path(Path(), settings, snapshot.id).as_posix()


def _descriptor_metadata(snapshot: Snapshot, settings: BispectrumSettings) -> dict[str, str]:
    return {
        "snapshot": snapshot.id,
        "grid": str(snapshot.grid),
        "unit": "1",
        "settings": settings.model_dump_json(),
        "structure": snapshot.structure_hash,
    }


def check_ldos(ldos: NDArray[np.floating], snapshot: Snapshot, grid: EnergyGrid, *, where: str) -> SnapshotReport:
    """Check an LDOS against what the DFT said of the same snapshot.

    Args:
        ldos: shape (n_points, n_energy) [1/(eV Å³)].
        snapshot: the reference.
        grid: energies of ``ldos``.
        where: file or snapshot to name in an error.

    Raises:
        DatasetError: values not finite or of the wrong sign or unit, an electron count more than 1 % off, too few
            states in the energy grid, or a band energy more than 10 meV/atom off.
    """
    bad = np.flatnonzero(~np.isfinite(ldos).all(axis=1))
    if len(bad):
        point = tuple(int(i) for i in np.unravel_index(bad[0], snapshot.grid))
        raise DatasetError(
            f"{where}: the LDOS is not finite (NaN or infinite) at {len(bad)} grid points, first at {point}; "
            "run the DFT post-processing of this snapshot again"
        )
    total = dos(ldos, volume=snapshot.volume)
    if total.min() < -0.01 * total.max():
        raise DatasetError(f"{where}: the DOS is negative ({total.min():.3g} 1/eV); check the sign of the LDOS")
    quadrature = grid.quadrature()
    try:
        level = snapshot.fermi_level
        if level is None:
            level = energies(
                total, quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature
            ).fermi_level
        counted = count_electrons(total, quadrature, fermi_level=level, temperature=snapshot.temperature)
        if abs(counted - snapshot.n_electrons) > 0.01 * snapshot.n_electrons:
            raise DatasetError(
                f"{where}: the LDOS holds {counted:.3f} electrons below the Fermi level of {level:.3f} eV, "
                f"the DFT has {snapshot.n_electrons:g}; the energy grid is too short or the unit is not 1/(eV Å³)"
            )
        found = energies(total, quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature)
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    difference = None if snapshot.band_energy is None else 1e3 * (found.band - snapshot.band_energy) / snapshot.n_atoms
    if difference is not None and abs(difference) > MOST_BAND_ENERGY_ERROR:
        raise DatasetError(
            f"{where}: the LDOS gives a band energy {difference:+.0f} meV/atom off the DFT's; the energy grid cuts off "
            f"states at the bottom of the band, or the kernel ({grid.kernel}, {grid.width:g} eV) is not the one it had"
        )
    return SnapshotReport(where, counted - snapshot.n_electrons, difference)
