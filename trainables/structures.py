"""Atomic structures from users: read from files, and checked before anything is computed.  Lengths in Å."""

import codecs
import os
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase
import ase.io
import ase.io.formats
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.io.extxyz import key_val_str_to_dict
from numpy.typing import NDArray

from .cells import StructureError as StructureError
from .cells import check_cell
from .errors import TooLarge, did_you_mean, one_line
from .lammps_files import DATA, DUMP, HEAD, format_of, read_lammps
from .near_atoms import closest
from .temporary import temporary_folder

NEUTRAL = 0.01  # [e]; charges of atoms in files are rounded
NEAREST_ATOMS = 1.0  # [Å]; LAMMPS' neighbour lists overflow far below
MOST_ATOMS = 100_000  # of one structure
LONGEST_LINE = 100_000  # characters of the second line of an extended XYZ, which ASE takes apart one by one
BESIDE = ("occupancy", "initial_charges", "initial_magmoms")  # columns of extended XYZ that are read with the atoms
XYZ = {"xyz", "extxyz"}  # names of ASE's formats
NOT_FILES = {"db", "mysql", "postgresql", "bundletrajectory"}  # of ASE's formats; some reach for a server or unpickle


def is_configuration(text: str) -> bool:
    """Whether a text is no path, but the elements on the sites of a lattice, as 'Cu Au Au ...' or '011...'."""
    first, *_ = text.replace(",", " ").split() or [""]
    named = first in chemical_symbols[1:] or first.isdecimal()  # a wrong digit is named, not looked for as a file
    return named and not os.path.exists(text)  # Path.exists raises for a name that is too long


def read_structures(
    path: str | Path, frames: str = "-1", *, format: str | None = None, types: Sequence[str] = ()
) -> list[ase.Atoms]:
    """Configurations of a file that ASE reads.

    Args:
        path: the file; extended XYZ, POSCAR, CIF, ASE trajectory, LAMMPS data and dump, output of most DFT codes, ...
        frames: which of them, as in Python: ``-1`` the last, ``:`` all, ``0:100:10`` every tenth of the first 100.
        format: ASE's name of the format; by default what name and content say.
        types: chemical symbols of LAMMPS' types 1, 2, ..., where a file of LAMMPS does not say them.

    Raises:
        StructureError: missing or unreadable, or without such frames.
    """
    path, index = Path(path), _index(frames)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise StructureError(f"{path}: no such file")
    if format is not None and format not in ase.io.formats.ioformats:
        raise StructureError(f"ASE has no format '{format}'; {did_you_mean(format, ase.io.formats.ioformats)}")
    with _without_mark(path) as readable:
        found = _read(readable, path, index, format, types)
    if not found:
        raise StructureError(f"{path}: has no frame {frames}")
    return found


def _index(frames: str) -> slice:
    """The range of frames that a text says.  Raises StructureError: none."""
    try:
        index = ase.io.formats.string2index(frames)
        if isinstance(index, int):
            index = slice(index, index + 1 or None)  # empty, and not another frame, where there are fewer
        if not isinstance(index, slice) or index.step == 0:
            raise ValueError(frames)
    except (ValueError, TypeError):
        raise StructureError(f"frames '{frames}': give a number as -1, or a range as : or 0:100:10") from None
    return index


def _read(file: Path, path: Path, index: slice, form: str | None, types: Sequence[str]) -> list[ase.Atoms]:
    """``read_structures`` from ``file``, which is ``path`` to people."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD).decode("utf-8", errors="replace").replace("\r\n", "\n")
        form = form or format_of(head) or ase.io.formats.filetype(str(file))
        if form not in NOT_FILES:
            single = ase.io.formats.ioformats[form].single
            wanted = slice(-1, None) if single else index  # ASE reads the one structure by this index alone
            if form in (DATA, DUMP):
                found = read_lammps(file, form, wanted, head, types)
            elif types:
                raise StructureError(f"types are for LAMMPS' files, and this is one of {form}; leave them out")
            else:
                if form in XYZ:
                    _check_xyz(file)
                elif form == "res":
                    _check_res(file.read_text(errors="replace"))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # what ASE means to change is for its programmers
                    found = ase.io.read(file, wanted, form, do_not_split_by_at_sign=True)
            return list(found)[index] if single else list(found)
    except StructureError as error:
        raise StructureError(f"{path}: {error}") from None
    except Exception as error:  # ASE's hundred readers raise whatever their parsing runs into
        named = f" as {form}" if form else ""
        raise StructureError(
            f"{path}: ASE cannot read it{named}: {one_line(error, 300) or type(error).__name__}; if it is of another "
            "format, name it with --format"
        ) from error
    raise StructureError(f"{path}: {form} is not read, for safety; convert it to extended XYZ or CIF")


def _check_xyz(file: Path) -> None:
    """Raise StructureError if a frame says more atoms than lines follow, over which ASE would read for ever.

    Nor may readers disagree on what a second line says.
    """
    header, n_atoms, number = 0, 0, -1
    with file.open("rb") as stream:
        for number, line in enumerate(stream):
            if number == header:
                if not line.strip().isdigit():
                    return  # the end, or an error that ASE finds
                n_atoms = int(line)
                header = number + n_atoms + 2
            elif number == header - n_atoms - 1:
                _check_second_line(line.decode("utf-8", errors="replace"))
    if header > number + 1:
        raise StructureError(f"its last frame says {n_atoms} atoms, but the file ends before them")


@contextmanager
def _without_mark(path: Path) -> Iterator[Path]:
    """A file without the byte-order mark that some editors set before it, and ASE's readers stumble over."""
    try:
        with path.open("rb") as stream:
            marked = stream.read(3) == codecs.BOM_UTF8
        if not marked:
            yield path
            return
        with temporary_folder("structure") as folder:
            copy = folder / path.name
            copy.write_bytes(path.read_bytes().removeprefix(codecs.BOM_UTF8))
            yield copy
    except OSError as error:
        raise StructureError(f"{path}: cannot be read ({error.strerror})") from error


def as_atoms(structure: object) -> ase.Atoms:
    """ASE's atoms of a structure that a caller gives: themselves, or what ``Atoms.todict()`` makes of them.

    Raises:
        StructureError: it is neither.
    """
    if isinstance(structure, ase.Atoms):
        return structure
    if not isinstance(structure, Mapping):
        raise StructureError(
            f"a structure is a file, ASE's atoms or their todict(), not {type(structure).__name__}; "
            "pymatgen's structures have to_ase_atoms()"
        )
    try:
        return ase.Atoms.fromdict(dict(structure))
    except Exception as error:  # whatever stands in it
        raise StructureError(f"not what Atoms.todict() makes: {one_line(error, 200)}") from error


def read_extended_xyz(text: str) -> ase.Atoms:
    """The one configuration of an extended XYZ text, from whoever sends it.

    Species, positions, and what a prediction refuses or warns of; nothing else.

    ASE's reader takes as much memory as the text tells it to.

    Raises:
        StructureError: not such a text, or more than one configuration.
    """
    lines = text.splitlines()
    if len(lines) < 2 or not re.fullmatch(r"\s*\d{1,9}\s*", lines[0]):
        raise StructureError('extended XYZ begins with the number of atoms on a line and a line with Lattice="..."')
    n_atoms, about = int(lines[0]), lines[1]
    rows, rest = lines[2 : 2 + n_atoms], lines[2 + n_atoms :]
    if len(rows) < n_atoms or any(line.strip() for line in rest):
        raise StructureError(f"the first line says {n_atoms} atoms, but {len(lines) - 2} lines follow; give one frame")
    info = _second_line(about)
    cell, pbc, named = info.pop("Lattice", None), info.pop("pbc", True), info.pop("Properties", None)
    if cell is None:
        raise StructureError('the second line has no Lattice="..." of nine numbers; the cell is needed')
    fields = str(named or "species:S:1:pos:R:3").split(":")
    columns, column = {}, 0
    for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if not re.fullmatch(r"\d{1,3}", count):
            raise StructureError(f"Properties of extended XYZ give {name[:20]} {count[:20]} columns; 999 at most")
        columns[f"{name}:{kind}:{count}"] = column
        column += int(count)
    if not {"species:S:1", "pos:R:3"} <= set(columns):
        raise StructureError("Properties of extended XYZ must hold species:S:1 and pos:R:3")
    species, first = columns["species:S:1"], columns["pos:R:3"]
    words = [line.split() for line in rows]
    for number, row in enumerate(words, 3):
        if len(row) != column:
            raise StructureError(f"line {number} has {len(row)} columns; its Properties say {column}")
    try:
        positions = np.array([row[first : first + 3] for row in words], dtype=float).reshape(-1, 3)
        numbers = [atomic_numbers[row[species]] for row in words]
        beside = {}
        for field, at in columns.items():
            name, _, count = field.split(":")
            if name in BESIDE and count in ("1", "3"):
                beside[name] = np.array([row[at : at + int(count)] for row in words], dtype=float)
    except (ValueError, KeyError, IndexError) as error:
        raise StructureError(f"an atom that is none: {one_line(error)}") from None
    atoms = ase.Atoms(numbers, positions, cell=cell.T, pbc=_periodic(pbc), info=info)
    for name, values in beside.items():
        atoms.set_array(name, values[:, 0] if values.shape[1:] == (1,) else values)
    return atoms


def _second_line(about: str) -> dict[str, Any]:
    """What the second line of an extended XYZ says, as ASE reads it.  Raises StructureError."""
    if len(about) > LONGEST_LINE:
        raise StructureError(f"the second line has {len(about):,} characters, more than {LONGEST_LINE:,}")
    _check_second_line(about)
    try:
        return key_val_str_to_dict(about)
    except Exception as error:  # whatever its parser runs into
        raise StructureError(f"the second line of extended XYZ: {one_line(error, 200)}") from error


def _check_second_line(about: str) -> None:
    """Raise StructureError where readers of extended XYZ would not agree on cell and periodicity."""
    said = re.findall(r"\b(Lattice|Properties|[pP][bB][cC])\s*=", about)
    if twice := sorted({key for key in said if said.count(key) > 1}):
        raise StructureError(f"the second line says {twice[0]} twice; leave one of them")
    if other := [key for key in said if key.lower() == "pbc" != key]:
        raise StructureError(f"the second line says {other[0]}, which extended XYZ spells pbc")


def _periodic(pbc: object) -> list[bool]:
    """Along which vectors a structure is periodic, of the value of ``pbc``: one or three truth values."""
    values = np.atleast_1d(np.asarray(pbc))
    if values.dtype.kind not in "bi" or values.shape not in ((1,), (3,)) or not np.isin(values, (0, 1)).all():
        raise StructureError('pbc of extended XYZ is as in pbc="T T T"')
    return np.broadcast_to(values.astype(bool), 3).tolist()


def check_structure(atoms: ase.Atoms, species: Collection[str]) -> None:
    """Refuse what cannot be predicted, but for atoms on top of each other (``check_distances``).

    Args:
        atoms: the structure.
        species: chemical symbols that the model knows.

    Raises:
        StructureError: no atoms, not finite, not periodic, charged, of other species, or with partly occupied sites.
        TooLarge: too many atoms.
    """
    if not atoms.pbc.all():
        raise StructureError("the structure is not periodic in three dimensions; give it a cell")
    if len(atoms) > MOST_ATOMS:
        raise TooLarge(f"the structure has {len(atoms):,} atoms, more than {MOST_ATOMS:,}; use a smaller one")
    check_cell(np.array(atoms.cell), atoms.positions)
    if not ((atoms.numbers >= 0) & (atoms.numbers < len(chemical_symbols))).all():
        raise StructureError(f"atomic numbers are 1 to {len(chemical_symbols) - 1}; the file is damaged")
    _refuse_partly_occupied(atoms)
    _refuse_charged(atoms)
    if unknown := sorted(set(atoms.get_chemical_symbols()) - set(species)):
        raise StructureError(f"the model knows {', '.join(species)} but not {', '.join(unknown)}")


def check_distances(atoms: ase.Atoms) -> None:
    """Refuse atoms on top of each other.  It takes the longest of all checks, a second for 300,000 atoms.

    Raises:
        StructureError: two atoms, or images of one, closer than ``NEAREST_ATOMS``.
    """
    distance = closest(np.array(atoms.cell), atoms.positions, NEAREST_ATOMS)
    if distance is not None:
        raise StructureError(
            f"two atoms, or images of one, are {distance:.2f} Å apart, closer than {NEAREST_ATOMS:g} Å; "
            "check positions and cell"
        )


def left_out(atoms: ase.Atoms) -> list[str]:
    """What a structure says that a prediction of electrons, neutral and unpolarised, leaves out, a sentence each."""
    found = []
    if _any(atoms.get_initial_magnetic_moments()):
        found.append("the structure has magnetic moments, and the prediction none: it is without spin polarisation")
    if _any(atoms.get_initial_charges()):
        found.append("the structure has charges of its atoms; the prediction does not depend on them")
    return found


def _any(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "fi" and bool(values.any())


def _refuse_charged(atoms: ase.Atoms) -> None:
    """Raise StructureError if the cell is charged: by ``charge`` of its info, else by the sum of initial charges."""
    said = atoms.info.get("charge")
    try:
        charge = float(atoms.get_initial_charges().sum() if said is None else said)
    except (TypeError, ValueError, OverflowError):
        raise StructureError(f"its total charge is no number: {one_line(said, 50)}; take it out") from None
    if not abs(charge) <= NEUTRAL:
        raise StructureError(f"the structure has a total charge of {charge:g} e, and only neutral cells are predicted")


def _refuse_partly_occupied(atoms: ase.Atoms) -> None:
    """Raise StructureError if a site is not taken by one atom: ASE keeps the occupancies of a CIF or PDB aside."""
    sites = atoms.info.get("occupancy")
    for site, occupants in sites.items() if isinstance(sites, Mapping) else ():
        if isinstance(occupants, Mapping) and (len(occupants) != 1 or not all(map(_whole, occupants.values()))):
            said = ", ".join(f"{symbol} {_short(share)}" for symbol, share in occupants.items())
            raise _partly(int(site) + 1 if str(site).isdigit() else site, said)
    for shares in (atoms.arrays.get("occupancy"), atoms.arrays.get("occupancies")):
        if shares is not None and shares.dtype.kind in "fi" and shares.any():  # some programs write 0 for all
            shares = shares.reshape(len(atoms), -1)[:, 0]
            for number in np.flatnonzero(~(np.abs(shares - 1) < 1e-3))[:1]:
                raise _partly(number + 1, f"{atoms.get_chemical_symbols()[number]} {shares[number]:g}")


def _short(share: object) -> str:
    """An occupancy in the same words whoever has read it: ASE gives 0.0 where a request has 0."""
    return f"{share:g}" if isinstance(share, int | float) else str(share)


def _whole(share: object) -> bool:
    """Whether a CIF's occupancy is that of one atom, as it is by CIF's dictionary where nothing is known."""
    return abs(share - 1) <= 1e-3 if isinstance(share, int | float) else share in ("?", ".")


def _check_res(text: str) -> None:
    """Raise StructureError if a site of a SHELX file is partly occupied; 10 more say that it is not refined."""
    site = re.compile(r"(\w+)\s+\d+(?:\s+[-+\d.]+){3}\s+([\d.]+)(?:\s.*)?")
    found = [match for line in text.splitlines() if (match := site.fullmatch(line.strip()))]
    for number, (label, occupancy) in enumerate((match.groups() for match in found), 1):
        share = float(occupancy) % 10
        if abs(share - 1) > 1e-3:
            raise _partly(number, f"{label.rstrip('0123456789')} {share:g}")


def _partly(site: object, said: str) -> StructureError:
    return StructureError(f"site {site} is partly occupied: {said}; give a cell with whole atoms")
