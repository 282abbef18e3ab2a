"""Check forces against the free energies of snapshots that are near each other.  eV, Å.

From R₁ to R₂ the free energy changes by -½ (F₁ + F₂)·(R₂ - R₁): the trapezoidal rule along the straight way, which is
exact where the energy is quadratic.  Forces of another sign, unit or order of atoms do not fit.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .check import Fail, refuse
from .snapshot import Snapshot

FARTHEST = 0.6  # [Å] that an atom moves from one snapshot to another, for the trapezoidal rule to hold
PARTNERS = 32  # of each snapshot, in the order that they come in
# Right data of Al and Be: 0.15 at most, of liquid Al by EMT 0.1.  Of the other sign, unit or order of atoms: 0.6 to 20.
MOST_FORCES_ERROR = 0.4


def check_forces(
    snapshots: Sequence[Snapshot], wheres: Sequence[object] | None = None, *, fail: Fail = refuse
) -> list[float | None]:
    """How far the forces of each snapshot are off what the free energies say, as a share of the work they do.

    Over the ways to other snapshots it is √(Σ (ΔA + ½ (F₁ + F₂)·ΔR)² / Σ W²), with W the mean of |F₁·ΔR| and |F₂·ΔR|.

    Args:
        snapshots: with their forces (n_atoms, 3) and free energies, where these are known.
        wheres: file of each, to name in an error; by default its id.
        fail: called, once, if the forces of some do not fit; by default that is refused.

    Returns:
        For each snapshot the share; None where it gives no forces, where no other snapshot of its cell, atoms and
        temperature is within 0.6 Å, or where these would fit the other sign as well.

    Raises:
        DatasetError: as ``fail`` does.
    """
    alike: dict[tuple[tuple[bytes, bytes], float], list[int]] = {}
    for i, s in enumerate(snapshots):
        if s.forces is not None and s.total_energy is not None:
            alike.setdefault((s.cell_and_atoms, round(s.temperature, 1)), []).append(i)
    found: list[float | None] = [None] * len(snapshots)
    for members in alike.values():
        for i, share in zip(members, _shares([snapshots[i] for i in members]), strict=True):
            found[i] = share
    off = {i: share for i, share in enumerate(found) if share is not None and share > MOST_FORCES_ERROR}
    if off:
        worst = max(off, key=lambda i: off[i])
        others = f" ({len(off)} snapshots have such ones)" if len(off) > 1 else ""
        fail(
            f"{wheres[worst] if wheres else snapshots[worst].id}: its forces do not fit the total energies{others}: "
            f"from this snapshot to those near it the energy is off by {100 * off[worst]:.0f} % of the work of the "
            "forces; forces are minus the slope of the free energy [eV/Å], in the order of the atoms"
        )
    return found


def _shares(snapshots: Sequence[Snapshot]) -> list[float | None]:
    """As ``check_forces``, of snapshots with one cell and the same atoms in the same order."""
    n, cell = len(snapshots), snapshots[0].cell
    places = np.array([s.positions for s in snapshots]) @ np.linalg.inv(cell)
    forces = np.array([s.forces for s in snapshots])
    energies = np.array([s.total_energy for s in snapshots], dtype=np.float64)
    sums = np.zeros((3, n))  # squares of: what is off, what the other sign would be off, the work
    for i in range(n - 1):
        others = slice(i + 1, i + 1 + PARTNERS)
        steps = places[others] - places[i]
        ways = (steps - np.round(steps)) @ cell
        near = np.linalg.norm(ways, axis=2).max(axis=1) <= FARTHEST
        works = np.array([_work(forces[i], ways), _work(forces[others], ways)])
        change, expected = energies[others] - energies[i], -works.mean(axis=0)
        squares = np.array([change - expected, change + expected, np.abs(works).mean(axis=0)]) ** 2 * near
        sums[:, others] += squares
        sums[:, i] += squares.sum(axis=1)
    off, reversed_, work = np.sqrt(sums)
    bound = MOST_FORCES_ERROR * work
    told = (work > 0) & (np.maximum(off, reversed_) > bound)
    return [float(o / w) if tells else None for o, w, tells in zip(off, work, told, strict=True)]


def _work(forces: NDArray[np.float64], ways: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of forces (n_atoms, 3), or of each way its own, along ways (n, n_atoms, 3), shape (n,) [eV]."""
    return (forces * ways).sum(axis=(1, 2))
