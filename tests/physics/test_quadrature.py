from functools import partial
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad

from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.physics.energies import band_energy, n_electrons
from dftune.trainables.physics.quadrature import LeastSquares, Linear
from dftune.trainables.physics.smearing import broadening, entropy, fermi_dirac
from dftune.trainables.physics.units import K_B

FERMI_LEVEL = 6.0  # eV
FUNCTIONS = {
    "f": lambda e, temperature: fermi_dirac(e, fermi_level=FERMI_LEVEL, temperature=temperature),
    "eps f": lambda e, temperature: e * fermi_dirac(e, fermi_level=FERMI_LEVEL, temperature=temperature),
    "s": lambda e, temperature: entropy(e, fermi_level=FERMI_LEVEL, temperature=temperature),
}
KERNELS = [("gaussian", 0.5), ("fermi-dirac", 0.272)]  # eV


def integral(weights, levels, grid, function, temperature):
    """Σ_j w_j D(ε_j) of the broadened levels, and Σ_i F(ε_i) of the levels themselves, a level."""
    difference = grid.energy[:, None] - levels[None, :]
    dos = broadening(difference, kernel=grid.kernel, width=grid.width).sum(axis=1)
    exact = function(levels, temperature).sum()
    return weights(lambda e: function(e, temperature)) @ dos / len(levels), exact / len(levels)


@pytest.mark.parametrize("temperature", [298.0, 3157.75, 30_000.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_linear_rule_is_exact_on_a_piecewise_linear_dos(name, temperature):
    energy = np.linspace(-2.0, 10.0, 25)
    dos = np.random.default_rng(1).uniform(0.0, 3.0, size=25)
    ends = np.linspace(-2.5, 10.5, 27)  # where the hats of the first and the last energy end
    function = FUNCTIONS[name]

    def product(e):
        return function(e, temperature) * np.interp(e, ends, [0.0, *dos, 0.0])

    exact = sum(
        quad(product, *sorted(ends), epsabs=1e-12, epsrel=1e-12, limit=200)[0]
        for a, b in pairwise(ends)
        for ends in ((a, (a + b) / 2), ((a + b) / 2, b))
    )
    assert Linear(energy).weights(lambda e: function(e, temperature)) @ dos == pytest.approx(exact, rel=1e-10)


def test_the_linear_rule_of_a_constant_gives_each_whole_hat_its_area():
    weights = Linear(np.linspace(-1.0, 2.0, 7)).weights(np.ones_like)
    np.testing.assert_allclose(weights, 0.5, rtol=1e-13)


@pytest.mark.parametrize("rule", [Linear, lambda energy: LeastSquares(energy, "gaussian", 0.5)])
def test_a_sum_over_states_is_that_of_the_weights(rule):
    energy = np.linspace(-2.0, 10.0, 25)
    dos, quadrature = np.random.default_rng(1).uniform(0.0, 3.0, size=25), rule(energy)
    at, states = quadrature.states(dos)
    for function in FUNCTIONS.values():
        expected = quadrature.weights(partial(function, temperature=3000.0)) @ dos
        assert states @ function(at, temperature=3000.0) == pytest.approx(expected, rel=1e-12)


def fermi_integral(x, order):
    """Σ ∫ f(t) t^order dt from 0 to x in units of k_B τ, by polylogarithms (Ellis et al. 2021, Eq. 34 to 36)."""

    def li(s):
        # Li_s(-e^x), for x > 0 by inversion, where e^x is beyond a double.
        if x <= 0:
            return float(mpmath.polylog(s, -mpmath.exp(x)).real)
        small = mpmath.polylog(s, -mpmath.exp(-x)).real
        large = {1: -x, 2: -(x**2) / 2 - mpmath.pi**2 / 6, 3: -(x**3) / 6 - mpmath.pi**2 * x / 6}[s]
        return float(large + small if s != 2 else large - small)

    if order == 0:
        return x + li(1)
    if order == 1:
        return x**2 / 2 + x * li(1) - li(2)
    return x**3 / 3 + x**2 * li(1) - 2 * x * li(2) + 2 * li(3)


def test_the_linear_rule_is_that_of_mala_to_1e_8_ev():
    """Closed forms of MALA's weights on the grid and at the temperature of its tutorial data of Be2."""
    energy, temperature, level = -5 + 2.5 * np.arange(11), 299.98637, 10.2407
    dos = np.array([0.1368, 0.1830, 0.2295, 0.2691, 0.2960, 0.3067, 0.3002, 0.2774, 0.2415, 0.1978, 0.1530])
    k_t = K_B * temperature

    def moment(e, order):  # ∫ f(ε) (ε - ε_F)^order dε
        return fermi_integral((e - level) / k_t, order) * k_t ** (order + 1)

    def by_hats(order):  # ∫ f (ε - ε_F)^order Λ_j dε: rising and falling side of each hat, Eq. 32
        h, found = 2.5, []
        for e in energy:
            up, down = ([moment(b, k) - moment(a, k) for k in (order, order + 1)] for a, b in ((e - h, e), (e, e + h)))
            found.append(up[0] * (1 - (e - level) / h) + up[1] / h + down[0] * (1 + (e - level) / h) - down[1] / h)
        return np.array(found)

    ours, at = Linear(energy), {"fermi_level": level, "temperature": temperature}
    assert n_electrons(dos, ours, **at) == pytest.approx(by_hats(0) @ dos, abs=1e-8)
    assert band_energy(dos, ours, **at) == pytest.approx((by_hats(1) + level * by_hats(0)) @ dos, abs=1e-8)


@pytest.mark.parametrize("spacing", [0.25, 0.5])
@pytest.mark.parametrize("kernel, width", KERNELS)
@pytest.mark.parametrize("name, bound", [("f", 3e-4), ("eps f", 1.5e-3), ("s", 5e-4)])
def test_least_squares_undo_the_broadening_of_known_levels(name, bound, kernel, width, spacing):
    # A bumpy DOS, 200 random levels, at 3158 K.  Root mean square error a level over 20 draws, measured: at most
    # 1.6e-4, 8e-4 eV and 1.7e-4, where the linear rule has at least 13e-4, 89e-4 eV and 19e-4.
    grid = EnergyGrid(minimum=-6.0, spacing=spacing, n_energy=round(20 / spacing) + 1, kernel=kernel, width=width)

    def rms(rule):
        draws = [np.random.default_rng(seed).uniform(-4.0, 11.0, size=200) for seed in range(20)]
        weights = grid.quadrature(rule).weights
        errors = np.subtract(*zip(*(integral(weights, d, grid, FUNCTIONS[name], 3157.75) for d in draws), strict=True))
        return np.sqrt((errors**2).mean())

    assert rms("least-squares") < bound
    assert rms("linear") > 6 * rms("least-squares")


@pytest.mark.parametrize("temperature", [933.0, 3157.75])
@pytest.mark.parametrize("spacing", [0.25, 0.5])
@pytest.mark.parametrize("kernel, width", KERNELS)
@pytest.mark.parametrize("name, bound", [("f", 1e-5), ("eps f", 1e-4)])
def test_a_free_electron_metal_gets_back_its_electrons_and_its_band_energy(
    name, bound, kernel, width, spacing, temperature
):
    # D ∝ √ε from -3.4 eV as in Al; measured at most 0.3e-5 and 0.2e-4 eV a level, the plain rule 26e-5 and 22e-4 eV.
    levels = -3.4 + 15.0 * ((np.arange(3000) + 0.5) / 3000) ** (2 / 3)
    grid = EnergyGrid(minimum=-6.0, spacing=spacing, n_energy=round(20 / spacing) + 1, kernel=kernel, width=width)

    def plain(function):
        return grid.spacing * function(grid.energy)

    found, exact = integral(grid.quadrature().weights, levels, grid, FUNCTIONS[name], temperature)
    off, _ = integral(plain, levels, grid, FUNCTIONS[name], temperature)
    assert abs(found - exact) < bound
    assert abs(off - exact) > 20 * bound


@pytest.mark.parametrize("rule", [Linear, lambda e: LeastSquares(e, "gaussian", 0.5)])
def test_weights_are_linear_in_the_function(rule):
    quadrature = rule(np.linspace(-6.0, 12.0, 37))
    f, s = (lambda e, name=name: FUNCTIONS[name](e, 933.0) for name in ("f", "s"))
    both = quadrature.weights(lambda e: 2.0 * f(e) - 3.0 * s(e))
    np.testing.assert_allclose(both, 2.0 * quadrature.weights(f) - 3.0 * quadrature.weights(s), atol=1e-12)


@pytest.mark.parametrize("temperature", [300.0, 933.0])
def test_the_ridge_keeps_the_weights_tame_where_a_small_one_does_not(temperature):
    energy = np.linspace(-6.0, 12.0, 73)

    def largest(ridge):
        weights = LeastSquares(energy, "gaussian", 0.5, ridge).weights(lambda e: FUNCTIONS["f"](e, temperature))
        return np.abs(weights).max() / 0.25  # in units of the spacing, the weight of a filled state

    # An error of the LDOS is multiplied by the weights: measured 5.8 and 3.9 of a filled state, and 25 and 11.
    assert largest(LeastSquares.ridge) < 7
    assert largest(1e-6) > 10


@pytest.mark.parametrize("temperature, most, noise", [(300.0, 0.3, 1.7), (933.0, 0.11, 1.4), (3157.75, 2.5e-3, 1.1)])
def test_a_warm_state_gets_its_occupation_and_a_cold_one_little_noise(temperature, most, noise):
    """A state in one layer of a crystal cannot rely on errors of others, which the sum of all states has."""
    grid = EnergyGrid(minimum=-6.4, spacing=0.4, n_energy=45, kernel="gaussian", width=0.6)
    states, plain = np.linspace(3.0, 9.0, 601), FUNCTIONS["f"](grid.energy, temperature) * grid.spacing
    weights = grid.quadrature().weights(lambda e: FUNCTIONS["f"](e, temperature))
    found = broadening(grid.energy - states[:, None], kernel="gaussian", width=0.6) @ weights
    # Measured: 0.29, 0.10 and 0.0019 (0.32, 0.13 and 0.0064 with 3e-3); noise by factors of 1.60, 1.35 and 1.07.
    assert np.abs(found - FUNCTIONS["f"](states, temperature)).max() < most
    assert np.linalg.norm(weights) < noise * np.linalg.norm(plain)


def test_an_energy_grid_is_uniform_from_its_minimum_on_and_keeps_its_rules():
    grid = EnergyGrid(minimum=-6.0, spacing=0.5, n_energy=37, kernel="gaussian", width=0.5)
    assert grid.energy.tolist() == [-6.0 + 0.5 * i for i in range(37)]
    assert grid.quadrature() is EnergyGrid(**grid.model_dump()).quadrature()  # the costly part is done once
    assert grid.quadrature() is not grid.model_copy(update={"width": 0.4}).quadrature()
    assert isinstance(grid.quadrature("linear"), Linear)


@pytest.mark.parametrize("changed", [{"spacing": 0.0}, {"n_energy": 1}, {"width": -0.5}, {"kernel": "lorentzian"}])
def test_an_energy_grid_that_cannot_be_is_refused(changed):
    good = {"minimum": -6.0, "spacing": 0.5, "n_energy": 37, "kernel": "gaussian", "width": 0.5}
    with pytest.raises(ValidationError, match=next(iter(changed))):
        EnergyGrid(**good | changed)
