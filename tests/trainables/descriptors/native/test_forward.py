"""Derivatives of each grid point along each neighbour, against differences of the descriptors and against forces."""

from itertools import product
from math import prod

import numpy as np
import pytest

from dftune.trainables.descriptors.bispectrum import bispectrum, bispectrum_forces
from dftune.trainables.descriptors.native import forward
from dftune.trainables.descriptors.native.forward import pair_derivatives
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError

TRICLINIC = np.array([[4.1, 0.1, -0.3], [1.3, 3.9, 0.2], [-0.7, 0.4, 4.4]])  # Å
POSITIONS = np.random.default_rng(0).uniform(size=(3, 3)) @ TRICLINIC
GRID = (2, 3, 2)
CASES = {
    "one atom": (np.diag([3.0, 3.1, 3.2]), np.array([[0.1, 0.2, 0.3]])),
    "on a grid point": (TRICLINIC, np.array([[0.0, 0.0, 0.0], [2.0, 2.1, 2.2]])),
    "triclinic": (TRICLINIC, POSITIONS),
    "left-handed": (TRICLINIC[[1, 0, 2]], POSITIONS),
    "thin": (np.diag([1.5, 9.0, 2.0]), np.array([[0.2, 0.1, 0.7], [0.9, 5.0, 0.0]])),
}
SMALL = BispectrumSettings(cutoff=3.5, two_j_max=4)


def pairs_of(cell, positions, settings, **more):
    whole = {"points": range(prod(GRID)), "dtype": np.float64, "numbers": np.full(len(positions), 13)}
    return pair_derivatives(cell, positions, grid=GRID, settings=settings, **(whole | more))


def slope(moved, settings):
    """d/dx of the descriptors of all grid points by differences of fourth order; ``moved`` gives cell and positions."""
    step, total = 5e-4, 0.0  # Å, or a strain
    for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
        cell, positions = moved(shift * step)
        numbers = np.full(len(positions), 13)
        total += weight * bispectrum(cell, positions, numbers, GRID, settings, dtype=np.float64) / (12 * step)
    return total


def points_of(cell):
    return np.stack(np.meshgrid(*(np.arange(n) / n for n in GRID), indexing="ij"), axis=-1).reshape(-1, 3) @ cell


@pytest.mark.parametrize("two_j_max", [2, 8, 14])
@pytest.mark.parametrize("case", CASES)
def test_sums_over_pairs_are_differences_of_the_descriptors(case, two_j_max):
    cell, positions = CASES[case]
    settings = BispectrumSettings(cutoff=3.2, two_j_max=two_j_max)  # no neighbour is within 0.005 Å of it
    found = pairs_of(cell, positions, settings)
    by_atom = np.zeros((len(positions), 3, prod(GRID), settings.n_components))
    for axis in range(3):
        np.add.at(by_atom, (found.atom, axis, found.point), found.values[:, axis])
    by_strain = np.zeros((3, 3, prod(GRID), settings.n_components))
    for a, b in product(range(3), range(3)):
        np.add.at(by_strain, (a, b, found.point), found.values[:, a] * found.displacement[:, b, None])

    def expect(values, moved):
        expected = slope(moved, settings)
        scale = np.abs(by_atom).max(axis=(0, 1, 2))
        assert (np.abs(values - expected) / scale).max() < 1e-7

    for atom, axis in product(range(len(positions)), range(3)) if two_j_max < 14 else [(0, 2)]:
        unit = np.zeros(positions.shape)
        unit[atom, axis] = 1.0
        expect(by_atom[atom, axis], lambda x, unit=unit: (cell, positions + x * unit))
    for a, b in product(range(3), range(3)) if two_j_max == 8 else [(0, 1)]:
        unit = np.zeros((3, 3))
        unit[a, b] = 1.0
        expect(
            by_strain[a, b],
            lambda x, unit=unit: (cell @ (np.eye(3) + x * unit).T, positions @ (np.eye(3) + x * unit).T),
        )


SEVERAL = [
    {"weights": {"Al": 1.0, "Mg": 0.6}, "radii": {"Al": 0.4, "Mg": 0.6}},
    {"chem": ["Al", "Mg"], "weights": {"Al": 0.8}, "radii": {"Mg": 0.6}},
    {"chem": ["Al", "Be", "Mg"]},
    {"weights": {"Al": 1.0, "Mg": 0.6}, "inner": [3.1, 2.0]},
]


@pytest.mark.parametrize("two_j_max, species", [*((n, {}) for n in (2, 6, 10, 14)), *((6, s) for s in SEVERAL)])
@pytest.mark.parametrize("case", CASES)
def test_contracted_with_a_gradient_they_are_forces_and_strain_derivative(case, two_j_max, species):
    cell, positions = CASES[case]
    settings = BispectrumSettings(cutoff=4.2, two_j_max=two_j_max, **species)
    numbers = np.array([13, 12, 12])[: len(positions)] if species else np.full(len(positions), 13)
    found = pairs_of(cell, positions, settings, numbers=numbers)
    gradient = np.random.default_rng(1).normal(size=(prod(GRID), settings.n_components))
    forces, strain = bispectrum_forces(cell, positions, numbers, GRID, settings, gradient)
    along = np.einsum("pak,pk->pa", found.values, gradient[found.point])
    ours = np.zeros(forces.shape)
    np.add.at(ours, found.atom, -along)
    np.testing.assert_allclose(ours, forces, rtol=0, atol=1e-12 * np.abs(along).max() * len(along) ** 0.5)
    np.testing.assert_allclose(along.T @ found.displacement, strain, rtol=0, atol=1e-12 * np.abs(strain).max())


@pytest.mark.parametrize("case", CASES)
def test_every_image_within_the_cutoff_is_a_pair_once(case):
    cell, positions = CASES[case]
    found = pairs_of(cell, positions, SMALL)
    assert (np.diff(found.point) >= 0).all()
    ends = points_of(cell)[found.point] + found.displacement
    lattice = (ends - positions[found.atom]) @ np.linalg.inv(cell)
    np.testing.assert_allclose(lattice, np.rint(lattice), atol=1e-12)
    pairs = np.column_stack([found.point, found.atom, np.rint(lattice).astype(int)])
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    shifts = np.array(list(product(range(-5, 6), repeat=3))) @ cell
    every = (positions[:, None] + shifts).reshape(-1, 3)
    distance = np.linalg.norm(every[None] - points_of(cell)[:, None], axis=-1)
    assert (np.bincount(found.point, minlength=prod(GRID)) == (distance < SMALL.cutoff).sum(axis=1)).all()


def test_chunks_threads_and_single_precision_change_nothing(monkeypatch):
    whole = pairs_of(TRICLINIC, POSITIONS, SMALL)
    monkeypatch.setattr(forward, "POINTS", 3)
    some = pairs_of(TRICLINIC, POSITIONS, SMALL, points=[2, 3, 4, 6, 7, 9, 10], threads=3)
    here = np.isin(whole.point, [2, 3, 4, 6, 7, 9, 10])
    order = [np.lexsort((*p.displacement.T, p.point)) for p in (some, whole)]
    order[1] = order[1][here[order[1]]]
    for name in ("point", "atom", "displacement", "values"):
        np.testing.assert_allclose(
            getattr(some, name)[order[0]], getattr(whole, name)[order[1]], rtol=1e-12, atol=1e-13
        )
    single = pairs_of(TRICLINIC, POSITIONS, SMALL, points=[2, 3, 4, 6, 7, 9, 10], dtype=np.float32)
    assert single.values.dtype == np.float32
    assert (single.values == some.values.astype(np.float32)).all()


def test_no_points_and_no_neighbours_are_no_pairs():
    assert pairs_of(TRICLINIC, POSITIONS, SMALL, points=[]).values.shape == (0, 3, 14)
    lonely = pairs_of(np.diag([30.0, 30.0, 30.0]), np.full((1, 3), 7.5), SMALL)
    assert lonely.values.shape == (0, 3, 14)
    assert lonely.displacement.shape == (0, 3)


@pytest.mark.parametrize("points", [[-1, 3], [0, 12], [5, 4, 6]], ids=str)
def test_points_outside_of_the_grid_are_refused(points):
    with pytest.raises(
        InputError,
        match=rf"grid points {points[0]} to {points[-1]} do not increase within a grid of 12; number them in C",
    ):
        pairs_of(TRICLINIC, POSITIONS, SMALL, points=points)
