from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from dftune.trainables.data.energy_grid import RESOLVED, EnergyGrid
from dftune.trainables.physics.energies import energies
from dftune.trainables.physics.smearing import fermi_dirac

FERMI_LEVEL, TEMPERATURE = 7.0, 300.0  # eV, K
# A band of -3 to 12 eV with a dip at the Fermi level, as in beryllium: centre [eV], standard deviation [eV], electrons.
PEAKS = [(-1.0, 0.8, 0.7), (1.5, 0.8, 1.2), (4.0, 0.8, 1.5), (6.0, 0.6, 0.8), (8.5, 0.7, 1.6), (11.0, 0.7, 1.6)]


def dos(energy, extra_width=0.0):
    """The band, broadened by a Gaussian exp(-(x/w)²) of the width w, which has the variance w²/2."""
    widths = [(at, np.hypot(s, extra_width / np.sqrt(2)), n) for at, s, n in PEAKS]
    return sum(n * np.exp(-(((energy - at) / w) ** 2) / 2) / (np.sqrt(2 * np.pi) * w) for at, w, n in widths)


@cache
def exact(power):
    """∫ ε^p f(ε) D(ε) dε of the band itself."""

    def integrand(e):
        return e**power * dos(e) * fermi_dirac(e, fermi_level=FERMI_LEVEL, temperature=TEMPERATURE)

    ends = (-8.0, 0.0, FERMI_LEVEL - 0.5, FERMI_LEVEL, FERMI_LEVEL + 0.5, FERMI_LEVEL + 3.0)
    return sum(quad(integrand, a, b, epsabs=1e-10)[0] for a, b in pairwise(ends))


def grid_of(spacing, width, low=-6.0, high=14.0):
    n = round((high - low) / spacing) + 1
    return EnergyGrid(minimum=low, spacing=spacing, n_energy=n, kernel="gaussian", width=width)


def errors(grid):
    """Rule -> its error of the band energy of this band, at the number of electrons [eV an electron]."""
    electrons, band = exact(0), exact(1)
    known = dos(grid.energy, grid.width)
    at = {"electrons": electrons, "temperature": TEMPERATURE}
    return {
        rule: (energies(known, grid.quadrature(rule), **at).band - band) / electrons
        for rule in ("least-squares", "linear")
    }


@pytest.mark.parametrize("spacing, width", [(0.25, 0.5), (0.5, 0.5), (0.7, 0.5), (0.5, 1.0)])
def test_least_squares_are_chosen_where_they_are_resolved_and_then_they_are_the_better_rule(spacing, width):
    grid = grid_of(spacing, width)
    found = errors(grid)
    assert grid.better_rule == "least-squares"
    assert abs(found["least-squares"]) < 0.2 * abs(found["linear"])
    assert abs(found["least-squares"]) < max(3 * grid.rule_error("least-squares").band_energy, 1e-4)


@pytest.mark.parametrize("spacing, width", [(1.0, 0.5), (1.25, 0.5), (0.5, 0.2)])
def test_the_linear_rule_is_chosen_where_the_spacing_is_two_widths_and_then_it_is_the_better_one(spacing, width):
    grid = grid_of(spacing, width)
    found = errors(grid)
    assert grid.better_rule == "linear"
    assert abs(found["linear"]) < abs(found["least-squares"])
    assert abs(found["linear"]) < 3 * grid.rule_error("linear").band_energy


@pytest.mark.parametrize("kernel", ["gaussian", "fermi-dirac"])
def test_the_linear_rule_is_chosen_where_the_width_is_that_of_the_band(kernel):
    """The grid of MALA's tutorial data: least squares are 0.12 eV an electron off with the kernel that they have."""
    grid = grid_of(2.5, 5.0, low=-5.0, high=20.0).model_copy(update={"kernel": kernel})
    assert grid.better_rule == "linear"
    assert grid.rule_error("least-squares").band_energy > 2 * RESOLVED


def test_the_choice_does_not_ask_which_rule_a_grid_has():
    for spacing, rule in ((0.5, "least-squares"), (1.0, "linear")):
        grid = grid_of(spacing, 0.5)
        assert {grid.model_copy(update={"rule": r}).better_rule for r in ("least-squares", "linear")} == {rule}
