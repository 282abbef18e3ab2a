import numpy as np
import pytest

from dftune.trainables.physics.energies import energies, n_electrons
from dftune.trainables.physics.local import density, dos


def test_the_dos_of_a_uniform_ldos_is_the_ldos_times_the_volume():
    ldos = np.broadcast_to(np.array([0.1, 0.2, 0.3]), (4, 5, 6, 3))
    np.testing.assert_allclose(dos(ldos, volume=66.43), [6.643, 13.286, 19.929], rtol=1e-14)


def test_the_dos_does_not_care_how_grid_points_are_laid_out(al4):
    snapshot = al4["001"]
    ldos = al4.ldos(snapshot).array()
    flat = dos(ldos, volume=snapshot.volume)
    np.testing.assert_array_equal(flat, dos(ldos.reshape(*snapshot.grid, -1), volume=snapshot.volume))
    shuffled = np.random.default_rng(0).permutation(ldos)
    np.testing.assert_allclose(flat, dos(shuffled, volume=snapshot.volume), rtol=1e-13)


def test_the_dos_of_a_half_precision_ldos_is_summed_in_double_precision():
    # 8000 numbers of 0.04 add up to 320, where float16 has steps of 0.25.
    ldos = np.random.default_rng(0).uniform(0.03, 0.05, size=(8000, 3)).astype(np.float16)
    np.testing.assert_allclose(dos(ldos, volume=1.0), ldos.astype(float).mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize("rule", ["least-squares", "linear"])
def test_the_density_integrates_to_the_electrons_of_the_dos(al4, rule):
    snapshot, quadrature = al4["002"], al4.info.energy_grid.quadrature(rule)
    at = {"fermi_level": 7.2, "temperature": snapshot.temperature}
    ldos = al4.ldos(snapshot).array().reshape(*snapshot.grid, -1)
    n = density(ldos, quadrature, **at)
    assert n.shape == snapshot.grid
    counted = n_electrons(dos(ldos, volume=snapshot.volume), quadrature, **at)
    assert n.mean() * snapshot.volume == pytest.approx(counted, rel=1e-12)


def density_difference(dataset, snapshot, rule):
    """∫ |n - n_QE| dr / N."""
    quadrature, ldos = dataset.info.energy_grid.quadrature(rule), dataset.ldos(snapshot).array()
    curve = dos(ldos, volume=snapshot.volume)
    level = energies(curve, quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature).fermi_level
    n = density(ldos, quadrature, fermi_level=level, temperature=snapshot.temperature)
    difference = np.abs(n - dataset.density(snapshot).array()).mean()
    return difference * snapshot.volume / snapshot.n_electrons


def test_the_density_from_the_ldos_is_that_of_quantum_espresso(al4):
    # Measured over the 12 snapshots: 3.7e-5 to 5.3e-5 of the electrons are elsewhere; 2.5e-4 to 5.7e-4 by the linear
    # rule.
    found = np.array([density_difference(al4, s, "least-squares") for s in al4.snapshots])
    linear = np.array([density_difference(al4, s, "linear") for s in al4.snapshots])
    assert found.max() < 2e-4
    assert (linear > 3 * found).all()
