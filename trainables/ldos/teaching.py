"""Which structures would teach a surrogate most.  Å, meV/atom.

Where the last layer is in closed form and fitted to energies or forces, too, its posterior (``readout.posterior``) says
how well the free energies of all candidates are known, and by how much better once one of them has been computed: its
free energy and its forces are then rows of the regression, whatever their values.  Chosen is always the structure that
leaves the least sum of variances (Seo et al., Proc. IJCNN, 3, 241 (2000), after Cohn).  What its LDOS teaches besides
is not counted.

Else it is the structure farthest from the training, by the distance of ``Neighbours``, in units of what
is usual for validation snapshots; errors grow with its square (docs/measured.md, "Structures unlike the training").  A
structure that is chosen counts as one of the training from then on: farthest-point selection, Gonzalez, Theor. Comput.
Sci. 38, 293 (1985).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from numpy.typing import NDArray

from ..descriptors.bispectrum import bispectrum
from ..errors import InputError, ModelError
from ..structures import check_distances, check_structure
from ..surrogate import Lesson, Lessons, Tell, quiet
from .card import LdosCard
from .neighbours import Neighbours, nearest
from .training_data import Scaling

if TYPE_CHECKING:
    from .readout.posterior import Posterior
    from .surrogate import LdosSurrogate

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
SPACING = 0.45  # Å between the grid points of a candidate: distances are those of a grid of 0.2 Å within some per cent
MOST_POINTS = 1000  # of a candidate
UNTOLD = 1e-3  # combinations of a candidate's rows that make a variance smaller by less than this share are left out
WITH_FORCES = 40  # candidates, the least known ones, of which the forces count, too: ten times the work of the energy


def lessons(
    surrogate: "LdosSurrogate", structures: Sequence[ase.Atoms], number: int, progress: Tell = quiet
) -> Lessons:
    """Choose structures to compute, the most telling first.

    Args:
        surrogate: what is to learn.
        structures: the candidates.
        number: how many to choose.
        progress: called after each candidate, and after each choice.

    Raises:
        StructureError: a candidate is not periodic, of other species, or has atoms on top of each other.
        ModelError: the model knows neither its posterior nor the points of its training.
        InputError: no candidate, or fewer than are asked for.
    """
    if not 0 < number <= len(structures):
        raise InputError(f"{number} structures cannot be chosen of {len(structures)}")
    for n, atoms in enumerate(structures):
        try:
            check_structure(atoms, surrogate.card.species)
            check_distances(atoms)
        except InputError as error:
            raise type(error)(f"structure {n}: {error}") from error
    posterior, instead = surrogate.posterior, ""
    # of a fit to the LDOS alone it has no coordinates, and a scale that does not hold for energies
    if posterior is not None and len(posterior.energies) and surrogate.card.dft is not None:
        try:
            return _by_posterior(surrogate, posterior, structures, number, progress)
        except ModelError as error:  # a candidate that cannot be predicted at all; its distance can be had
            instead = f"; by the distance from the training, as {error}"
    if surrogate.neighbours is None:
        raise ModelError("this model does not know the points of its training; make it again")
    found = _by_distance(surrogate.card, surrogate.scaling, surrogate.neighbours, structures, number, progress)
    return replace(found, expected=found.expected + instead)


def _by_posterior(
    surrogate: "LdosSurrogate", posterior: "Posterior", structures: Sequence[ase.Atoms], number: int, progress: Tell
) -> Lessons:
    """What leaves the least sum of the variances of A.  Raises ModelError: a candidate cannot be predicted."""
    weights = {name: float(surrogate.card.config[f"{name}_weight"]) for name in ("energy", "force")}
    energies = []
    for n, atoms in enumerate(structures):
        progress("candidates", n, len(structures))
        try:
            energies.append(surrogate.slopes(atoms)["free_energy"].coordinates(posterior)[0])
        except ModelError as error:
            raise ModelError(f"structure {n} cannot be predicted: {error}") from error
    progress("candidates", len(structures), len(structures))
    known = Known(np.array(energies))
    least_known = np.argsort(-known.variances)[:WITH_FORCES].tolist() if weights["force"] > 0 else []
    teach = {n: math.sqrt(weights["energy"]) / posterior.scale * row[None] for n, row in enumerate(energies)}
    for done, n in enumerate(least_known):
        progress("forces", done, len(least_known))
        forces = surrogate.slopes(structures[n], forces=True)["forces"].coordinates(posterior)
        teach[n] = told(np.concatenate([teach[n], math.sqrt(weights["force"]) / posterior.scale * forces]))
    progress("forces", len(least_known), len(least_known))
    before, chosen = known.mean, list[Lesson]()
    for _ in range(number):
        gains = {n: known.gain(rows) for n, rows in teach.items()}
        best = max(gains, key=gains.__getitem__)
        std, was = 1e3 * math.sqrt(known.variances[best]), known.mean
        known, teach = known.after(teach.pop(best), teach)
        why = f"known to {std:.3g} meV/atom; it takes all candidates from {was:.3g} to {known.mean:.3g}"
        chosen.append(Lesson(best, len(structures[best]), std, why + _size(surrogate.card, structures[best])))
        progress("choices", len(chosen), number)
    expected = f"standard deviation of their free energies {before:.3g} -> {known.mean:.3g} meV/atom"
    return Lessons(tuple(chosen), len(structures), before, known.mean, expected, "meV/atom")


@dataclass(frozen=True, eq=False)
class Known:
    """How well numbers are known: their covariances are the products of these vectors, (n, k) [eV/atom]."""

    vectors: Float64

    @property
    def variances(self) -> Float64:
        """(n,), in the square of the unit."""
        return np.asarray(np.square(self.vectors).sum(axis=1))

    @property
    def mean(self) -> float:
        """Root mean square of the standard deviations [meV/atom]."""
        return 1e3 * math.sqrt(float(self.variances.mean()))

    def gain(self, rows: Float64) -> float:
        """By how much the sum of the variances falls if numbers of these vectors are measured with a variance of 1."""
        axes, sizes = _axes(rows)
        return float((np.square(self.vectors @ axes) * (sizes / (1 + sizes))).sum())

    def after(self, rows: Float64, others: Mapping[int, Float64]) -> tuple["Known", dict[int, Float64]]:
        """What is known once they are measured, and the vectors of other numbers then.

        The covariance 1 of the coordinates becomes (1 + RᵀR)⁻¹, whose symmetric root turns all vectors.
        """
        axes, sizes = _axes(rows)
        less = 1 - 1 / np.sqrt(1 + sizes)

        def turned(vectors: Float64) -> Float64:
            return np.asarray(vectors - ((vectors @ axes) * less) @ axes.T, dtype=vectors.dtype)

        return Known(turned(self.vectors)), {n: turned(vectors) for n, vectors in others.items()}


def told(rows: Float64) -> Any:
    """As few rows as say the same within ``UNTOLD``, (m, k), in float32: 768 rows of 256 atoms are 22 MB in float64."""
    axes, sizes = _axes(rows)
    some = sizes > UNTOLD
    return (axes[:, some] * np.sqrt(sizes[some])).T.astype(np.float32)


def _axes(rows: Float64) -> tuple[Float64, Float64]:
    """Orthonormal axes of RᵀR as columns, (k, m), and its values along them, (m,), without those that say nothing."""
    rows = rows.astype(np.float64, copy=False)
    sizes, turns = np.linalg.eigh(rows @ rows.T)
    some = sizes > max(1e-12 * sizes[-1], 1e-30)
    return (rows.T @ turns[:, some]) / np.sqrt(sizes[some]), sizes[some]


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


def _by_distance(
    card: LdosCard,
    scaling: Scaling,
    neighbours: Neighbours,
    structures: Sequence[ase.Atoms],
    number: int,
    progress: Tell,
) -> Lessons:
    """What is farthest from all that is known."""
    found, usual = list[Candidate](), neighbours.usual**2
    for n, atoms in enumerate(structures):
        progress("candidates", n, len(structures))
        found.append(_candidate(card, scaling, neighbours, atoms))
    progress("candidates", len(found), len(found))
    before, chosen = math.sqrt(np.mean([one.square for one in found]) / usual), list[Lesson]()
    while len(chosen) < number:
        taken = {lesson.number for lesson in chosen}
        best = max((n for n in range(len(found)) if n not in taken), key=lambda n: found[n].square)
        distance = math.sqrt(found[best].square / usual)
        why = f"{distance:.2f} times as far from all that is known as is usual for validation snapshots"
        chosen.append(Lesson(best, len(structures[best]), distance, why + _size(card, structures[best])))
        found = [one.beside(found[best]) for one in found]
        progress("choices", len(chosen), number)
    after = math.sqrt(np.mean([one.square for one in found]) / usual)
    return Lessons(tuple(chosen), len(found), before, after, _expected(card, before, after), "usual distance")


def _candidate(card: LdosCard, scaling: Scaling, neighbours: Neighbours, atoms: ase.Atoms) -> Candidate:
    cell = np.array(atoms.cell)
    grid = tuple(max(2, math.ceil(length / SPACING)) for length in np.linalg.norm(cell, axis=1))
    values = bispectrum(cell, atoms.positions, atoms.numbers, grid, card.descriptors)
    some = np.random.default_rng(0).permutation(len(values))[:MOST_POINTS]
    standardised = scaling.descriptors(values[some])
    return Candidate(standardised @ neighbours.directions, neighbours.squares(standardised))


def is_free(cell: Float64, cutoff: float) -> bool:
    """Whether a cell is so large that no atom and its image are near one grid point: twice the cutoff in height."""
    faces = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    heights = abs(np.linalg.det(cell)) / np.linalg.norm(faces, axis=1)
    return bool(heights.min() >= 2 * cutoff)


def _size(card: LdosCard, atoms: ase.Atoms) -> str:
    """What the size of a cell adds to the reasons."""
    cutoff = card.descriptors.cutoff
    return f"; larger than twice the cutoff of {cutoff:g} Å" if is_free(np.array(atoms.cell), cutoff) else ""


def _expected(card: LdosCard, before: float, after: float) -> str:
    """What the chosen ones are worth, for people."""
    text = f"all candidates, root mean square: {before:.2f} -> {after:.2f} times the usual distance"
    error = card.accuracy.free_energy_mae
    if error is not None:
        one, other = (error * max(1.0, times**2) for times in (before, after))
        text += f"; errors to expect of them: {one:.2g} -> {other:.2g} meV/atom"
    return text
