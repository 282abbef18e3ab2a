"""What every snapshot must be, whether an importer found it or a table holds it.  Lengths in Å."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ..cells import StructureError, check_cell
from ..errors import DatasetError
from .snapshot import ENERGIES, SPLITS, Snapshot

FORBIDDEN = set("/\\,")  # in ids: they name files, and commas part them on the command line
HOTTEST = 1e9  # [K]
LARGEST_FORCE = 1e4  # [eV/Å]; 10,000 times that of a hot crystal
LARGEST_STRESS = 100.0  # [eV/Å³]; 16,000 GPa
LONGEST_ID = 230  # bytes; a file name has 255, and one that is being written some 20 more than the id


def check_id(name: str) -> None:
    """Raise DatasetError if a text cannot be the id of a snapshot: it names files, and stands in messages."""
    bad = not name or name.startswith(".") or not name.isprintable() or FORBIDDEN & set(name)
    if bad or len(name.encode()) > LONGEST_ID:
        raise DatasetError(f"{name[:80]!r} cannot be the id of a snapshot; give it a plain name")


def first_repeated(ids: Iterable[str]) -> str | None:
    """The first id that was there before, if any."""
    seen: set[str] = set()
    return next((name for name in ids if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def first_twins(snapshots: Iterable[Snapshot]) -> tuple[int, int] | None:
    """Places of the first two that have one structure at one temperature, so that splits would know of each other."""
    seen: dict[tuple[str, float], int] = {}
    for place, s in enumerate(snapshots):
        if (first := seen.setdefault((s.structure_hash, round(s.temperature, 3)), place)) != place:
            return first, place
    return None


def check_snapshot(snapshot: Snapshot, species: Mapping[str, float], *, where: object) -> None:
    """Refuse a snapshot whose id, structure, grid or numbers cannot be used, or do not fit each other.

    Args:
        snapshot: from a table, or found by an importer.
        species: chemical symbol -> valence electrons.
        where: it stands, for the message.

    Raises:
        DatasetError: saying where, what is wrong, and what was given.
    """
    s = snapshot
    try:
        check_id(s.id)
        if s.cell.shape != (3, 3) or s.positions.shape != (s.n_atoms, 3) or s.numbers.shape != (s.n_atoms,):
            raise DatasetError(
                f"{len(s.positions)} positions, {s.n_atoms} atomic numbers, cell {s.cell.shape}; they must fit"
            )
        check_cell(s.cell, s.positions)
    except (DatasetError, StructureError) as error:
        raise DatasetError(f"{where}: {error}") from None
    if s.split not in SPLITS:
        raise DatasetError(f"{where}: split {s.split[:20]!r} is none of {', '.join(SPLITS)}; give one")
    if not s.group.isprintable():
        raise DatasetError(f"{where}: group {s.group[:40]!r} has characters that are none of a name; give a plain one")
    if np.linalg.det(s.cell) <= 0:
        raise DatasetError(f"{where}: the cell vectors are left-handed or coplanar; reorder them to a positive volume")
    if len(s.grid) != 3 or not all(0 < n < 2**31 for n in s.grid):
        raise DatasetError(f"{where}: a grid of {s.grid} points is none; three numbers of 1 or more are needed")
    if not 0 <= s.temperature <= HOTTEST:
        raise DatasetError(f"{where}: a temperature of {s.temperature:g} K is none; give 0 to {HOTTEST:g} K")
    for name in ENERGIES:
        if (value := getattr(s, name)) is not None and not math.isfinite(value):
            raise DatasetError(f"{where}: {name} is {value}, not a number; leave out what is not known")
    if s.forces is not None and len(s.forces) != s.n_atoms:
        raise DatasetError(
            f"{where}: has forces of {len(s.forces)} atoms, but positions of {s.n_atoms}; give those of all"
        )
    if s.forces is not None and not (s.forces.shape == (s.n_atoms, 3) and np.isfinite(s.forces).all()):
        raise DatasetError(f"{where}: forces that are not finite; leave out what is not known")
    if s.forces is not None and (most := float(np.abs(s.forces).max(initial=0))) > LARGEST_FORCE:
        raise DatasetError(f"{where}: a force of {most:.3g} eV/Å is none; check its unit, or leave out the forces")
    if s.stress is not None:
        _check_stress(s.stress, where)
    _check_electrons(s, species, where)


def _check_stress(stress: NDArray[np.float64], where: object) -> None:
    """Raise DatasetError if a stress is none."""
    if stress.shape != (3, 3) or not np.isfinite(stress).all():
        raise DatasetError(f"{where}: a stress is three rows of three finite numbers; leave out what is not known")
    if (most := float(np.abs(stress).max())) > LARGEST_STRESS or np.abs(stress - stress.T).max() > 1e-3 * most:
        raise DatasetError(
            f"{where}: a stress with components up to {most:.3g} eV/Å³ that is none, or not symmetric; check its unit, "
            "or leave it out"
        )


def _check_electrons(s: Snapshot, species: Mapping[str, float], where: object) -> None:
    """Raise DatasetError if atoms are none, of no known valence, or do not have the snapshot's electrons."""
    if not all(0 < number < len(chemical_symbols) for number in s.numbers):
        raise DatasetError(f"{where}: atomic numbers are 1 to {len(chemical_symbols) - 1}; mend those of the atoms")
    counts = Counter(chemical_symbols[number] for number in s.numbers)
    if unknown := sorted(set(counts) - set(species)):
        raise DatasetError(f"{where}: gives no valence of {', '.join(unknown)}; add it")
    if not abs(sum(n * species[symbol] for symbol, n in counts.items()) - s.n_electrons) <= 1e-6:
        atoms = ", ".join(f"{n} {symbol} with {species[symbol]:g}" for symbol, n in counts.items())
        raise DatasetError(
            f"{where}: {atoms} valence electrons each are not the {s.n_electrons:g} electrons it gives; "
            "charged cells are not supported, so compute a neutral one, or mend what is wrong"
        )
