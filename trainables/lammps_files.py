"""Data and dump files of LAMMPS.  Their atoms have types, which are no elements, and units that a file may not say.

Lengths in Å.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from .cells import StructureError

DATA, DUMP = "lammps-data", "lammps-dump-text"  # as ASE calls them
UNITS = ("real", "metal", "si", "cgs", "electron", "micro", "nano")  # of LAMMPS; in lj nothing is in Å
SURE = 0.1  # [u] that a mass may be off its element's: cobalt and nickel are 0.24 apart
_UNITS_OF_DATA = re.compile(r"\bunits\s*=\s*(\w+)")
_UNITS_OF_DUMP = re.compile(r"^ITEM: UNITS\s*\n\s*(\w+)", re.MULTILINE)
_COLUMNS = re.compile(r"^ITEM: ATOMS (.*)$", re.MULTILINE)
HEAD = 20_000  # characters of a file that say what it is


def format_of(head: str) -> str | None:
    """The format of a file of LAMMPS by its beginning, None of any other."""
    if re.match(r"ITEM: (UNITS|TIME|TIMESTEP)\b", head):
        return DUMP
    bounds = all(re.search(rf"^[^#\n]*\b{x}lo\s+{x}hi\b", head, re.MULTILINE) for x in "xyz")
    general = re.search(r"^[^#\n]*\bavec\b", head, re.MULTILINE)
    return DATA if re.search(r"^\s*\d+\s+atoms\b", head, re.MULTILINE) and (bounds or general) else None


def read_lammps(path: Path, form: str, index: slice, head: str, types: Sequence[str]) -> list[ase.Atoms]:
    """Configurations of a data or dump file.

    Args:
        path: the file.
        form: DATA or DUMP.
        index: which configurations.
        head: the beginning of the file.
        types: chemical symbols of the types 1, 2, ...; empty where the file says the elements or their masses.

    Raises:
        StructureError: nothing says which elements the types are, or what the units are in Å.
    """
    said = (_UNITS_OF_DATA if form == DATA else _UNITS_OF_DUMP).search(head.split("\n", 1)[0] if form == DATA else head)
    units = said[1] if said else "metal"  # real has Å, too
    if units not in UNITS:
        raise StructureError(f"in {units} units, which nobody can convert to Å; write it in metal or real units")
    if unknown := next((name for name in types if name not in chemical_symbols[1:]), None):
        raise StructureError(f"types: {unknown!r} is no chemical symbol")
    if form == DATA:
        numbers = dict(enumerate(map(atomic_numbers.__getitem__, types), 1)) or _labelled(head)
        try:
            # Sorted by ASE, the elements of type labels would stay in the order of the file.
            found = ase.io.read(path, index, form, Z_of_type=numbers or None, units=units, sort_by_id=False)
        except KeyError as error:
            if types and error.args[0] not in numbers:
                raise _too_few(error.args[0], types) from None
            raise
        return [_checked(atoms, bool(numbers)) for atoms in found]
    columns = columns[1].split() if (columns := _COLUMNS.search(head)) else []
    named = {"element", "mass"} & set(columns)
    if named and types:
        raise StructureError(f"its column {min(named)} says the elements already; leave types out")
    if not named and not types:
        raise _nameless()
    try:
        return list(ase.io.read(path, index, form, specorder=list(types) or None, units=units))
    except IndexError as error:
        raise _too_few("above", types) from error


def _labelled(head: str) -> dict[int, int]:
    """Type -> atomic number, of a data file whose types have the names of elements."""
    section = re.search(r"^[ \t]*Atom Type Labels[^\n]*\n\s*((?:[ \t]*\d+[ \t]+\S+[^\n]*\n)+)", head, re.MULTILINE)
    rows = [line.split()[:2] for line in section[1].splitlines()] if section else []
    named = {int(number): atomic_numbers.get(name, 0) for number, name in rows}
    return named if all(named.values()) else {}


def _checked(atoms: ase.Atoms, given: bool) -> ase.Atoms:
    """Atoms of a data file in the order of their ids.  Raises StructureError: its masses are of no element."""
    if not given:
        if "masses" not in atoms.arrays:
            raise _nameless()
        off = np.abs(atomic_masses[atoms.numbers] - atoms.arrays["masses"])
        if not (off < SURE).all():
            mass = atoms.arrays["masses"][int(np.argmax(off))]
            raise StructureError(
                f"a mass of {mass:g} u is of no element; say the elements of types 1, 2, ... in order, as in "
                "--types Al,Cu"
            )
    return atoms[np.argsort(atoms.arrays["id"], kind="stable")]


def _nameless() -> StructureError:
    return StructureError(
        "LAMMPS' types are no elements, and nothing else in the file says them; give those of types 1, 2, ... in "
        "order, as in --types Al,Cu"
    )


def _too_few(number: object, types: Sequence[str]) -> StructureError:
    return StructureError(f"has an atom of type {number}, but types gives {len(types)} elements: {', '.join(types)}")
