import math

import numpy as np
import pytest
from scipy import constants
from scipy.integrate import quad

from dftune.trainables.physics.smearing import broadening, entropy, fermi_dirac
from dftune.trainables.physics.units import BOHR, K_B, RYDBERG

TEMPERATURES = [298.0, 933.0, 3157.75, 30_000.0]


def test_the_constants_are_those_of_codata():
    # scipy.constants carries a later CODATA than 2018: k_B and e are exact since, a₀ and Ry moved by 1e-10.
    physical = constants.physical_constants
    assert pytest.approx(physical["Boltzmann constant in eV/K"][0], rel=1e-9) == K_B
    assert pytest.approx(physical["Bohr radius"][0] * 1e10, rel=1e-9) == BOHR
    assert pytest.approx(physical["Rydberg constant times hc in eV"][0], rel=1e-9) == RYDBERG


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_occupation_is_one_over_one_plus_the_exponential(temperature):
    width = K_B * temperature
    energy = 7.7 + width * np.linspace(-30, 30, 301)
    expected = [1 / (1 + math.exp((e - 7.7) / width)) for e in energy]
    found = fermi_dirac(energy, fermi_level=7.7, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_at_zero_temperature_occupation_is_the_step_with_one_half_at_the_fermi_level():
    found = fermi_dirac([6.0, 7.0, 8.0], fermi_level=7.0, temperature=0.0)
    assert found.tolist() == [1.0, 0.5, 0.0]
    np.testing.assert_array_equal(fermi_dirac([6.0, 7.0, 8.0], fermi_level=7.0, temperature=1e-3), found)


def test_occupation_and_entropy_do_not_overflow_far_from_the_fermi_level():
    with np.errstate(all="raise"):
        for temperature in (0.0, 1e-3, 298.0):
            far = np.array([-1e6, 1e6])
            assert fermi_dirac(far, fermi_level=0.0, temperature=temperature).tolist() == [1.0, 0.0]
            assert entropy(far, fermi_level=0.0, temperature=temperature).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_electrons_above_and_holes_below_the_fermi_level_mirror_each_other(temperature):
    # Out to 30 k_B τ: 1 - f has lost all but three digits of the 1e-13 holes there.
    x = K_B * temperature * np.linspace(0, 30, 61)
    above = fermi_dirac(x, fermi_level=0.0, temperature=temperature)
    below = fermi_dirac(-x, fermi_level=0.0, temperature=temperature)
    np.testing.assert_allclose(above + below, 1.0, rtol=1e-15)
    s_above, s_below = (entropy(e, fermi_level=0.0, temperature=temperature) for e in (x, -x))
    np.testing.assert_allclose(s_above, s_below, rtol=1e-13)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_entropy_is_its_other_closed_form(temperature):
    x = np.linspace(0, 30, 61)  # (ε - ε_F) / k_B τ
    expected = [math.log1p(math.exp(-y)) + y / (1 + math.exp(y)) for y in x]
    found = entropy(2.0 + K_B * temperature * x, fermi_level=2.0, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)
    assert found.max() == found[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_entropy_integrates_to_pi_squared_over_three(temperature):
    width = K_B * temperature
    area, _ = quad(lambda e: entropy(e, fermi_level=0.0, temperature=temperature), -50 * width, 50 * width, limit=200)
    assert area == pytest.approx(width * math.pi**2 / 3, rel=1e-10)


def test_there_is_no_entropy_at_zero_temperature_but_at_the_fermi_level():
    assert entropy([-1.0, 1.0], fermi_level=0.0, temperature=0.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "kernel, second_moment",
    [("gaussian", 1 / 2), ("fermi-dirac", math.pi**2 / 3)],  # ∫ x² K(x) dx in units of w²
)
@pytest.mark.parametrize("width", [0.05, 0.272, 0.5])
def test_a_kernel_has_unit_area_and_its_second_moment(kernel, second_moment, width):
    moments = [
        quad(lambda x, n=n: x**n * broadening(x, kernel=kernel, width=width), -60 * width, 60 * width, limit=400)[0]
        for n in (0, 1, 2)
    ]
    assert moments == pytest.approx([1.0, 0.0, second_moment * width**2], rel=1e-8, abs=1e-12)


def test_the_gaussian_width_is_where_quantum_espresso_has_fallen_to_one_over_e():
    # Not a standard deviation, which is w / √2: w0gauss of QE is exp(-x²) / √π.
    peak, at_width = broadening([0.0, 0.5], kernel="gaussian", width=0.5)
    assert peak == pytest.approx(1 / (0.5 * math.sqrt(math.pi)))
    assert at_width == pytest.approx(peak / math.e)


def test_the_fermi_dirac_kernel_is_minus_the_derivative_of_the_occupation():
    width, step = 0.272, 1e-5  # eV; 0.02 Ry, what pp.x before 7.2 takes from the SCF
    x = np.linspace(-5, 5, 101)
    f = [fermi_dirac(x + s * step, fermi_level=0.0, temperature=width / K_B) for s in (-1, 1)]
    np.testing.assert_allclose(
        broadening(x, kernel="fermi-dirac", width=width), (f[0] - f[1]) / (2 * step), rtol=1e-6, atol=1e-9
    )
