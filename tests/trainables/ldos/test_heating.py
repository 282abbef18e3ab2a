"""Free energy and heat capacity over temperatures against Quantum ESPRESSO (benchmarks/temperatures.py)."""

import json

import numpy as np
import pytest

from dftune.tests.places import DATA
from dftune.trainables.ldos.heating import heated
from dftune.trainables.physics.energies import energies
from dftune.trainables.physics.units import K_B


@pytest.mark.parametrize(
    "kelvin, of_energy, of_capacity", [(1000.0, 0.12, 0.09), (5000.0, 0.05, 2e-3), (7000.0, 0.1, 0.013)]
)
def test_the_ldos_of_one_temperature_says_what_the_dft_finds_at_others(al4, kelvin, of_energy, of_capacity):
    known = json.loads((DATA / "al_temperatures.json").read_text())
    dft, s = {row["temperature_k"]: row for row in known["rows"]}, al4[known["snapshot"]]
    rule, dos = al4.info.energy_grid.quadrature(), al4.dos(s)
    at = energies(dos, rule, electrons=12.0, temperature=s.temperature)
    zero, before = 100.0, dft[3157.75]
    (found,) = heated(dos[None], rule, [at], np.array([1.5]), np.array([zero]), electrons=12.0, temperatures=[kelvin])
    rise = dft[kelvin]["total_energy_ev"] - before["total_energy_ev"]
    assert 250 * (found.free_energy - zero) == pytest.approx(250 * rise, abs=of_energy)  # meV/atom, of 48, -76, -197
    assert found.fermi_level - 1.5 == pytest.approx(dft[kelvin]["fermi_level_ev"], abs=6e-3)
    colder, warmer = (dft[round(share * kelvin, 2)] for share in (0.95, 1.05))
    entropies = [-row["minus_ts_ev"] / row["temperature_k"] for row in (colder, warmer)]
    assert found.heat_capacity / K_B == pytest.approx(np.diff(entropies)[0] / 0.1 / K_B, rel=of_capacity)
