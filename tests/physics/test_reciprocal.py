import numpy as np
import pytest

from dftune.trainables.physics.reciprocal import DensitySphere, reciprocal, smallest_grid
from dftune.trainables.physics.units import KINETIC, RYDBERG

TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.1, 3.7, 0.5], [-0.6, 0.9, 4.4]])
CELLS = [np.diag([4.0, 4.5, 5.0]), TRICLINIC, TRICLINIC[[1, 0, 2]]]  # the last one is left-handed
GRID = (15, 16, 20)


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_grid_holds_all_plane_waves_and_no_smaller_one_does(seed):
    rng = np.random.default_rng(seed)
    cell, cutoff = 4 * np.eye(3) + rng.normal(0, 1.2, (3, 3)), rng.uniform(60, 200)
    m = np.stack(np.meshgrid(*[np.arange(-30, 31)] * 3, indexing="ij"), axis=-1)
    inside = KINETIC * ((m @ reciprocal(cell)) ** 2).sum(axis=-1) <= cutoff
    assert smallest_grid(cell, cutoff) == tuple(2 * np.abs(m[inside]).max(axis=0) + 1)


def test_a_strained_hexagonal_cell_takes_the_grid_of_quantum_espresso():
    # pw.x 6.7 chooses 27 x 15 x 24 (of 13 x 21 the next that its FFT likes) for this cell at 100 Ry.
    cell = np.array(
        [[4.663032, 0.0274296, 0.0182864], [-1.1538806, 1.9529079, -0.0045716], [0.0143372, 0.0, 3.6273116]]
    )
    assert smallest_grid(cell, 100 * RYDBERG) == (27, 13, 21)


def sphere_of(cell, cutoff=100.0):
    return DensitySphere(cell, GRID, cutoff)


def points(cell, grid=GRID):
    """r of the grid points, shape (n_x, n_y, n_z, 3) [Å]."""
    return np.moveaxis(np.indices(grid), 0, -1) / grid @ cell


def random_field(seed=0):
    return np.random.default_rng(seed).normal(size=GRID)


@pytest.mark.parametrize("cell", CELLS)
def test_the_sphere_holds_each_plane_wave_below_the_cutoff_once(cell):
    sphere = sphere_of(cell)
    orders = np.moveaxis(np.mgrid[-12:13, -12:13, -12:13], 0, -1).reshape(-1, 3)
    below = KINETIC * ((orders @ reciprocal(cell)) ** 2).sum(axis=1) <= sphere.cutoff
    assert (sphere.inside * sphere.multiplicity).sum() == np.count_nonzero(below) > 100


@pytest.mark.parametrize("length, grid, count", [(4.05, 20, 3575), (8.1, 40, 28257)])
def test_aluminium_has_as_many_plane_waves_as_in_quantum_espresso(length, grid, count):
    # "Dense  grid:     3575 G-vectors     FFT dimensions: (  20,  20,  20)" of pw.x 6.7 at ecutrho = 60 Ry.
    sphere = DensitySphere(np.eye(3) * length, (grid,) * 3, 60 * RYDBERG)
    assert (sphere.inside * sphere.multiplicity).sum() == count


def test_a_plane_wave_on_the_rim_belongs_to_the_sphere_whatever_its_last_digit():
    cell = np.eye(3) * 4.05
    for g in (2 * np.pi / 4.05 * 5, np.sqrt(50) * 2 * np.pi / 4.05):
        for rounding in (1 - 1e-13, 1 + 1e-13):
            sphere = DensitySphere(cell, (15, 15, 15), KINETIC * g**2 * rounding)
            assert np.isclose(sphere.squared[sphere.inside].max(), g**2, rtol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_one_plane_wave_has_its_one_coefficient_its_gradient_and_its_laplacian(cell):
    sphere, order = sphere_of(cell), np.array([1, -1, 2])
    g = order @ reciprocal(cell)
    phase = points(cell) @ g + 0.4
    c = sphere.to_reciprocal(np.cos(phase))
    assert c[1, -1, 2] == pytest.approx(0.5 * np.exp(0.4j), abs=1e-14)
    assert np.abs(c).sum() == pytest.approx(0.5, abs=1e-11)
    np.testing.assert_allclose([sphere.component(axis)[1, -1, 2] for axis in range(3)], g, atol=1e-12)
    np.testing.assert_allclose(sphere.gradient(np.cos(phase)), -g[:, None, None, None] * np.sin(phase), atol=1e-11)
    laplacian = sphere.divergence(sphere.gradient(np.cos(phase)))
    np.testing.assert_allclose(laplacian, -(g @ g) * np.cos(phase), atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_the_inner_product_is_the_integral_of_the_product(cell):
    sphere = sphere_of(cell)
    a, b = sphere.to_reciprocal(random_field(1)), sphere.to_reciprocal(random_field(2))
    expected = sphere.integral(sphere.to_real(a) * sphere.to_real(b))
    assert sphere.inner(a, b) == pytest.approx(expected, rel=1e-12)
    assert sphere.inner(a, a) > 0
    assert sphere.volume == pytest.approx(abs(np.dot(cell[0], np.cross(cell[1], cell[2]))))


def test_going_to_the_sphere_and_back_is_a_projection():
    sphere = sphere_of(TRICLINIC)
    once = sphere.to_real(sphere.to_reciprocal(random_field()))
    assert np.abs(once - random_field()).max() > 0.1
    np.testing.assert_allclose(sphere.to_real(sphere.to_reciprocal(once)), once, atol=1e-13)


def test_single_precision_fields_are_transformed_in_double_precision():
    sphere, field = sphere_of(TRICLINIC), random_field().astype(np.float32)
    np.testing.assert_array_equal(sphere.to_reciprocal(field), sphere.to_reciprocal(field.astype(float)))


@pytest.mark.parametrize("cell", CELLS)
def test_the_divergence_is_minus_the_adjoint_of_the_gradient_for_any_fields(cell):
    sphere, f = sphere_of(cell), random_field(1)
    h = np.stack([random_field(seed) for seed in (2, 3, 4)])
    assert (h * sphere.gradient(f)).sum() == pytest.approx(-(f * sphere.divergence(h)).sum(), rel=1e-10)


@pytest.mark.parametrize("grid, fits", [((9, 11, 13), True), ((8, 11, 13), False), ((9, 11, 12), False)])
def test_a_grid_too_coarse_for_the_sphere_is_refused_with_what_it_needs(grid, fits):
    cell = np.diag([4.0, 5.0, 6.0])
    cutoff = KINETIC * (2 * np.pi * 1.05) ** 2  # 4.2, 5.25 and 6.3 waves along the axes
    if fits:
        assert DensitySphere(cell, grid, cutoff).inside.any()
        return
    with pytest.raises(ValueError, match=r"cannot hold .* which need 9 x 11 x 13 or more; take a finer grid"):
        DensitySphere(cell, grid, cutoff)


def test_the_least_grid_loses_nothing_of_a_skewed_sphere():
    cell = np.array([[4.0, 0.0, 0.0], [3.5, 3.0, 0.0], [-2.0, 1.0, 5.0]])
    wide = DensitySphere(cell, (40, 40, 40), 100.0)
    g = np.sqrt(100.0 / KINETIC)
    least = tuple(2 * int(g * length / (2 * np.pi)) + 1 for length in np.linalg.norm(cell, axis=1))
    narrow = DensitySphere(cell, least, 100.0)
    counts = [(s.inside * s.multiplicity).sum() for s in (narrow, wide)]
    assert counts[0] == counts[1] > 100


def test_what_is_no_sphere_is_refused():
    for flat in (np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]]), np.zeros((3, 3))):
        with pytest.raises(ValueError, match="span no volume"):
            DensitySphere(flat, (9, 9, 9), 1.0)
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        DensitySphere(np.eye(3)[:2], (9, 9, 9), 1.0)
    with pytest.raises(ValueError, match=r"cutoff is 0\.0 eV, but must be positive"):
        DensitySphere(np.eye(3), (9, 9, 9), 0.0)
    with pytest.raises(ValueError, match=r"shape \(15, 16, 11\) does not lie on the grid \(15, 16, 20\)"):
        sphere_of(TRICLINIC).to_reciprocal(np.zeros((15, 16, 11)))
