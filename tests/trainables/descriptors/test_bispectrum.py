import math
import sys
from functools import cache
from itertools import permutations, product
from math import cos, factorial, pi

import numpy as np
import pytest

from dftune.tests.places import DATA
from dftune.trainables.descriptors.bispectrum import bispectrum, bispectrum_forces
from dftune.trainables.descriptors.check import compare_engines, has_numba
from dftune.trainables.descriptors.native.forward import pair_derivatives
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.descriptors.slabs import slabs
from dftune.trainables.descriptors.species import species_of
from dftune.trainables.errors import InputError

CHEAP = BispectrumSettings(cutoff=4.68, two_j_max=4)
WEIGHTED = BispectrumSettings(two_j_max=2, weights={"Al": 1, "Mg": 0.7})
DENSITIES = BispectrumSettings(two_j_max=2, chem=["Al", "Mg"])
TRICLINIC = np.array([[4.1, 0.1, -0.3], [1.3, 3.9, 0.2], [-0.7, 0.4, 4.4]])  # Å, no vector along an axis
ALUMINIUM = np.array([13, 13, 13])
POSITIONS = np.random.default_rng(0).uniform(size=(3, 3)) @ TRICLINIC  # Å
GRID = (6, 5, 4)

# fcc aluminium at rest, 4 atoms on a 20³ grid, LDOS in 1/(eV Å³) at -4, -1, 2, 5 and 8 eV: Quantum ESPRESSO 6.7,
# LDA-PZ, norm-conserving Al.pz-vbc, 15/60 Ry, 10x10x10 k, 0.02 Ry; pp.x with a Gaussian of 0.5 eV, stored as float16.
PERFECT = DATA / "al4_perfect.npz"


@cache
def clebsch_gordan(j1, m1, j2, m2, j, m):
    """⟨j1 m1 j2 m2 | j m⟩, all arguments doubled.  By Racah's formula."""

    def f(doubled):
        return factorial(doubled // 2)

    delta = f(j1 + j2 - j) * f(j1 - j2 + j) * f(j2 - j1 + j) / f(j1 + j2 + j + 2)
    sides = f(j1 + m1) * f(j1 - m1) * f(j2 + m2) * f(j2 - m2) * f(j + m) * f(j - m)
    total = 0.0
    for z in range(0, j1 + j2 - j + 1, 2):
        terms = (j1 + j2 - j - z, j1 - m1 - z, j2 + m2 - z, j - j2 + m1 + z, j - j1 - m2 + z)
        if min(terms) >= 0:
            total += (-1) ** (z // 2) / (f(z) * np.prod([float(f(t)) for t in terms]))
    return (delta * sides * (j + 1)) ** 0.5 * total


def one_neighbour(distance, settings):
    """B of a point with one atom at ``distance``: on the axis of rotation, u^j_mm' = δ_mm' (1 + f_c exp(-2imθ₀))."""
    cutoff, n = settings.cutoff, settings.two_j_max
    switch = 0.5 * (1 + cos(pi * distance / cutoff)) if distance < cutoff else 0.0
    angle = 0.99363 * pi * distance / cutoff  # θ₀; m below is doubled

    def u(m):
        return 1 + switch * np.exp(-1j * m * angle)

    components = []
    for j1, j2 in ((a, b) for a in range(n + 1) for b in range(a + 1)):
        for j in range(max(j1, j1 - j2), min(n, j1 + j2) + 1):
            if (j1 + j2 + j) % 2 == 0:
                pairs = [(m1, m2) for m1 in range(-j1, j1 + 1, 2) for m2 in range(-j2, j2 + 1, 2) if abs(m1 + m2) <= j]
                b = sum(
                    clebsch_gordan(j1, m1, j2, m2, j, m1 + m2) ** 2 * np.conj(u(m1 + m2)) * u(m1) * u(m2)
                    for m1, m2 in pairs
                )
                components.append(b.real)
    return np.array(components)


def fit_r2(descriptors, ldos):
    """R² of a ridge regression from (B, B²) to the LDOS, over all grid points."""
    phi = np.concatenate([descriptors, descriptors**2], axis=1).astype(float)
    phi = (phi - phi.mean(axis=0)) / phi.std(axis=0)
    rest = ldos - ldos.mean(axis=0)
    weights = np.linalg.solve(phi.T @ phi + 1e-3 * np.eye(phi.shape[1]), phi.T @ rest)
    return 1 - ((rest - phi @ weights) ** 2).sum() / (rest**2).sum()


@pytest.fixture(scope="module")
def reference():
    """Descriptors of three atoms in a triclinic cell smaller than the cutoff."""
    return bispectrum(TRICLINIC, POSITIONS, ALUMINIUM, GRID, CHEAP)


@pytest.mark.parametrize("two_j_max, n_components", [(2, 5), (4, 14), (6, 30), (8, 55), (10, 91), (12, 140), (14, 204)])
def test_the_number_of_components_is_that_of_lammps(two_j_max, n_components):
    settings = BispectrumSettings(cutoff=3.0, two_j_max=two_j_max)
    assert settings.n_components == n_components
    assert bispectrum(TRICLINIC, POSITIONS, ALUMINIUM, (2, 1, 1), settings).shape == (2, n_components)


@pytest.mark.parametrize("settings", [CHEAP, BispectrumSettings(cutoff=3.7, two_j_max=6)])
def test_with_one_neighbour_the_bispectrum_is_its_closed_form(settings):
    distances = 0.5 * np.arange(1, 11)  # Å, beyond the cutoff too
    found = bispectrum(10.0 * np.eye(3), np.zeros((1, 3)), ALUMINIUM[:1], (20, 1, 1), settings)[1:11]
    expected = [one_neighbour(r, settings) for r in distances]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("x", [0.0, 1e-6, -1e-4])
def test_a_grid_point_on_an_atom_sees_that_atom_as_its_neighbours_do(x):
    # LAMMPS itself leaves out a neighbour closer than 1e-10 Å, and the descriptor jumps by a factor of up to 8.
    found = bispectrum(10.0 * np.eye(3), np.array([[x, 0.0, 0.0]]), ALUMINIUM[:1], (1, 1, 1), CHEAP)
    np.testing.assert_allclose(found[0], one_neighbour(0.0, CHEAP), rtol=1e-5)


def test_descriptors_are_those_of_the_dft_grid_point(al4):
    # Measured R²: 0.9994 as it is, 0.948 at most with axes exchanged, 0.861 at most one voxel off.
    snapshot = al4["001"]  # displaced by 0.10 Å
    ldos = al4.ldos(snapshot).array().astype(float)
    settings = BispectrumSettings(cutoff=4.68, two_j_max=8)
    flat = bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, settings)
    grid = flat.reshape(*snapshot.grid, -1)
    assert fit_r2(flat, ldos) > 0.999
    for axes in list(permutations(range(3)))[1:]:
        assert fit_r2(grid.transpose(*axes, 3).reshape(flat.shape), ldos) < 0.95
    for axis in range(3):
        assert fit_r2(np.roll(grid, 1, axis=axis).reshape(flat.shape), ldos) < 0.9


def test_descriptors_and_ldos_share_the_symmetry_of_the_crystal():
    crystal = np.load(PERFECT)
    ldos = crystal["ldos"].astype(float)  # [nx, ny, nz, n_energy]
    flat = bispectrum(crystal["cell"], crystal["positions"], np.full(4, 13), ldos.shape[:3], CHEAP)
    descriptors, index = flat.reshape(*ldos.shape[:3], -1), np.indices((20, 20, 20))

    def asymmetry(values, axes, signs, shift):
        moved = [(signs[a] * index[axes[a]] + shift[a]) % 20 for a in range(3)]
        return np.abs(values[tuple(moved)] - values).max() / np.abs(values).max()

    # The 48 operations of the cube about an atom with the 4 translations of the face-centred lattice; off by one
    # voxel, the descriptors change by 14 % of their largest and more, the LDOS by a third and more.
    centres = [(0, 0, 0), (0, 10, 10), (10, 0, 10), (10, 10, 0)]
    for axes, signs, centre in product(permutations(range(3)), product((1, -1), repeat=3), centres):
        assert asymmetry(descriptors, axes, signs, centre) < 1e-5
        assert asymmetry(ldos, axes, signs, centre) < 2e-3  # QE's symmetrisation and half precision
        beside = (centre[0] + 1, *centre[1:])
        assert asymmetry(descriptors, axes, signs, beside) > 0.1
        assert asymmetry(ldos, axes, signs, beside) > 0.3


def test_on_the_crystal_equal_descriptors_mean_equal_ldos():
    crystal = np.load(PERFECT)
    flat = bispectrum(crystal["cell"], crystal["positions"], np.full(4, 13), (20, 20, 20), CHEAP)
    ldos = crystal["ldos"].reshape(8000, -1).astype(float)
    kinds = np.unique(np.round(flat, 1), axis=0, return_inverse=True)[1].ravel()
    assert kinds.max() + 1 == 91  # kinds of points of a 20³ grid under Fm-3m
    for kind in range(91):
        assert np.ptp(ldos[kinds == kind], axis=0).max() < 1e-4  # of 0.02
    # Measured R² 0.99994, and 0.784 one voxel off.
    assert fit_r2(flat, ldos) > 0.999
    assert fit_r2(np.roll(flat.reshape(20, 20, 20, -1), 1, axis=0).reshape(8000, -1), ldos) < 0.9


def test_descriptors_do_not_see_a_rotation_of_the_whole_cell(reference):
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    found = bispectrum(TRICLINIC @ rotation, POSITIONS @ rotation, ALUMINIUM, GRID, CHEAP)
    np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)


def test_descriptors_do_not_see_the_order_of_atoms_nor_the_cell_they_are_given_in(reference):
    moved = POSITIONS + np.array([[1, 0, 0], [0, -2, 0], [3, 1, -1]]) @ TRICLINIC
    for positions in (POSITIONS[[2, 0, 1]], moved):
        found = bispectrum(TRICLINIC, positions, ALUMINIUM, GRID, CHEAP)
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)


def test_descriptors_do_not_see_which_cell_spans_the_lattice(reference):
    other = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ TRICLINIC
    found = bispectrum(other, POSITIONS, ALUMINIUM, (1, 1, 1), CHEAP)
    np.testing.assert_allclose(found[0], reference[0], rtol=1e-5, atol=1e-5)


def test_moving_all_atoms_by_grid_steps_rolls_the_descriptors(reference):
    steps = np.array([2, -1, 1])
    moved = bispectrum(TRICLINIC, POSITIONS + steps / GRID @ TRICLINIC, ALUMINIUM, GRID, CHEAP)
    expected = np.roll(reference.reshape(*GRID, -1), steps, axis=(0, 1, 2)).reshape(reference.shape)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-5)


def test_a_left_handed_cell_has_the_descriptors_of_its_grid_points(reference):
    swapped = bispectrum(TRICLINIC[[1, 0, 2]], POSITIONS, ALUMINIUM, (5, 6, 4), CHEAP)
    expected = reference.reshape(*GRID, -1).transpose(1, 0, 2, 3).reshape(reference.shape)
    np.testing.assert_allclose(swapped, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("largest", [120, 119, 60, 7, 1])
def test_slabs_of_a_grid_together_are_the_grid(reference, largest):
    found = np.full((*GRID, CHEAP.n_components), np.nan, dtype=np.float32)
    for slab in slabs(GRID, largest):
        assert np.prod(slab.grid) <= largest
        values = bispectrum(TRICLINIC, slab.shifted(TRICLINIC, POSITIONS), ALUMINIUM, slab.grid, CHEAP)
        found[slab.index] = values.reshape(*slab.grid, -1)
    np.testing.assert_allclose(found.reshape(reference.shape), reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", [TRICLINIC, TRICLINIC[[1, 0, 2]]], ids=["right-handed", "left-handed"])
def test_planes_and_rows_of_a_grid_are_those_of_the_whole(cell):
    reference = bispectrum(cell, POSITIONS, ALUMINIUM, GRID, CHEAP)
    (_, ny, nz), n = GRID, math.prod(GRID)
    planes = [range(start, start + ny * nz) for start in range(0, n, ny * nz)]
    for points in (*planes, range(ny * nz, n), range(nz, 4 * nz), range(n - nz, n)):
        found = bispectrum(cell, POSITIONS, ALUMINIUM, GRID, CHEAP, points=points)
        expected = reference[points.start : points.stop]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(reference).max())


@pytest.mark.parametrize("cell", [TRICLINIC, TRICLINIC[[1, 0, 2]]], ids=["right-handed", "left-handed"])
def test_forces_of_a_linear_energy_are_its_finite_differences(cell):
    # E = Σ g·B with random g.
    for grid in (GRID, (5, 10, 6)):
        gradient = np.random.default_rng(1).normal(size=(int(np.prod(grid)), CHEAP.n_components))
        gradient /= np.abs(bispectrum(cell, POSITIONS, ALUMINIUM, grid, CHEAP)).mean(axis=0)
        found, _ = bispectrum_forces(cell, POSITIONS, ALUMINIUM, grid, CHEAP, gradient)
        step, expected = 0.003, np.zeros((3, 3))  # Å; descriptors are float32
        for atom, axis in product(range(3), range(3)):
            for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):  # the five-point rule
                moved = POSITIONS.copy()
                moved[atom, axis] += shift * step
                energy = (gradient * bispectrum(cell, moved, ALUMINIUM, grid, CHEAP).astype(float)).sum()
                expected[atom, axis] -= weight * energy / (12 * step)
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_supercell_repeats_the_descriptors_of_its_cell(reference, axis):
    times = np.eye(3, dtype=int)[axis] + 1
    positions = np.concatenate([POSITIONS, POSITIONS + TRICLINIC[axis]])
    found = bispectrum(times[:, None] * TRICLINIC, positions, np.full(6, 13), tuple(times * GRID), CHEAP)
    expected = np.tile(reference.reshape(*GRID, -1), (*times, 1)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fractional", [-1e-17, -1e-16, 1e-17, 1 - 1e-16, 1.0])
def test_an_atom_on_the_face_of_the_cell_is_not_lost(fractional):
    at_face = bispectrum(TRICLINIC, np.full((1, 3), fractional) @ TRICLINIC, ALUMINIUM[:1], GRID, CHEAP)
    inside = bispectrum(TRICLINIC, np.full((1, 3), 1e-9) @ TRICLINIC, ALUMINIUM[:1], GRID, CHEAP)
    np.testing.assert_allclose(at_face[1:], inside[1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"numbers": np.array([13, 13, 4])}, r"cannot tell Al, Be apart; give each a weight .*, or each a density"),
        ({"numbers": np.array([13, 4, 4]), "settings": WEIGHTED}, "for Al, Mg do not know Be; name all .* in weights"),
        ({"numbers": np.array([13, 4, 4]), "settings": DENSITIES}, "for Al, Mg do not know Be; name all .* in chem"),
        ({"cell": np.diag([4.0, 4.0, 0.0])}, "the cell vectors are coplanar; give the cell a volume"),
        ({"grid": (300, 300, 300)}, "a grid of 300 x 300 x 300 points is outside 1 to 20,000,000"),
        ({"grid": (20, 20, 0)}, "a grid of 20 x 20 x 0 points is outside 1 to 20,000,000"),
    ],
)
def test_what_has_no_descriptors_is_refused(changed, message):
    given = {"cell": TRICLINIC, "positions": POSITIONS, "numbers": ALUMINIUM, "grid": GRID, "settings": CHEAP}
    with pytest.raises(InputError, match=message):
        bispectrum(**given | changed)


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "dftune.trainables.descriptors.native.compiled", None)
    has_numba.cache_clear()
    yield
    has_numba.cache_clear()


def test_without_numba_lammps_computes_and_says_so_once(without_numba, capsys, reference):
    for _ in range(2):
        found = bispectrum(TRICLINIC, POSITIONS, ALUMINIUM, GRID, CHEAP, threads=2)
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dftune computes descriptors by LAMMPS, some 15 times slower: numba cannot be loaded in Py")


def test_what_needs_numba_says_so_without_it(without_numba):
    given = TRICLINIC, POSITIONS, ALUMINIUM, GRID, CHEAP
    with pytest.raises(InputError, match="nothing to compare: the native engine needs numba, which cannot be loaded"):
        compare_engines(TRICLINIC, POSITIONS, species_of(ALUMINIUM, CHEAP), GRID, CHEAP)
    with pytest.raises(InputError, match="derivatives of descriptors along each neighbour need numba"):
        pair_derivatives(*given, points=[0])
