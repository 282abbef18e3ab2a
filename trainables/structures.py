"""Atomic structures from users: read from files, and checked before anything is computed.  Lengths in Å."""

import re
from collections.abc import Collection
from pathlib import Path

import ase
import ase.io
import ase.io.formats
import numpy as np
from ase.data import atomic_numbers

from .cells import StructureError as StructureError
from .cells import check_cell
from .errors import TooLarge, one_line
from .near_atoms import closest

NEAREST_ATOMS = 1.0  # [Å]; LAMMPS' neighbour lists overflow far below
MOST_ATOMS = 100_000  # of one structure
NOT_FILES = {"db", "mysql", "postgresql", "bundletrajectory"}  # of ASE's formats; some reach for a server or unpickle


def read_structures(path: str | Path, frames: str = "-1") -> list[ase.Atoms]:
    """Configurations of a file that ASE reads.

    Args:
        path: the file; extended XYZ, POSCAR, CIF, ASE trajectory, output of most DFT codes, ...
        frames: which of them, as in Python: ``-1`` the last, ``:`` all, ``0:100:10`` every tenth of the first 100.

    Raises:
        StructureError: missing or unreadable, or without such frames.
    """
    path = Path(path)
    if not path.is_file():
        raise StructureError(f"{path}: no such file")
    try:
        index = ase.io.formats.string2index(frames)
        if isinstance(index, int):
            index = slice(index, index + 1 or None)  # empty, and not another frame, where there are fewer
        if not isinstance(index, slice):
            raise ValueError(frames)
    except (ValueError, TypeError):
        raise StructureError(f"frames '{frames}': give a number as -1, or a range as : or 0:100:10") from None
    try:
        kind = ase.io.formats.filetype(str(path))
        found = [] if kind in NOT_FILES else ase.io.read(path, index, kind, do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's hundred readers raise whatever their parsing runs into
        raise StructureError(f"{path}: ASE cannot read it: {one_line(error) or type(error).__name__}") from error
    if kind in NOT_FILES:
        raise StructureError(f"{path}: {kind} is not read, for safety; convert it to extended XYZ or CIF")
    if not found:
        raise StructureError(f"{path}: has no frame {frames}")
    return list(found)


def read_extended_xyz(text: str) -> ase.Atoms:
    """The one configuration of an extended XYZ text, from whoever sends it: species and positions, nothing else.

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
    lattice = re.search(r"""\bLattice\s*=\s*["']([^"']*)["']""", about, re.IGNORECASE)
    named = re.search(r"""\bProperties\s*=\s*["']?([^\s"']+)""", about, re.IGNORECASE)
    try:
        cell = np.array((lattice[1] if lattice else "").split(), dtype=float).reshape(3, 3)
    except ValueError:
        raise StructureError('the second line has no Lattice="..." of nine numbers; the cell is needed') from None
    fields = (named[1] if named else "species:S:1:pos:R:3").split(":")
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
    except (ValueError, KeyError, IndexError) as error:
        raise StructureError(f"an atom that is none: {one_line(error)}") from None
    return ase.Atoms(numbers, positions, cell=cell, pbc=True)


def check_structure(atoms: ase.Atoms, species: Collection[str]) -> None:
    """Refuse what cannot be predicted, but for atoms on top of each other (``check_distances``).

    Args:
        atoms: the structure.
        species: chemical symbols that the model knows.

    Raises:
        StructureError: no atoms, not finite, not periodic, or of other species.
        TooLarge: too many atoms.
    """
    if not atoms.pbc.all():
        raise StructureError("the structure is not periodic in three dimensions; give it a cell")
    if len(atoms) > MOST_ATOMS:
        raise TooLarge(f"the structure has {len(atoms):,} atoms, more than {MOST_ATOMS:,}; use a smaller one")
    check_cell(np.array(atoms.cell), atoms.positions)
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
