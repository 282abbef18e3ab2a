"""How different structures are, by their radial distribution functions.  Lengths in Å.

The distance does not depend on the order of atoms, on rotations, nor on where the cell begins, so it compares cells of
any shapes; MALA's trajectory analysis uses the same function.
"""

from collections.abc import Iterable, Sequence

import ase
import numpy as np
from numpy.typing import NDArray

from ..near_atoms import distances
from .snapshot import Snapshot

REACH = 8.0  # [Å]
STEP = 0.05  # [Å]
BLUR = 0.1  # [Å]; thermal displacements are of this size
DUPLICATE = 0.01  # below this, two structures are one for a surrogate: displacements of 0.05 Å give some 0.1

Vector = NDArray[np.float64]


def atoms_of(s: Snapshot) -> ase.Atoms:
    """The structure of a snapshot."""
    return ase.Atoms(numbers=s.numbers, positions=s.positions, cell=s.cell, pbc=True)


def radial_distribution(atoms: ase.Atoms) -> Vector:
    """Radial distribution function g(r) at r = 0.05, 0.10, ... 8 Å, with distances blurred by 0.1 Å.

    Args:
        atoms: periodic.

    Returns:
        Shape (160,); 1 where neighbours are as frequent as in a gas of the same density.
    """
    centres = STEP * np.arange(1, round(REACH / STEP) + 1)
    fine, n = STEP / 2, round((REACH + 4 * BLUR) / (STEP / 2))
    places = distances(atoms.cell.array, atoms.positions, REACH + 4 * BLUR) / fine
    # Shared between the two nearest points: whole bins would part equal distances of a crystal by their rounding.
    below = places.astype(int)
    share = places - below
    counts = np.bincount(below, 1 - share, n + 2) + np.bincount(below + 1, share, n + 2)
    middles = fine * np.arange(len(counts))
    blur = np.exp(-(((centres[:, None] - middles) / BLUR) ** 2) / 2) / (BLUR * np.sqrt(2 * np.pi))
    gas = 4 * np.pi * centres**2 * len(atoms) ** 2 / atoms.cell.volume
    return blur @ counts / gas


def distance(a: Vector, b: Vector) -> float:
    """‖g_a - g_b‖ / ‖g_a + g_b‖ · 2, from 0 for equal structures to 2."""
    return float(2 * np.linalg.norm(a - b) / np.linalg.norm(a + b))


def farthest(vectors: Sequence[Vector], n: int) -> list[int]:
    """Farthest-point selection: first the most usual structure, then always the one farthest from all chosen.

    Args:
        vectors: radial distribution functions.
        n: how many to choose.

    Source: Gonzalez, Theor. Comput. Sci. 38, 293 (1985).
    """
    middle = np.mean(vectors, axis=0)
    chosen = [int(np.argmin([distance(v, middle) for v in vectors]))]
    nearest = np.array([distance(v, vectors[chosen[0]]) for v in vectors])
    while len(chosen) < min(n, len(vectors)):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, [distance(v, vectors[chosen[-1]]) for v in vectors])
    return chosen


def decorrelated(vectors: Sequence[Vector]) -> tuple[int, int]:
    """From which frame of a trajectory on, and in steps of how many frames, structures no longer know of each other.

    The first frame is that from which on the distance to the mean of the last half is one of the last half's own
    (its 95 % quantile).  The step is the smallest at which frames are as far apart, on average, as 95 % of those half
    the trajectory apart.

    Args:
        vectors: radial distribution functions, in the order of time.

    Returns:
        (first frame, step), the step being the length of the trajectory where frames never become independent.
    """
    n = len(vectors)
    late = np.array(vectors[n // 2 :])
    from_mean = np.array([distance(v, late.mean(axis=0)) for v in vectors])
    inside = from_mean <= np.quantile(from_mean[n // 2 :], 0.95)
    first = int(np.argmax(inside)) if inside.any() else n // 2
    rest = vectors[first:]
    far = _mean_distance(rest, max(1, len(rest) // 2))
    for step in range(1, len(rest)):
        if _mean_distance(rest, step) >= 0.95 * far:
            return first, step
    return first, n


def _mean_distance(vectors: Sequence[Vector], step: int) -> float:
    """Mean distance of frames so many apart; of at most 200 pairs."""
    starts = np.unique(np.linspace(0, len(vectors) - step - 1, 200).astype(int))
    return float(np.mean([distance(vectors[i], vectors[i + step]) for i in starts])) if len(vectors) > step else 0.0


def near_duplicates(named: Iterable[tuple[str, Vector]], most: float = DUPLICATE) -> list[tuple[str, str, float]]:
    """Pairs of structures that are closer than ``most``: name, name, distance."""
    names, vectors = zip(*named, strict=True)
    all_of_them, found = np.array(vectors), []
    for i, (name, vector) in enumerate(zip(names[:-1], vectors, strict=False)):
        rest = all_of_them[i + 1 :]
        off = 2 * np.linalg.norm(rest - vector, axis=1) / np.linalg.norm(rest + vector, axis=1)
        found += [(name, names[i + 1 + j], float(off[j])) for j in np.flatnonzero(off < most)]
    return found


def displacements(snapshots: Sequence[Snapshot]) -> list[float | None]:
    """Root mean square of how far the atoms of each snapshot are from their mean places [Å].

    None where no other snapshot has the same cell and the same atoms in the same order.
    """
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for i, s in enumerate(snapshots):
        alike.setdefault(s.cell_and_atoms, []).append(i)
    found: list[float | None] = [None] * len(snapshots)
    for members in alike.values():
        if len(members) < 2:
            continue
        first = snapshots[members[0]]
        steps = np.array([snapshots[i].positions - first.positions for i in members]) @ np.linalg.inv(first.cell)
        places = (steps - np.round(steps)) @ first.cell
        moved = places - places.mean(axis=0)
        for i, value in zip(members, np.sqrt((moved**2).sum(axis=2).mean(axis=1)), strict=True):
            found[i] = float(value)
    return found
