"""Which structures would teach a surrogate most: those far from its training, and from each other.  Å, meV/atom.

The distance is that of ``Neighbours``, in units of what is usual for validation snapshots.  Errors grow with its square
(docs/measured.md, "Structures unlike the training").  A structure that is chosen counts as one of the training from
then on, so the next one is far from it, too: farthest-point selection, Gonzalez, Theor. Comput. Sci. 38, 293 (1985).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray

from ..descriptors.bispectrum import bispectrum
from ..errors import InputError, ModelError
from ..structures import check_distances, check_structure
from ..surrogate import Lesson, Lessons, Tell, quiet
from .card import LdosCard
from .neighbours import CHUNK, Neighbours
from .training_data import Scaling

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
SPACING = 0.45  # Å between the grid points of a candidate: distances are those of a grid of 0.2 Å within some per cent
MOST_POINTS = 1000  # of a candidate


@dataclass(frozen=True, eq=False)
class Candidate:
    """Grid points of a structure, and how far each is from all that is known.

    points: in whitened descriptors, (n_points, n_components).  squares: d², (n_points,).
    """

    points: Float32
    squares: Float64

    @property
    def square(self) -> float:
        """d² of the structure."""
        return float(self.squares.mean())

    def beside(self, other: "Candidate") -> "Candidate":
        """With the points of another one among what is known."""
        return Candidate(self.points, np.minimum(self.squares, nearest(self.points, other.points)))


def lessons(
    card: LdosCard,
    scaling: Scaling,
    neighbours: Neighbours | None,
    structures: Sequence[ase.Atoms],
    number: int,
    progress: Tell = quiet,
) -> Lessons:
    """Choose structures to compute, the most telling first.

    Args:
        card, scaling, neighbours: of the surrogate.
        structures: the candidates.
        number: how many to choose.
        progress: called after each candidate, and after each choice.

    Raises:
        StructureError: a candidate is not periodic, of other species, or has atoms on top of each other.
        ModelError: the model does not know the points of its training.
        InputError: no candidate, or fewer than are asked for.
    """
    if not 0 < number <= len(structures):
        raise InputError(f"{number} structures cannot be chosen of {len(structures)}")
    if neighbours is None:
        raise ModelError("this model does not know the points of its training; make it again")
    found, usual = list[Candidate](), neighbours.usual**2
    for n, atoms in enumerate(structures):
        progress("candidates", n, len(structures))
        try:
            check_structure(atoms, card.species)
            check_distances(atoms)
        except InputError as error:
            raise type(error)(f"structure {n}: {error}") from error
        found.append(_candidate(card, scaling, neighbours, atoms))
    progress("candidates", len(found), len(found))
    before, chosen = float(np.mean([one.square for one in found])) / usual, list[Lesson]()
    while len(chosen) < number:
        taken = {lesson.number for lesson in chosen}
        best = max((n for n in range(len(found)) if n not in taken), key=lambda n: found[n].square)
        chosen.append(_lesson(card, best, structures[best], math.sqrt(found[best].square / usual)))
        found = [one.beside(found[best]) for one in found]
        progress("choices", len(chosen), number)
    after = float(np.mean([one.square for one in found])) / usual
    return Lessons(tuple(chosen), len(found), before, after, _expected(card, before, after))


def _candidate(card: LdosCard, scaling: Scaling, neighbours: Neighbours, atoms: ase.Atoms) -> Candidate:
    cell = np.array(atoms.cell)
    grid = tuple(max(2, math.ceil(length / SPACING)) for length in np.linalg.norm(cell, axis=1))
    values = bispectrum(cell, atoms.positions, atoms.numbers, grid, card.descriptors)
    some = np.random.default_rng(0).permutation(len(values))[:MOST_POINTS]
    standardised = scaling.descriptors(values[some])
    return Candidate(standardised @ neighbours.directions, neighbours.squares(standardised))


def nearest(points: Float32, others: Float32) -> Float64:
    """Squared distance of each point to the nearest of the others, (n_points,), of (n, n_components) each."""
    own, found = (others**2).sum(axis=1), []
    for start in range(0, len(points), CHUNK):
        y = points[start : start + CHUNK]
        found.append((y**2).sum(axis=1) + (own - 2 * y @ others.T).min(axis=1))
    return np.maximum(np.concatenate(found), 0).astype(np.float64)


def is_free(cell: Float64, cutoff: float) -> bool:
    """Whether a cell is so large that no atom and its image are near one grid point: twice the cutoff in height."""
    faces = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    heights = abs(np.linalg.det(cell)) / np.linalg.norm(faces, axis=1)
    return bool(heights.min() >= 2 * cutoff)


def _lesson(card: LdosCard, number: int, atoms: ase.Atoms, distance: float) -> Lesson:
    free = is_free(np.array(atoms.cell), card.descriptors.cutoff)
    why = f"{distance:.2f} times as far from all that is known as is usual for validation snapshots"
    if free:
        why += f"; larger than twice the cutoff of {card.descriptors.cutoff:g} Å"
    return Lesson(number, len(atoms), distance, why)


def _expected(card: LdosCard, before: float, after: float) -> str:
    """What the chosen ones are worth, for people."""
    text = (
        f"all candidates, root mean square: {math.sqrt(before):.2f} -> {math.sqrt(after):.2f} times the usual distance"
    )
    error = card.accuracy.free_energy_mae
    if error is not None:
        one, other = (error * max(1.0, share) for share in (before, after))
        text += f"; errors to expect of them: {one:.2g} -> {other:.2g} meV/atom"
    return text
