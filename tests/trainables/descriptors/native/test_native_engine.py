"""The native engine against LAMMPS, and against a formula that shares nothing with either."""

from itertools import cycle, product
from math import prod

import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols

from dftune.trainables.descriptors.bispectrum import bispectrum, bispectrum_forces
from dftune.trainables.descriptors.lammps_engine import ON_GRID_SHIFT, frame
from dftune.trainables.descriptors.native import engine
from dftune.trainables.descriptors.native.images import MOST_IMAGES, images_of
from dftune.trainables.descriptors.native.tables import RFAC0, tables, triples
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError

TRICLINIC = np.array([[4.1, 0.1, -0.3], [1.3, 3.9, 0.2], [-0.7, 0.4, 4.4]])  # Å
POSITIONS = np.random.default_rng(0).uniform(size=(3, 3)) @ TRICLINIC
SMALL = BispectrumSettings(cutoff=4.68, two_j_max=4)


def native(cell, positions, grid, settings, **more):
    numbers = numbers_of(positions, settings)
    return bispectrum(cell, positions, numbers, grid, settings, dtype=np.float64, **more)


def numbers_of(positions, settings):
    """Aluminium, or the species of the settings in turn."""
    return np.array([atomic_numbers[symbol] for symbol, _ in zip(cycle(settings.species or ["Al"]), positions)])


def lammps(cell, positions, grid, settings):
    """Of LAMMPS, for atoms that are where ``positions`` says once it has moved them."""
    moved = positions - np.full(3, ON_GRID_SHIFT) @ frame(cell)[1].T
    return native(cell, moved, grid, settings.model_copy(update={"engine": "lammps"}))


def displaced(cell_of_ase):
    rng = np.random.default_rng(1)
    return cell_of_ase.cell.array, cell_of_ase.positions + rng.normal(scale=0.1, size=cell_of_ase.positions.shape)


CASES = {
    "one atom": (np.diag([3.0, 3.1, 3.2]), np.array([[0.1, 0.2, 0.3]]), (3, 2, 5)),
    "cubic": (*displaced(bulk("Al", cubic=True)), (4, 5, 4)),
    "supercell": (*displaced(bulk("Al", cubic=True) * (2, 2, 1)), (3, 5, 4)),
    "triclinic": (TRICLINIC, POSITIONS, (3, 5, 4)),
    "left-handed": (TRICLINIC[[1, 0, 2]], POSITIONS, (3, 4, 5)),
    "thin": (np.diag([1.5, 9.0, 2.0]), np.array([[0.2, 0.1, 0.7], [0.9, 5.0, 0.0]]), (2, 5, 3)),
    "vacuum": (np.diag([4.0, 4.0, 60.0]), np.array([[0.0, 0.0, 1.0], [2.0, 2.0, 3.0]]), (2, 2, 30)),
}


@pytest.mark.parametrize("two_j_max", [2, 6, 8, 10, 14])
@pytest.mark.parametrize("case", CASES)
def test_descriptors_are_those_of_lammps(case, two_j_max):
    cell, positions, grid = CASES[case]
    for cutoff in (2.5, 4.68) if two_j_max == 6 else (4.68,):
        settings = BispectrumSettings(cutoff=cutoff, two_j_max=two_j_max)
        found, expected = native(cell, positions, grid, settings), lammps(cell, positions, grid, settings)
        assert (np.abs(found - expected).max(axis=0) / np.abs(expected).max(axis=0)).max() < 1e-12


# Of one density and of several, with weights and radii.
OF_SPECIES = {
    "weights": {"weights": {"Al": 1.0, "Mg": -0.6}},
    "weights and radii": {"weights": {"Al": 1.0, "Mg": 0.6}, "radii": {"Al": 0.43, "Mg": 0.6}},
    "radii": {"radii": {"Al": 0.43, "Mg": 0.5}},
    "chem": {"chem": ["Mg", "Al"]},
    "chem, weights and radii": {"chem": ["Al", "Be", "Mg"], "weights": {"Al": 0.8}, "radii": {"Mg": 0.6, "Be": 0.4}},
    "chem of one species": {"chem": ["Al"]},
}


@pytest.mark.parametrize("two_j_max", [2, 8, 14])
@pytest.mark.parametrize("species", OF_SPECIES)
def test_descriptors_of_several_species_are_those_of_lammps(species, two_j_max):
    settings = BispectrumSettings(cutoff=4.2, two_j_max=two_j_max if two_j_max < 14 or "chem" not in species else 10)
    settings = BispectrumSettings(**settings.model_dump(), **OF_SPECIES[species])
    for case in ("cubic", "triclinic", "thin"):
        cell, positions, _ = CASES[case]
        found, expected = (compute(cell, positions, (1, 2, 4), settings) for compute in (native, lammps))
        assert found.shape == (8, settings.n_components)
        assert (np.abs(found - expected).max(axis=0) / np.abs(expected).max(axis=0)).max() < 1e-12


def test_densities_change_places_with_their_species():
    several = BispectrumSettings(cutoff=4.2, two_j_max=4, chem=["Al", "Mg"])
    swapped = bispectrum(TRICLINIC, POSITIONS, np.array([12, 13, 12]), (2, 2, 2), several, dtype=np.float64)
    found = native(TRICLINIC, POSITIONS, (2, 2, 2), several).reshape(8, 2, 2, 2, -1)
    np.testing.assert_allclose(found, swapped.reshape(found.shape)[:, ::-1, ::-1, ::-1], rtol=1e-12)


def third_moments(points, atoms, owners, settings):
    """B_{j1 j2 j} = (j+1) <f_j1 f_j2 f_j>, the mean over the unit quaternions q (docs/physics.md).

    f_j(q) = U_j(q_0) + Σ_a w_a f_c(r_a) U_j(q·q_a) with the Chebyshev polynomials U_j and the quaternions q_a of the
    atoms, of all or, with chem, of one species.
    """
    n = 3 * settings.two_j_max // 2 + 1
    angle = 2 * np.pi * (np.arange(n) + 0.5) / n
    x, w = np.polynomial.legendre.leggauss(n // 2 + 1)
    a, g, i = (v.ravel() for v in np.meshgrid(angle, angle, np.arange(len(x)), indexing="ij"))
    c, s = np.sqrt((1 + x[i]) / 2), np.sqrt((1 - x[i]) / 2)
    p, m = (a + g) / 2, (a - g) / 2
    q, weight = np.stack([c * np.cos(p), c * np.sin(p), s * np.cos(m), s * np.sin(m)], axis=1), w[i] / 2 / n**2
    found = []
    symbols = np.array([chemical_symbols[number] for number in owners])
    weights = np.array([settings.weight(symbol) for symbol in symbols])
    cutoffs = np.array([2 * settings.radius(symbol) * settings.cutoff for symbol in symbols])
    for point in points:
        d = atoms - point
        r = np.linalg.norm(d, axis=1)
        near = r < cutoffs
        d, r, cutoff = d[near], r[near], cutoffs[near]
        theta = RFAC0 * np.pi * r / cutoff
        of_atoms = np.column_stack([np.cos(theta), np.sin(theta)[:, None] * d / r[:, None]])
        cosines = q @ np.concatenate([[[1, 0, 0, 0]], of_atoms]).T
        counts = weights[near] * 0.5 * (np.cos(np.pi * r / cutoff) + 1)
        u = [np.ones_like(cosines), 2 * cosines]
        for _ in range(settings.two_j_max - 1):
            u.append(2 * cosines * u[-1] - u[-2])
        densities = [counts * (symbols[near] == symbol) for symbol in settings.chem] or [counts]
        f = [[values @ np.concatenate([[1.0], density]) for values in u] for density in densities]
        found.append(
            [
                (j + 1) * (weight * x[j1] * y[j2] * z[j]).sum()
                for x, y, z in product(f, repeat=3)
                for j1, j2, j in triples(settings.two_j_max)
            ]
        )
    return np.array(found)


@pytest.mark.parametrize("species", ["one", *OF_SPECIES])
def test_descriptors_are_third_moments_of_a_density_on_the_three_sphere(species):
    grid, settings = (1, 2, 2), BispectrumSettings(cutoff=4.2, two_j_max=6, **OF_SPECIES.get(species, {}))
    points = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid), indexing="ij"), axis=-1).reshape(-1, 3) @ TRICLINIC
    lattice = np.array(list(product(range(-3, 4), repeat=3))) @ TRICLINIC
    owners = np.repeat(numbers_of(POSITIONS, settings), len(lattice))
    expected = third_moments(points, (POSITIONS[:, None] + lattice).reshape(-1, 3), owners, settings)
    np.testing.assert_allclose(native(TRICLINIC, POSITIONS, grid, settings), expected, rtol=1e-11, atol=1e-11)


SOME = [*((n, "one") for n in (2, 6, 10, 14)), *((6, species) for species in OF_SPECIES)]


@pytest.mark.parametrize("two_j_max, species", SOME)
def test_forces_and_strain_derivatives_are_finite_differences(two_j_max, species):
    grid = (2, 3, 2)
    settings = BispectrumSettings(cutoff=4.0, two_j_max=two_j_max, **OF_SPECIES.get(species, {}))
    gradient = np.random.default_rng(1).normal(size=(prod(grid), settings.n_components))
    gradient /= np.abs(native(TRICLINIC, POSITIONS, grid, settings)).max(axis=0)
    numbers = numbers_of(POSITIONS, settings)
    found, by_strain = bispectrum_forces(TRICLINIC, POSITIONS, numbers, grid, settings, gradient)
    expected, step = np.zeros((3, 3)), 2e-4  # Å
    for atom, axis in product(range(3), range(3)):
        for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            moved = POSITIONS.copy()
            moved[atom, axis] += shift * step
            expected[atom, axis] -= weight * (gradient * native(TRICLINIC, moved, grid, settings)).sum() / (12 * step)
    np.testing.assert_allclose(found, expected, rtol=3e-8, atol=3e-8 * np.abs(expected).max())
    expected = np.zeros((3, 3))
    for a, b in product(range(3), range(3)):
        for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            strained = np.eye(3)
            strained[a, b] += shift * step
            cell, positions = TRICLINIC @ strained.T, POSITIONS @ strained.T
            expected[a, b] += weight * (gradient * native(cell, positions, grid, settings)).sum() / (12 * step)
    np.testing.assert_allclose(by_strain, expected, rtol=3e-8, atol=3e-8 * np.abs(expected).max())


def test_several_cutoffs_are_the_numbers_of_each_and_their_forces_differences():
    grid, settings = (2, 3, 2), BispectrumSettings(cutoff=4.0, two_j_max=4, inner=[2.5, 3.1])
    step, unit = 2e-4, np.zeros((3, 3))
    unit[1, 0] = 1.0
    alone = [native(TRICLINIC, POSITIONS, grid, BispectrumSettings(cutoff=r, two_j_max=4)) for r in (4.0, 3.1, 2.5)]
    assert (native(TRICLINIC, POSITIONS, grid, settings) == np.concatenate(alone, axis=1)).all()
    gradient = np.random.default_rng(1).normal(size=(prod(grid), settings.n_components))
    forces, _ = bispectrum_forces(TRICLINIC, POSITIONS, np.full(3, 13), grid, settings, gradient)
    moved = (POSITIONS + shift * unit for shift in (step, -step))
    ahead, behind = ((gradient * native(TRICLINIC, positions, grid, settings)).sum() for positions in moved)
    assert forces[1, 0] == pytest.approx((behind - ahead) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("species", ["one", "weights", "weights and radii"])
def test_forces_and_strain_derivatives_are_those_of_lammps(species):
    grid, settings = (3, 5, 4), BispectrumSettings(cutoff=4.68, two_j_max=4, **OF_SPECIES.get(species, {}))
    gradient = np.random.default_rng(1).normal(size=(prod(grid), settings.n_components))
    of = {
        name: bispectrum_forces(
            TRICLINIC,
            POSITIONS,
            numbers_of(POSITIONS, settings),
            grid,
            settings.model_copy(update={"engine": name}),
            gradient,
        )
        for name in ("native", "lammps")
    }
    for ours, theirs in zip(of["native"], of["lammps"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max())


def test_lammps_has_no_forces_of_several_densities():
    settings = BispectrumSettings(cutoff=4.0, two_j_max=2, chem=["Al"], engine="lammps")
    with pytest.raises(InputError, match='LAMMPS gives no forces of descriptors with chem; use engine = "native"'):
        bispectrum_forces(TRICLINIC, POSITIONS, np.full(3, 13), (1, 1, 1), settings, np.ones((1, 5)))


def test_loops_of_equal_length_come_one_after_another():
    table = tables(6)
    for keys in (table.lengths[:, :1], table.blocks.classes[:, :2], table.y_blocks.classes[:, :2]):
        assert [tuple(key) for key in keys] == sorted({tuple(key) for key in keys})
    for classes, n in (
        (table.lengths[:, 1:], len(table.monomials)),
        (table.blocks.classes[:, 2:], len(table.blocks.blocks)),
    ):
        assert list(classes[:, 0]) == [0, *classes[:-1, 1]], "each row is in one class"
        assert classes[-1, 1] == n


def test_threads_and_chunks_give_the_same_numbers(monkeypatch):
    cell, positions, grid = CASES["supercell"]
    whole = native(cell, positions, grid, SMALL)
    gradient = np.random.default_rng(1).normal(size=whole.shape)
    forces, strain = bispectrum_forces(cell, positions, np.full(16, 13), grid, SMALL, gradient)
    monkeypatch.setattr(engine, "CHUNK", 7)
    assert (native(cell, positions, grid, SMALL, threads=3) == whole).all()
    assert (native(cell, positions, grid, SMALL, points=range(11, 50), threads=2) == whole[11:50]).all()
    again = bispectrum_forces(cell, positions, np.full(16, 13), grid, SMALL, gradient, threads=3)
    for found, expected in zip(again, (forces, strain), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_a_large_cell_repeats_the_descriptors_of_a_small_one():
    small, many = bulk("Al", cubic=True), bulk("Al", cubic=True) * (5, 4, 6)  # 480 atoms in many boxes
    settings = BispectrumSettings(cutoff=5.5, two_j_max=2)
    expected = native(small.cell.array, small.positions, (2, 2, 2), settings).reshape(2, 2, 2, -1)
    found = native(many.cell.array, many.positions, (10, 8, 12), settings)
    np.testing.assert_allclose(found, np.tile(expected, (5, 4, 6, 1)).reshape(found.shape), rtol=1e-11)


@pytest.mark.parametrize("cutoff", [0.7, 2.5, 9.0])
@pytest.mark.parametrize("cell", [TRICLINIC, TRICLINIC[[1, 0, 2]], np.diag([4.0, 4.0, 60.0])])
def test_the_boxes_hold_every_image_that_a_point_may_see(cell, cutoff):
    images = images_of(cell, POSITIONS, cutoff)
    n = int(np.ceil(cutoff / min(abs(np.linalg.eigvals(cell))))) + 2
    lattice = np.array(list(product(range(-n, n + 1), range(-n, n + 1), range(-n, n + 1)))) @ cell
    inside = POSITIONS @ np.linalg.inv(cell) % 1.0 @ cell
    every = (inside[:, None] + lattice).reshape(-1, 3)
    for point in np.random.default_rng(2).uniform(size=(5, 3)) @ cell:
        near = np.linalg.norm(images.positions - point, axis=1) < cutoff
        assert near.sum() == (np.linalg.norm(every - point, axis=1) < cutoff).sum()
    box = ((images.positions - images.origin) / images.width).astype(int)
    flat = np.ravel_multi_index(tuple(box.T), tuple(images.n_boxes))
    assert (np.diff(flat) >= 0).all()
    assert (np.searchsorted(flat, np.arange(prod(images.n_boxes) + 1)) == images.first).all()


def test_more_images_than_memory_holds_are_refused():
    with pytest.raises(InputError, match=rf"periodic images lie within the cutoff .* more than {MOST_IMAGES:,}; give"):
        native(np.diag([0.02, 0.02, 0.02]), np.zeros((1, 3)), (2, 2, 2), SMALL)
