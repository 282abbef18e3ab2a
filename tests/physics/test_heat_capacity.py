import numpy as np
import pytest

from dftune.trainables.physics.energies import energies, entropy_term
from dftune.trainables.physics.heat_capacity import heat_capacity
from dftune.trainables.physics.quadrature import Linear
from dftune.trainables.physics.units import K_B

TEMPERATURES = [298.0, 933.0, 5000.0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_that_of_a_constant_dos_is_sommerfelds(temperature):
    # Ashcroft and Mermin, Solid State Physics (1976), Eq. 2.80: C = π² k_B² τ D / 3.
    quadrature = Linear(np.linspace(-10.0, 10.0, 41))
    found = heat_capacity(np.full(41, 3.0), quadrature, fermi_level=0.0, temperature=temperature)
    assert found == pytest.approx(np.pi**2 / 3 * K_B**2 * temperature * 3.0, rel=1e-6)


@pytest.mark.parametrize("rule", ["least-squares", "linear"])
@pytest.mark.parametrize("temperature", [933.0, 5000.0])
def test_it_is_the_curvature_of_the_free_energy_at_a_constant_number(al4, rule, temperature):
    """C = -τ ∂²(E_b - τS)/∂τ² by differences, each at a Fermi level of its own."""
    dos, quadrature = al4.dos(al4["002"]), al4.info.energy_grid.quadrature(rule)
    at, step = {}, 0.02 * temperature
    for kelvin in (temperature - step, temperature, temperature + step):
        at[kelvin] = energies(dos, quadrature, electrons=12.0, temperature=kelvin)
    below, here, above = (e.band + e.entropy for e in at.values())
    level = at[temperature].fermi_level
    found = heat_capacity(dos, quadrature, fermi_level=level, temperature=temperature)
    assert found == pytest.approx(-temperature * (below - 2 * here + above) / step**2, rel=2e-3)


def test_the_fermi_level_takes_its_part_by_moving():
    """D = c ε: with a Fermi level that stays, C would be the curvature of neither E_b nor A."""
    energy, temperature = np.linspace(0.0, 12.0, 49), 20_000.0
    dos, quadrature = 0.4 * energy, Linear(energy)
    found = energies(dos, quadrature, electrons=3.0, temperature=temperature)
    c = heat_capacity(dos, quadrature, fermi_level=found.fermi_level, temperature=temperature)
    warmer, colder = (energies(dos, quadrature, electrons=3.0, temperature=temperature + d).band for d in (50.0, -50.0))
    assert c == pytest.approx((warmer - colder) / 100.0, rel=1e-5)
    stays = {"fermi_level": found.fermi_level}
    slope = sum(
        sign
        * -entropy_term(dos, quadrature, temperature=temperature + 50.0 * sign, **stays)
        / (temperature + 50.0 * sign)
        for sign in (1, -1)
    )
    assert abs(temperature * slope / 100.0 / c - 1) > 0.03


def test_without_temperature_there_is_none():
    assert heat_capacity(np.ones(5), Linear(np.linspace(-1, 1, 5)), fermi_level=0.0, temperature=0.0) == 0.0


def test_electrons_without_states_to_go_to_are_refused():
    with pytest.raises(ValueError, match=r"gives -?0 electrons/eV at ε_F = 0 eV"):
        heat_capacity(np.zeros(5), Linear(np.linspace(-1, 1, 5)), fermi_level=0.0, temperature=300.0)
