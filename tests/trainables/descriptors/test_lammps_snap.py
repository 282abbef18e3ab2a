import ase.build
import numpy as np
import pytest

from dftune.trainables.descriptors.lammps_snap import linear, run_potential, write_potential
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError

ONE = BispectrumSettings(cutoff=4.5, two_j_max=4, weights={"Al": 1.0})
TWO = BispectrumSettings(cutoff=4.5, two_j_max=4, weights={"Al": 1.0, "Mg": 0.6}, radii={"Mg": 0.52})


@pytest.fixture
def crystal():
    """Eight atoms in a triclinic cell, two of them magnesium, some outside the cell."""
    atoms = ase.build.bulk("Al", cubic=True, a=4.05).repeat((2, 1, 1))
    strain = np.array([[0.02, 0.01, 0], [0.05, -0.03, 0.02], [0, 0.04, 0.01]])
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.1, (8, 3))
    return atoms


@pytest.mark.parametrize("settings", [ONE, TWO], ids=["one species", "two"])
def test_products_are_what_lammps_makes_of_the_written_files(crystal, settings, tmp_path):
    if settings is TWO:
        crystal.symbols[[1, 6]] = "Mg"
    n = len(settings.species) * (1 + settings.n_components)
    coefficients = np.random.default_rng(1).normal(size=n)
    found = linear(crystal, settings)
    style, coeff = write_potential(tmp_path, "test", coefficients, settings)
    lines = [style, coeff.replace("test.", f"{tmp_path}/test.")]
    energy, forces, stress = run_potential(crystal, lines, settings.species)
    assert found.energy @ coefficients == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(found.forces @ coefficients, forces, atol=1e-10 * np.abs(forces).max())
    np.testing.assert_allclose(found.stress @ coefficients, stress, atol=1e-10 * np.abs(stress).max())


def test_forces_and_stress_are_derivatives_of_the_energy(crystal):
    found, step = linear(crystal, ONE), 1e-4

    def energy(change):
        moved = crystal.copy()
        change(moved)
        return linear(moved, ONE).energy

    def move(by):
        return lambda atoms: atoms.positions.__setitem__((3, 1), atoms.positions[3, 1] + by)

    def strain(by):
        e = np.zeros((3, 3))
        e[0, 1] = e[1, 0] = by / 2
        return lambda atoms: atoms.set_cell(atoms.cell @ (np.eye(3) + e), scale_atoms=True)

    slope = (energy(move(step)) - energy(move(-step))) / (2 * step)
    np.testing.assert_allclose(found.forces[3, 1], -slope, atol=1e-5 * np.abs(slope).max())
    slope = (energy(strain(step)) - energy(strain(-step))) / (2 * step) / crystal.get_volume()
    np.testing.assert_allclose(found.stress[0, 1], slope, atol=1e-5 * np.abs(slope).max())


def test_an_atom_of_another_species_is_refused(crystal):
    crystal.symbols[0] = "Cu"
    with pytest.raises(InputError, match="do not know Cu"):
        linear(crystal, TWO)
