"""Importers of configurations on a lattice: runs of LSMS, tables, and folders of text as HydraGNN reads them.

Files have Ry, bohr; what is handed on has eV, Å.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.data import atomic_numbers

from ..cells import StructureError, check_cell
from ..data.table import read_table
from ..errors import DatasetError, InputError, one_line
from ..files import read_text
from ..physics.units import BOHR, RYDBERG
from ..structures import read_structures
from .lattice import Lattice
from .lsms import CONVERGED, RESULT, read_lsms, results_in
from .planning import FoundAlloy, FoundConfiguration, Report

SAID = ("symbols", "code", "pure_energies_Ry")  # in the metadata of a table
NEEDED = {"species", "energy", "charge", "moment"}  # columns of a table
LATTICE = (
    "nothing says where the sites are; add a structure file of the cell (extended XYZ, POSCAR, ...) to the sources, "
    "its atoms in the order of the sites"
)


def _lattice_of(sources: Sequence[Path], own: Sequence[Path], wanted: str | None = LATTICE) -> Lattice | None:
    """The lattice of the one structure file among the sources."""
    others = [path for path in sources if path not in own]
    if not others and wanted is not None:
        raise DatasetError(f"{own[0]}: {wanted}")
    if len(others) > 1:
        raise DatasetError(f"{others[1]}: one structure file says the lattice, and {others[0]} is one already")
    return read_lattice(others[0]) if others else None


def read_lattice(path: Path) -> Lattice:
    """The lattice that the atoms of a structure file are on.  Raises InputError: it has none."""
    atoms = read_structures(path)[-1]
    try:
        check_cell(np.array(atoms.cell), atoms.positions)
        lattice = Lattice.of(atoms)
    except StructureError as error:
        raise DatasetError(f"{path}: {error}") from None
    if not all(atoms.pbc):
        raise DatasetError(f"{path}: the structure is not periodic in three dimensions; say so in its pbc")
    if len(lattice.permutations) == 1 < lattice.n_sites:
        raise DatasetError(f"{path}: its sites have no symmetry; give a structure whose atoms are on their ideal sites")
    return lattice


class _Importer(ABC):
    """What all of them share."""

    name = about = ""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether it reads this."""

    def _own(self, sources: Sequence[Path]) -> list[Path]:
        if missing := [path for path in sources if not path.exists()]:
            raise DatasetError(f"{missing[0]}: missing")
        own = [path for path in sources if self.recognises(path)]
        if not own:
            raise DatasetError(f"{sources[0]}: is none of {self.about}")
        return own

    def _refuse_told(self, told: Any) -> None:
        given = [name for name, value in vars(told).items() if value is not None]
        if given:
            raise DatasetError(f"--{given[0]} is for other data than configurations on a lattice; leave it out")


class LsmsImporter(_Importer):
    """Folders of LSMS runs.  The lattice is that of a structure file among the sources, or of the first run."""

    name = "lsms"
    about = f"folders of LSMS runs, each with {RESULT}, i_lsms and k.out"

    def recognises(self, path: Path) -> bool:
        return path.is_dir() and bool(results_in(path))

    def read(self, sources: Sequence[Path], *, told: Any, report: Report) -> FoundAlloy:
        """Find all runs.  Raises DatasetError: a file is missing or damaged, or the runs do not belong together."""
        self._refuse_told(told)
        own = self._own(sources)
        lattice = _lattice_of(sources, own, wanted=None)
        found = []
        for folder in own:
            for path in results_in(folder):
                run = read_lsms(path, None if lattice is None else lattice.atoms(["X"] * lattice.n_sites).cell.array)
                lattice = lattice or Lattice.of(run.atoms)
                name = path.relative_to(folder).as_posix().removesuffix(RESULT).strip("/_") or folder.name
                found.append(
                    FoundConfiguration(
                        name,
                        str(path),
                        run.atoms.numbers,
                        run.energy,
                        run.charge,
                        run.moment,
                        run.converged,
                        run.residual,
                        run.atoms,
                    )
                )
        assert lattice is not None
        return FoundAlloy(found, lattice, code="lsms", source=f"LSMS runs of {own[0].name}")


class TableImporter(_Importer):
    """Parquet tables of one alloy, and a structure file whose atoms are the sites.

    Columns: ``species`` (0 or 1 by site), ``energy`` [Ry a cell], ``charge`` (electrons in each site's cell),
    ``moment`` [μ_B]; ``converged`` or ``rms``; ``id``, ``config_id`` or ``key``; ``code``.  Schema metadata:
    ``symbols``, "Cu,Au"; ``code``; ``pure_energies_Ry``, JSON, of a cell of each element.  Other columns are not read.
    """

    name = "alloy-table"
    about = "Parquet tables of configurations (species, energy, charge, moment), with a structure file of the sites"

    def recognises(self, path: Path) -> bool:
        if path.suffix != ".parquet" or not path.is_file():
            return False
        try:
            return "species" in pq.read_schema(path).names
        except (OSError, pa.ArrowException):
            return True  # what is wrong with it is said where it is read

    def read(self, sources: Sequence[Path], *, told: Any, report: Report) -> FoundAlloy:
        """Read all tables.  Raises DatasetError: columns or the lattice are missing, or codes are mixed."""
        self._refuse_told(told)
        own = self._own(sources)
        lattice = _lattice_of(sources, own)
        assert lattice is not None
        said: dict[str, tuple[str, Path]] = {}
        found: list[FoundConfiguration] = []
        for path in own:
            table = _table(path)
            metadata = table.schema.metadata or {}
            try:
                about = {name: metadata[name.encode()].decode() for name in SAID if name.encode() in metadata}
            except UnicodeDecodeError:
                raise DatasetError(
                    f"{path}: its schema metadata are no text; write {', '.join(SAID)} as UTF-8"
                ) from None
            codes = set(table["code"].to_pylist()) if "code" in table.column_names else set()
            if not all(isinstance(code, str) for code in codes):
                raise DatasetError(f"{path}: a row does not say its 'code'; fill in all of it")
            if len(codes | ({about["code"]} if "code" in about else set())) > 1:
                raise DatasetError(f"{path}: mixes codes ({', '.join(sorted(codes))}); import the rows of each apart")
            if codes:
                about["code"] = codes.pop()
            for name, text in about.items():
                if said.setdefault(name, (text, path))[0] != text:
                    raise DatasetError(
                        f"{path}: its {name} is {text}, and {said[name][0]} in {said[name][1]}; a dataset has one"
                    )
            if "symbols" not in said or "code" not in said:
                missing = "symbols" if "symbols" not in said else "code"
                raise DatasetError(f"{path}: its schema metadata do not say '{missing}'; write it there")
            symbols = _symbols(said["symbols"][0], path)
            found += _rows(path, table, symbols, lattice, several=len(own) > 1)
        pure = _pure(said["pure_energies_Ry"], lattice.n_sites) if "pure_energies_Ry" in said else None
        names = ", ".join(path.name for path in own)
        return FoundAlloy(found, lattice, said["code"][0], f"table {names}", symbols, pure)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_list(kind: pa.DataType) -> bool:
    lists = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return any(one(kind) for one in lists) and (pa.types.is_null(kind.value_type) or _is_number(kind.value_type))


TYPES: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "species": (_is_list, "0 or 1 for each site"),
    "charge": (_is_list, "a number for each site"),
    "moment": (_is_list, "a number for each site"),
    "energy": (_is_number, "a number"),
    "rms": (_is_number, "a number"),
    "converged": (pa.types.is_boolean, "true or false"),
}


def _table(path: Path) -> pa.Table:
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: no readable Parquet table ({one_line(error, 100)}); copy it again") from error
    if missing := sorted(NEEDED - set(table.column_names)):
        raise DatasetError(f"{path}: has no column '{missing[0]}'; it has {', '.join(table.column_names)}")
    if not {"converged", "rms"} & set(table.column_names):
        raise DatasetError(f"{path}: has neither 'converged' nor 'rms', so nothing says which rows have converged")
    for name, (fits, what) in TYPES.items():
        if name in table.column_names and not (pa.types.is_null(kind := table[name].type) or fits(kind)):
            raise DatasetError(f"{path}: its column '{name}' holds {kind}, and {what} is needed")
    return table


def _symbols(text: str, path: Path) -> tuple[str, str]:
    parts = tuple(part.strip() for part in text.split(","))
    if len(set(parts)) != 2 or len(parts) != 2 or not set(parts) <= set(atomic_numbers) - {"X"}:
        raise DatasetError(f"{path}: symbols are {text[:50]!r}, and two elements are needed, such as 'Cu,Au'")
    return parts[0], parts[1]


def _pure(said: tuple[str, Path], n_sites: int) -> tuple[float, float]:
    try:
        first, second = (float(energy) * RYDBERG / n_sites for energy in json.loads(said[0]))
    except (ValueError, TypeError):
        raise DatasetError(f"{said[1]}: pure_energies_Ry are {said[0][:50]!r}, and two numbers are needed") from None
    return first, second


def _rows(
    path: Path, table: pa.Table, symbols: tuple[str, str], lattice: Lattice, *, several: bool
) -> list[FoundConfiguration]:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    names = next((columns[name] for name in ("id", "config_id", "key") if name in columns), range(len(table)))
    residuals = columns.get("rms", [None] * len(table))
    if any(r is not None and r < 0 for r in residuals):
        raise DatasetError(f"{path}: 'rms' is below 0 in a row, and it is a residual; mend it")
    converged = columns.get("converged", [None if r is None else r <= CONVERGED for r in residuals])
    numbers, found = np.array([atomic_numbers[s] for s in symbols]), []
    for row, name in enumerate(names):
        where = f"{path}, row {row}"
        try:
            species = np.array(columns["species"][row], dtype=np.int64)
            if (species != np.array(columns["species"][row])).any():
                raise ValueError("species are no whole numbers")
            charge, moment = (np.array(columns[name][row], dtype=np.float64) for name in ("charge", "moment"))
            energy = float(columns["energy"][row]) * RYDBERG
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{where}: {one_line(error, 100)}; fill in all of it") from None
        if species.min(initial=0) < 0 or species.max(initial=0) > 1:
            raise DatasetError(f"{where}: species are 0 or 1, and {species.max()} is there; an alloy has two elements")
        if {len(species), len(charge), len(moment)} != {lattice.n_sites}:
            raise DatasetError(
                f"{where}: {len(species)} species, {len(charge)} charges and {len(moment)} moments, and the lattice "
                f"has {lattice.n_sites} sites"
            )
        label = f"{path.stem}/{name}" if several else str(name)
        found.append(
            FoundConfiguration(label, where, numbers[species], energy, charge, moment, converged[row], residuals[row])
        )
    return found


class HydraGnnImporter(_Importer):
    """Folders of text files, a configuration each, as the public LSMS sets for HydraGNN have them.

    First line: the total energy [Ry], then whatever.  A line an atom: Z, index, x, y, z [bohr], electrons in the atom's
    cell, moment [μ_B], then whatever; or just the six numbers Z, x, y, z, electrons, moment.  The files have no cell,
    so a structure file says it; they do not say whether a run converged, either.  The sets hold converged ones only.
    """

    name = "hydragnn"
    about = (
        "folders of text files of one configuration each (energy; Z, index, x, y, z, electrons, moment), with a cell"
    )

    def recognises(self, path: Path) -> bool:
        if not path.is_dir() or results_in(path):
            return False
        first = next(iter(_text_files(path)), None)
        if first is None:
            return False
        try:
            with first.open() as stream:
                head = [stream.readline(10_000) for _ in range(2)]
            return len(_floats(head[0])) >= 1 and len(_floats(head[1])) >= 6
        except (OSError, ValueError):
            return False

    def read(self, sources: Sequence[Path], *, told: Any, report: Report) -> FoundAlloy:
        """Read all files.  Raises DatasetError: one is truncated or of another layout, or there is no cell."""
        self._refuse_told(told)
        own = self._own(sources)
        lattice = _lattice_of(sources, own)
        assert lattice is not None
        cell = np.array(lattice.cell)
        found = []
        for folder in own:
            for path in _text_files(folder):
                energy, rows = _read_text(path)
                atoms = ase.Atoms(rows[:, 0].astype(int), positions=rows[:, 1:4] * BOHR, cell=cell, pbc=True)
                name = path.relative_to(folder).as_posix()
                found.append(
                    FoundConfiguration(
                        name, str(path), atoms.numbers, energy * RYDBERG, rows[:, 4], rows[:, 5], True, atoms=atoms
                    )
                )
        report("these files do not say whether a run has converged; all are taken as converged")
        return FoundAlloy(found, lattice, code="lsms", source=f"text files of {own[0].name}")


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _floats(line: str) -> list[float]:
    return [float(part) for part in line.split()]


def _read_text(path: Path) -> tuple[float, np.ndarray]:
    """Energy [Ry], and Z, x, y, z [bohr], electrons, moment of each atom, (n_atoms, 6)."""
    try:
        lines = read_text(path).splitlines()
    except InputError as error:
        raise DatasetError(str(error)) from None
    rows, number = list[list[float]](), 1
    try:
        energy = _floats(lines[0])[0]
        for line in lines[1:]:
            number += 1
            if not line.strip():
                continue
            values = _floats(line)
            if len(values) < 6:
                raise ValueError(f"{len(values)} columns")
            rows.append(values if len(values) == 6 else [values[0], *values[2:7]])
            if not (values[0].is_integer() and 1 <= values[0] <= 118):
                raise ValueError(f"no element has the atomic number {values[0]:g}")
        if not rows:
            raise ValueError("no atoms")
    except (ValueError, IndexError) as error:
        raise DatasetError(
            f"{path}, line {number}: {one_line(error, 80)}; a file has the energy, then a line an atom"
        ) from None
    return energy, np.array(rows)


IMPORTERS = (LsmsImporter(), TableImporter(), HydraGnnImporter())
