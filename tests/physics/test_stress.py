"""Stresses of Quantum ESPRESSO, term by term, from its own densities of strained cells."""

import json
from itertools import combinations_with_replacement

import numpy as np
import pytest

from dftune.tests.places import DATA
from dftune.trainables.physics.core_charge import core_density
from dftune.trainables.physics.ewald import ewald
from dftune.trainables.physics.free_energy import density_energies, density_strain
from dftune.trainables.physics.reciprocal import DensitySphere, fractional
from dftune.trainables.physics.units import RYDBERG

KBAR = 1602.1766  # in an eV/Å³
STEP = 1e-4
NAMES = ["al4-volume", "al4-shear", "be4-shear"]


class Case:
    """A calculation, and what our functional makes of its density."""

    def __init__(self, name):
        self.qe = json.loads((DATA / "stress.json").read_text())[name]
        with np.load(DATA / "stress.npz") as densities:
            self.density = densities[name].astype(float)
        self.cell, self.positions = np.array(self.qe["cell"]), np.array(self.qe["positions"])
        self.sphere = DensitySphere(self.cell, self.density.shape, self.qe["ecutrho_ry"] * RYDBERG)
        with np.load(DATA / "free_energy.npz") as data:
            self.charge = data["be_core_radius"], data["be_core_density"]
        self.strained = {}  # whether electrons stay -> what ``slope`` needs

    def stress(self, *terms):
        """Quantum ESPRESSO's, as ∂E/∂ε / Ω [eV/Å³]; it prints -∂E/∂ε / Ω."""
        return -sum(np.array(self.qe["stress_kbar"][term]) for term in terms) / KBAR

    def core(self, sphere):
        if self.qe["functional"] == "lda-pz":
            return None
        return core_density(sphere, fractional(self.positions, self.cell) @ sphere.cell, *self.charge)

    def energies(self, strain, *, electrons_stay):
        """In the strained cell, with the number of electrons or with the density at each grid point as it was."""
        there = self.sphere.strained(strain)
        n = self.density * self.sphere.volume / there.volume if electrons_stay else self.density
        return density_energies(n, there, self.qe["functional"], self.core(there))

    def slope(self, energy, *, electrons_stay):
        """Derivative of a function of ``energies`` with respect to strain, a volume [eV/Å³]."""
        if electrons_stay not in self.strained:
            self.strained[electrons_stay] = list(self._strained(electrons_stay))
        found = np.empty((3, 3))
        for a, b, more, less in self.strained[electrons_stay]:
            found[a, b] = found[b, a] = energy(more) - energy(less)
        return found / (2 * STEP * self.sphere.volume)

    def _strained(self, electrons_stay):
        """Both axes of each strain, and the energies of it and of its opposite."""
        for a, b in combinations_with_replacement(range(3), 2):
            strain = np.zeros((3, 3))
            strain[a, b] += STEP / 2
            strain[b, a] += STEP / 2
            yield a, b, *(self.energies(sign * strain, electrons_stay=electrons_stay) for sign in (1, -1))


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return Case(request.param)


def test_the_stress_of_the_ions_is_that_of_quantum_espresso(case):
    _, _, strain = ewald(case.cell, case.positions, np.full(4, case.qe["charge"]))
    np.testing.assert_allclose(strain / case.sphere.volume, case.stress("ewald"), atol=1e-5)


def test_the_hartree_stress_is_that_of_quantum_espresso(case):
    found = case.slope(lambda e: e.hartree, electrons_stay=True)
    np.testing.assert_allclose(found, case.stress("hartree"), atol=1e-5)


def test_the_stress_of_exchange_and_correlation_is_that_of_quantum_espresso(case):
    found = case.slope(lambda e: e.xc, electrons_stay=True)
    np.testing.assert_allclose(found, case.stress("xc", "core"), atol=1e-5)
    if case.qe["functional"] == "pbe":
        assert np.abs(case.stress("core")).max() > 0.01, "there is a core to compare"


def test_the_strain_derivative_of_a_prediction_is_that_of_these_terms(case):
    """The rest of it, ∫ v_xc n dr, is no term of Quantum ESPRESSO's: it prints that of E_xc at fixed electrons."""
    found = density_strain(case.density, case.sphere, case.qe["functional"], case.core) / case.sphere.volume
    terms = case.slope(lambda e: e.xc - e.xc_potential - e.hartree, electrons_stay=False)
    np.testing.assert_allclose(found, terms, atol=1e-9)
    # With the density goes E_H as its square: 2 E_H a unit of strain along an axis.
    whole = case.energies(np.zeros((3, 3)), electrons_stay=True)
    fixed = case.slope(lambda e: e.hartree, electrons_stay=False)
    moved = case.stress("hartree") + 2 * whole.hartree / case.sphere.volume * np.eye(3)
    np.testing.assert_allclose(fixed, moved, atol=1e-5)
