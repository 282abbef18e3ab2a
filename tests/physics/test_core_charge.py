import numpy as np
import pytest

from dftune.tests.places import DATA
from dftune.trainables.physics.core_charge import core_density, core_forces, form_factor
from dftune.trainables.physics.reciprocal import DensitySphere
from dftune.trainables.physics.units import BOHR

TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.1, 3.7, 0.5], [-0.6, 0.9, 4.4]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [1.9, 2.1, 0.4], [-0.8, 2.9, 5.6]])
GRID = (24, 24, 25)
LOGARITHMIC = np.exp(-7 + 0.0125 * np.arange(1041)) / 4 * BOHR  # as of pslibrary's beryllium, to 100 bohr
UNIFORM = np.linspace(0.0, 6.0, 1201)
WIDTH = 0.35  # Å


def gaussian(radius, width=WIDTH):
    """(2πw²)^(-3/2) exp(-r²/2w²), one electron."""
    return np.exp(-(radius**2) / (2 * width**2)) / (2 * np.pi * width**2) ** 1.5


def sphere_of(cell=TRICLINIC, cutoff=350.0):
    return DensitySphere(cell, GRID, cutoff)


@pytest.mark.parametrize("radius", [LOGARITHMIC, UNIFORM, UNIFORM[:-1]], ids=["logarithmic", "uniform", "even number"])
def test_a_gaussian_core_has_its_analytic_form_factor(radius):
    g = np.linspace(0.0, 15.0, 301)
    found = form_factor(g, radius, gaussian(radius))
    np.testing.assert_allclose(found, np.exp(-((g * WIDTH) ** 2) / 2), atol=1e-8)


def test_an_exponential_core_has_its_analytic_form_factor():
    # exp(-r/b)/(8πb³) has 1/(1 + (Gb)²)²; its cusp at the nucleus is what a logarithmic mesh is for.
    b, g = 0.15, np.linspace(0.0, 15.0, 301)
    found = form_factor(g, LOGARITHMIC, np.exp(-LOGARITHMIC / b) / (8 * np.pi * b**3))
    np.testing.assert_allclose(found, 1 / (1 + (g * b) ** 2) ** 2, atol=1e-7)


def test_radii_beyond_ten_bohr_do_not_count():
    density = np.where(LOGARITHMIC > 10.3 * BOHR, 1.0, gaussian(LOGARITHMIC))
    g = np.linspace(0.0, 5.0, 11)
    np.testing.assert_array_equal(
        form_factor(g, LOGARITHMIC, density), form_factor(g, LOGARITHMIC, gaussian(LOGARITHMIC))
    )
    within = np.where(LOGARITHMIC > 9.0 * BOHR, 1e-3, gaussian(LOGARITHMIC))
    assert form_factor(g, LOGARITHMIC, within)[0] > 1.01


@pytest.mark.parametrize("cell", [TRICLINIC, TRICLINIC[[1, 0, 2]], np.diag([4.0, 4.2, 4.4])])
def test_gaussian_cores_make_gaussians_around_the_atoms_and_their_images(cell):
    found = core_density(sphere_of(cell), POSITIONS, LOGARITHMIC, gaussian(LOGARITHMIC))
    points = np.moveaxis(np.indices(GRID), 0, -1) / GRID @ cell
    expected = np.zeros(GRID)
    for position in POSITIONS @ np.linalg.inv(cell) % 1.0 @ cell:
        for shift in np.ndindex(3, 3, 3):
            distance = np.linalg.norm(points - position - (np.array(shift) - 1) @ cell, axis=-1)
            expected += gaussian(distance)
    # The sphere ends at G = 9.6 1/Å, where the Gaussian has fallen to 4e-3: its tail is left out.
    np.testing.assert_allclose(found, expected, atol=0.03)
    sphere = sphere_of(cell)
    np.testing.assert_allclose(found, sphere.to_real(sphere.to_reciprocal(expected)), atol=1e-4)
    assert sphere.integral(found) == pytest.approx(3.0, abs=1e-7)


def test_the_field_moves_with_its_atom_and_repeats_with_the_cell():
    sphere = sphere_of()
    charge = LOGARITHMIC, gaussian(LOGARITHMIC)
    field = core_density(sphere, POSITIONS, *charge)
    moved = core_density(sphere, POSITIONS + np.array([3, -2, 5]) / GRID @ TRICLINIC, *charge)
    np.testing.assert_allclose(moved, np.roll(field, (3, -2, 5), axis=(0, 1, 2)), atol=1e-12)
    image = core_density(sphere, POSITIONS + np.array([[1, 0, 0], [0, -2, 0], [1, 1, 1]]) @ TRICLINIC, *charge)
    np.testing.assert_allclose(image, field, atol=1e-12)
    one_by_one = sum(core_density(sphere, POSITIONS[[i]], *charge) for i in range(3))
    np.testing.assert_allclose(one_by_one, field, atol=1e-12)


def test_the_interpolated_form_factor_is_that_of_each_plane_wave():
    sphere = sphere_of()
    # The real beryllium core: one atom at the origin has real coefficients c(G)/Ω.
    with np.load(DATA / "free_energy.npz") as data:
        charge = data["be_core_radius"], data["be_core_density"]
    found = sphere.to_reciprocal(core_density(sphere, np.zeros((1, 3)), *charge))[sphere.inside] * sphere.volume
    expected = form_factor(np.sqrt(sphere.squared[sphere.inside]), *charge)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("cell", [TRICLINIC, TRICLINIC[[1, 0, 2]]])
def test_core_forces_are_minus_the_derivative_of_the_energy_in_a_field(cell):
    sphere, charge = sphere_of(cell), (LOGARITHMIC, gaussian(LOGARITHMIC))
    weight = np.random.default_rng(0).normal(size=GRID)
    forces = core_forces(weight, sphere, POSITIONS, *charge)

    def energy(atom, axis, h):
        moved = POSITIONS.copy()
        moved[atom, axis] += h
        return sphere.integral(weight * core_density(sphere, moved, *charge))

    for atom in range(3):
        for axis in range(3):
            slope = (energy(atom, axis, 1e-4) - energy(atom, axis, -1e-4)) / 2e-4
            assert -slope == pytest.approx(forces[atom, axis], abs=1e-6)
    assert np.abs(forces).max() > 1e-2
    np.testing.assert_allclose(core_forces(np.ones(GRID), sphere, POSITIONS, *charge), 0, atol=1e-10)


def test_meshes_that_cannot_be_are_refused():
    g = np.ones(1)
    with pytest.raises(ValueError, match=r"shape \(4,\) does not lie on a radial mesh \(5,\)"):
        form_factor(g, np.arange(5.0), np.ones(4))
    with pytest.raises(ValueError, match="does not increase after point 1"):
        form_factor(g, np.array([0.0, 1.0, 1.0, 2.0, 3.0]), np.ones(5))
