"""Two species from descriptors to forces, on real LDOS; only functional and core charge are made up."""

import ase
import numpy as np
import pytest

from dftune import BispectrumSettings, Model
from dftune.tests.small_model import small_model
from dftune.trainables.data.kohn_sham import CoreCharge, KohnSham
from dftune.trainables.errors import InputError

SETTINGS = {
    "weights": BispectrumSettings(cutoff=3.0, two_j_max=4, weights={"Al": 1.0, "Mg": 0.5}, radii={"Mg": 0.55}),
    "densities": BispectrumSettings(cutoff=3.0, two_j_max=2, chem=["Al", "Mg"]),
}


RADIUS = np.linspace(0.0, 3.0, 301)  # Å
# A smooth core charge of magnesium alone: where a total density is negative, the energy has kinks.
CORE = CoreCharge(radius=tuple(RADIUS), density=tuple(np.exp(-((RADIUS / 0.8) ** 2)) / 2.85))
DFT = KohnSham(functional="lda-pz", density_cutoff=500.0, core_charges={"Mg": CORE})


@pytest.fixture(scope="module", params=SETTINGS)
def alloy(request, almg) -> Model:
    made = small_model(almg, SETTINGS[request.param])
    return Model.assemble(made.card.model_copy(update={"dft": DFT}), made.surrogate.tensors())


@pytest.fixture(scope="module")
def atoms(almg) -> ase.Atoms:
    s = almg["002"]
    return ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)


def test_electrons_and_ions_are_those_of_each_species(alloy, atoms, almg):
    found = alloy.predict(atoms)
    assert found.n_electrons == 5
    assert found.ewald_energy == pytest.approx(almg["002"].ewald_energy, abs=1e-3)
    assert found.band_energy == pytest.approx(almg["002"].band_energy, abs=0.3)


def test_forces_are_finite_differences_whatever_the_species(alloy, atoms):
    found, step = alloy.predict(atoms, stress=True), 0.005
    for atom, axis in ((0, 0), (1, 2)):
        slope = 0.0
        for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            moved = atoms.copy()
            moved.positions[atom, axis] += shift * step
            slope += weight * alloy.predict(moved).free_energy / (12 * step)
        assert found.forces[atom, axis] == pytest.approx(-slope, abs=3e-4)
    assert np.abs(found.forces).max() > 0.1
    slope = 0.0
    for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
        strained = atoms.copy()
        strained.set_cell(np.array(atoms.cell) @ (np.eye(3) + 0.003 * shift * np.diag([0, 1, 0])), scale_atoms=True)
        slope += weight * alloy.predict(strained, grid=found.grid).free_energy / (12 * 0.003)
    assert found.stress[1, 1] == pytest.approx(slope / atoms.get_volume(), abs=2e-4)


def test_a_warm_surrogate_of_an_alloy_and_one_that_does_not_know_an_element(alloy, atoms):
    alloy.surrogate.warm_up(1)
    other = atoms.copy()
    other.numbers = np.array([13, 4])
    with pytest.raises(InputError, match="the model knows Al, Mg but not Be"):
        alloy.predict(other)


def test_terms_of_an_alloy_are_judged_by_those_of_the_dft(alloy, almg):
    (found,) = alloy.check(almg, forces=True).snapshots
    assert found.id == "002"
    assert abs(found.energies["ewald_energy"]) < 1.0  # meV/atom
    assert found.forces.shape == found.dft_forces.shape == (2, 3)
