"""A dataset of configurations of a binary alloy on one lattice: a folder with dataset.json and a Parquet table.  eV, Å.

dataset.json            an ``AlloyInfo``: elements, lattice, code and settings, pure crystals, checksum of the table
configurations.parquet  a row a configuration, columns of ``TABLE``
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..data.table import read_table
from ..errors import DatasetError, one_line, unreadable
from ..files import atomic, read_text, sha256, write_text
from ..kind import Data, Split
from .lattice import Lattice, orbit_key
from .units import MRY

Float64 = NDArray[np.float64]
HEAD, ROWS = "dataset.json", "configurations.parquet"
TABLE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("species", pa.list_(pa.uint8()), nullable=False, metadata={"about": "by site, 0 or 1 of symbols"}),
        pa.field("energy", pa.float64(), nullable=False, metadata={"unit": "eV, of all electrons in the cell"}),
        pa.field("formation_energy", pa.float64(), nullable=False, metadata={"unit": "eV, of the cell"}),
        pa.field("charge", pa.list_(pa.float64()), nullable=False, metadata={"unit": "electrons in a site's cell"}),
        pa.field("moment", pa.list_(pa.float64()), nullable=False, metadata={"unit": "mu_B"}),
        pa.field("converged", pa.bool_(), nullable=False),
        pa.field("residual", pa.float64(), metadata={"about": "of the last iteration of the code"}),
        pa.field("orbit", pa.string(), nullable=False, metadata={"about": "orbit_key in hexadecimal"}),
        pa.field("multiplicity", pa.int32(), nullable=False, metadata={"about": "configurations of the orbit"}),
    ]
)


class AlloyInfo(BaseModel):
    """What all configurations of a dataset share: the contents of dataset.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[1] = 1
    kind: Literal["alloys"] = "alloys"
    symbols: tuple[str, str] = Field(description="elements 0 and 1")
    lattice: Lattice
    pure_energies: tuple[float, float] = Field(description="of the pure crystals of elements 0 and 1 [eV/atom]")
    code: str = Field(description="what computed all of it")
    settings: dict[str, Any] = Field(default={}, description="of the code")
    source: str = Field(description="where the configurations come from")
    table_sha256: str = Field(description=f"checksum of {ROWS}")

    @field_validator("symbols")
    @classmethod
    def _two_elements(cls, symbols: tuple[str, str]) -> tuple[str, str]:
        if unknown := [s for s in symbols if s not in atomic_numbers]:
            raise ValueError(f"{unknown[0]!r} is no chemical symbol")
        if symbols[0] == symbols[1]:
            raise ValueError("two elements are needed")
        return symbols

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers of elements 0 and 1."""
        return np.array([atomic_numbers[symbol] for symbol in self.symbols])


@dataclass(frozen=True, eq=False)
class Configurations:
    """Configurations, one along the first axis of each array.

    species: 0 or 1 by site, (n, n_sites).  energy: total, all electrons (n,) [eV].  charge: electrons in each site's
    cell, moment [μ_B], (n, n_sites).  orbit, multiplicity: of the symmetry orbit.  residual: NaN where not known.
    """

    ids: tuple[str, ...]
    species: NDArray[np.uint8]
    energy: Float64
    charge: Float64
    moment: Float64
    converged: NDArray[np.bool_]
    residual: Float64
    orbit: tuple[str, ...]
    multiplicity: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_second(self) -> NDArray[np.int64]:
        """Atoms of the second element, (n,)."""
        return self.species.sum(axis=1, dtype=np.int64)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Configurations":
        """Some of them."""
        rows = np.asarray(rows, dtype=np.int64)
        return Configurations(
            tuple(self.ids[i] for i in rows),
            self.species[rows],
            self.energy[rows],
            self.charge[rows],
            self.moment[rows],
            self.converged[rows],
            self.residual[rows],
            tuple(self.orbit[i] for i in rows),
            self.multiplicity[rows],
        )


def formation_energy(energy: Float64, species: NDArray[np.uint8], pure_energies: Sequence[float]) -> Float64:
    """Total energy minus that of the atoms in their pure crystals, (n,) [eV a cell], in float64.

    Args:
        energy: total (n,) [eV].
        species: (n, n_sites).
        pure_energies: of elements 0 and 1 [eV/atom].
    """
    return energy - _pure(species, pure_energies)


def total_energy(formation: Float64, species: NDArray[np.uint8], pure_energies: Sequence[float]) -> Float64:
    """What ``formation_energy`` was formed of."""
    return formation + _pure(species, pure_energies)


def _pure(species: NDArray[np.uint8], pure_energies: Sequence[float]) -> Float64:
    n_second = species.sum(axis=1, dtype=np.int64)
    return pure_energies[0] * (species.shape[1] - n_second) + pure_energies[1] * n_second


def with_orbits(species: NDArray[np.uint8], lattice: Lattice) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The orbit of each configuration (n, n_sites): its key, and how many configurations are in it."""
    rows = lattice.permutations
    keys = tuple(f"{orbit_key(one, rows):x}" for one in species)
    # As many operations lead to each configuration of an orbit as leave the first one as it is.
    return keys, np.array([len(rows) // (one[rows] == one).all(axis=1).sum() for one in species], dtype=np.int64)


class AlloyData(Data):
    """A dataset of configurations, opened.

    Args:
        path: its folder.
        info: its dataset.json.
    """

    def __init__(self, path: Path, info: AlloyInfo) -> None:
        self.path, self.info = path, info

    @classmethod
    def open(cls, location: str | Path) -> "AlloyData":
        """The dataset in a folder.

        Raises:
            DatasetError: it is missing, damaged or of another kind.
        """
        if "://" in str(location):
            raise DatasetError(f"{location}: datasets of this kind are folders; copy it to one")
        path = Path(location).expanduser().resolve()
        try:
            info = AlloyInfo.model_validate_json(read_text(path / HEAD))
        except FileNotFoundError:
            raise DatasetError(
                f"{location}: not a dataset ({HEAD} is missing); make one with `dftune data import`"
            ) from None
        except ValidationError as error:
            raise DatasetError(f"{path / HEAD}: {one_line(error)}") from None
        return cls(path, info)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def location(self) -> str:
        return str(self.path)

    @property
    def fingerprint(self) -> str:
        """Hash of dataset.json, which has the checksum of the table; without the note on the source."""
        content = self.info.model_dump(mode="json", exclude={"source"})
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @cached_property
    def all(self) -> Configurations:
        """All configurations.  Raises DatasetError: the table is missing or damaged, or not of this lattice."""
        table = self._table()
        n = self.info.lattice.n_sites
        columns = {name: np.array(table[name].to_pylist()) for name in ("energy", "converged", "multiplicity")}
        by_site = dict[str, NDArray[Any]]()
        for name, dtype in (("species", np.uint8), ("charge", np.float64), ("moment", np.float64)):
            lists = table[name].to_pylist()
            if any(len(one) != n for one in lists):
                raise DatasetError(f"{self.path / ROWS}: '{name}' is not of {n} sites; import the dataset again")
            by_site[name] = np.array(lists, dtype=dtype).reshape(-1, n)
        if not len(table) or by_site["species"].max() > 1:
            raise DatasetError(f"{self.path / ROWS}: has no configurations of two elements; import the dataset again")
        numbers = [columns["energy"], by_site["charge"], by_site["moment"]]
        if not all(np.isfinite(some).all() for some in numbers):
            raise DatasetError(f"{self.path / ROWS}: has numbers that are not finite; import the dataset again")
        residual = np.array([np.nan if r is None else r for r in table["residual"].to_pylist()], dtype=np.float64)
        return Configurations(
            tuple(table["id"].to_pylist()),
            by_site["species"],
            columns["energy"],
            by_site["charge"],
            by_site["moment"],
            columns["converged"].astype(bool),
            residual,
            tuple(table["orbit"].to_pylist()),
            columns["multiplicity"].astype(np.int64),
        )

    def _bytes(self) -> bytes:
        """The file of the table, which is the one that dataset.json was written for."""
        path = self.path / ROWS
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            raise DatasetError(f"{path}: missing; import the dataset again") from None
        except OSError as error:
            raise unreadable(path, error) from error
        if hashlib.sha256(found).hexdigest() != self.info.table_sha256:
            raise DatasetError(f"{path}: its SHA-256 differs from that of {HEAD}; import the dataset again")
        return found

    def _table(self) -> pa.Table:
        path = self.path / ROWS
        try:
            table = read_table(BytesIO(self._bytes()))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: cannot be read ({one_line(error, 100)}); import the dataset again") from error
        if not table.schema.equals(TABLE):
            raise DatasetError(f"{path}: has other columns than a table of configurations; import the dataset again")
        return table

    def split(self, name: Split) -> Sequence[str]:
        """Ids of a split by the default settings; a study may choose others, see ``splits.SplitSettings``."""
        from .splits import SplitSettings, split_rows

        return [self.all.ids[i] for i in split_rows(self, SplitSettings())[name]]

    def verify(self) -> None:
        """Compare the table with its checksum.  Raises DatasetError: it differs."""
        self._bytes()

    @property
    def formation_energies(self) -> Float64:
        """Of all configurations (n,) [eV a cell]."""
        return formation_energy(self.all.energy, self.all.species, self.info.pure_energies)

    @property
    def net_charges(self) -> Float64:
        """Electrons in each site's cell minus the nuclear charge, (n, n_sites)."""
        return self.all.charge - self.info.numbers[self.all.species]

    @property
    def units(self) -> dict[str, str]:
        return {"formation_energy": "mRy/atom", "charge": "e", "moment": "mu_B", "largest_change": "eV"}

    def rows(self) -> list[dict[str, Any]]:
        """A row a composition: how many configurations and orbits, and the means of what is learnt."""
        n, found = self.info.lattice.n_sites, []
        energies, charges = self.formation_energies / n / MRY, self.net_charges
        for n_second in np.unique(self.all.n_second):
            here = self.all.n_second == n_second
            first = self.all.species[here] == 0
            found.append(
                {
                    self.info.symbols[1]: int(n_second),
                    "configurations": int(here.sum()),
                    "orbits": len({orbit for orbit, one in zip(self.all.orbit, here, strict=True) if one}),
                    "formation_energy": float(energies[here].mean()),
                    "charge": float(charges[here][first].mean()) if first.any() else None,
                    "moment": float(self.all.moment[here].mean()),
                }
            )
        return found

    def lines(self) -> list[str]:
        info = self.info
        unconverged = int((~self.all.converged).sum())
        return [
            f"{self.location}: {len(self.all)} configurations of {''.join(info.symbols)} on {info.lattice.n_sites} "
            f"sites, by {info.code}" + (f"; {unconverged} unconverged ones are not learnt from" if unconverged else ""),
            f"formation energy and moment are means, charge that of {info.symbols[0]} beyond its nuclear charge",
        ]

    def check(self) -> Iterator["ConfigurationCheck"]:
        """Compare the table with its checksum, and each row with what follows from its species and energy.

        Raises:
            DatasetError: the first that differs.
        """
        stored = np.array(self._table()["formation_energy"].to_pylist())
        keys, multiplicity = with_orbits(self.all.species, self.info.lattice)
        change = abs(stored - self.formation_energies)
        for i, name in enumerate(self.all.ids):
            if change[i] > 1e-6 or keys[i] != self.all.orbit[i] or multiplicity[i] != self.all.multiplicity[i]:
                raise DatasetError(f"{self.path / ROWS}: '{name}' has another formation energy or orbit; import again")
            yield ConfigurationCheck(name, int(multiplicity[i]), float(change[i]))

    def draw(self, path: Path) -> None:
        """Draw formation energies against composition."""
        from .data_figure import draw_data

        draw_data(self, path)


@dataclass(frozen=True)
class ConfigurationCheck:
    """A row that was checked; ``largest_change``: of its formation energy formed again [eV]."""

    id: str
    multiplicity: int
    largest_change: float


def write_dataset(
    destination: Path,
    configurations: Configurations,
    *,
    symbols: tuple[str, str],
    lattice: Lattice,
    pure_energies: tuple[float, float],
    code: str,
    settings: dict[str, Any],
    source: str,
) -> AlloyData:
    """Write a dataset, whole or not at all.

    Args:
        destination: a folder that does not exist.
        configurations: all of it.
        symbols, lattice, pure_energies, code, settings, source: as in ``AlloyInfo``.

    Raises:
        InputError: the place cannot be written.
    """
    c = configurations
    rows = {
        "id": list(c.ids),
        "species": c.species.tolist(),
        "energy": c.energy,
        "formation_energy": formation_energy(c.energy, c.species, pure_energies),
        "charge": c.charge.tolist(),
        "moment": c.moment.tolist(),
        "converged": c.converged,
        "residual": [None if np.isnan(r) else float(r) for r in c.residual],
        "orbit": list(c.orbit),
        "multiplicity": c.multiplicity,
    }
    with atomic(destination) as folder:
        folder.mkdir(parents=True)
        pq.write_table(pa.table(rows, schema=TABLE), folder / ROWS, write_page_checksum=True)
        info = AlloyInfo(
            symbols=symbols,
            lattice=lattice,
            pure_energies=pure_energies,
            code=code,
            settings=settings,
            source=source,
            table_sha256=sha256(folder / ROWS),
        )
        write_text(folder / HEAD, info.model_dump_json(indent=2) + "\n")
    return AlloyData.open(destination)
