import numpy as np
import pytest
from scipy.special import erf

from dftune.trainables.physics.ewald import ewald
from dftune.trainables.physics.hartree import hartree
from dftune.trainables.physics.reciprocal import DensitySphere, reciprocal
from dftune.trainables.physics.units import COULOMB

TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.1, 3.7, 0.5], [-0.6, 0.9, 4.4]])
GRID = (18, 16, 20)


def sphere_of(cell=TRICLINIC, grid=GRID, cutoff=150.0):
    return DensitySphere(cell, grid, cutoff)


def random_density(sphere, seed=0):
    noise = np.random.default_rng(seed).normal(size=sphere.grid)
    return 0.2 + 0.05 * sphere.to_real(sphere.to_reciprocal(noise))


def gaussians(cell, grid, centre, width):
    """Unit charges (2πw²)^(-3/2) exp(-r²/2w²) at a centre and its images."""
    r = np.moveaxis(np.indices(grid), 0, -1) / grid @ cell - centre
    total = np.zeros(grid)
    for shift in np.ndindex(3, 3, 3):  # the centre is in the cell
        total += np.exp(-((r + (np.array(shift) - 1) @ cell) ** 2).sum(axis=-1) / (2 * width**2))
    return total / (2 * np.pi * width**2) ** 1.5


def test_the_energy_of_two_charges_far_from_all_others_is_that_of_coulomb():
    # Two unit Gaussians of width w apart by d: 2 e²/(2w√π) + e² erf(d/2w)/d, beside what the periodic images do,
    # which is that of point charges (the Gaussians do not overlap with them) and of the background.
    cell, width, grid = np.eye(3) * 8.0, 0.6, (40, 40, 40)
    places = np.array([[3.0, 4.0, 4.0], [5.0, 4.5, 3.8]])
    density = sum(gaussians(cell, grid, p, width) for p in places)
    energy, _ = hartree(density, DensitySphere(cell, grid, 250.0))
    d = np.linalg.norm(places[0] - places[1])
    points, _, _ = ewald(cell, places, np.ones(2))
    itself = 2 * COULOMB / (2 * width * np.sqrt(np.pi)) - COULOMB * (1 - erf(d / (2 * width))) / d
    # The mean of a Gaussian's potential differs from that of a point charge by 2π e² w²/Ω, for each of the 2 x 2.
    background = 2**2 * 2 * np.pi * COULOMB * width**2 / 8.0**3
    assert energy == pytest.approx(points + itself + background, abs=1e-7)


@pytest.mark.parametrize("cell", [np.diag([4.0, 4.5, 5.0]), TRICLINIC, TRICLINIC[[1, 0, 2]]])
def test_a_plane_wave_has_the_energy_and_the_potential_of_its_one_term(cell):
    sphere = sphere_of(cell)
    g = np.array([1, -1, 2]) @ reciprocal(cell)
    wave = np.cos(np.moveaxis(np.indices(GRID), 0, -1) / GRID @ cell @ g)
    energy, potential = hartree(0.3 + 0.1 * wave, sphere)
    np.testing.assert_allclose(potential, 4 * np.pi * COULOMB / (g @ g) * 0.1 * wave, atol=1e-12)
    assert energy == pytest.approx(np.pi * COULOMB * sphere.volume * 0.1**2 / (g @ g), rel=1e-12)


def test_the_potential_solves_the_equation_of_poisson():
    sphere = sphere_of()
    density = random_density(sphere)
    _, potential = hartree(density, sphere)
    charge = -4 * np.pi * COULOMB * (density - density.mean())
    np.testing.assert_allclose(sphere.divergence(sphere.gradient(potential)), charge, atol=1e-10)
    assert potential.mean() == pytest.approx(0.0, abs=1e-13)


def test_the_potential_is_the_derivative_of_the_energy():
    sphere, rng = sphere_of(), np.random.default_rng(1)
    density, change = random_density(sphere), rng.normal(size=GRID)
    slope = hartree(density + change, sphere)[0] - hartree(density - change, sphere)[0]  # E_H is quadratic: exact
    assert slope / 2 == pytest.approx(sphere.integral(hartree(density, sphere)[1] * change), rel=1e-10)


def test_a_uniform_density_has_none_and_no_density_has_less():
    sphere = sphere_of()
    energy, potential = hartree(np.full(GRID, 0.3), sphere)
    assert energy == pytest.approx(0.0, abs=1e-25)
    assert np.abs(potential).max() < 1e-12
    assert hartree(random_density(sphere), sphere)[0] > 0


def test_what_lies_outside_the_sphere_does_not_count():
    sphere = sphere_of()
    noise = np.random.default_rng(0).normal(size=GRID)
    inside = sphere.to_real(sphere.to_reciprocal(noise))
    assert hartree(noise, sphere)[0] == pytest.approx(hartree(inside, sphere)[0], rel=1e-12)


def test_the_unit_of_charge_is_that_of_codata():
    assert pytest.approx(14.3996454, abs=1e-7) == COULOMB  # e²/(4πε₀) [eV Å], CODATA 2018
