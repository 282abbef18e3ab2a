import re

import numpy as np
import pytest

from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.width_check import MOST_UNSMOOTHED, check_width, unsmoothed
from dftune.trainables.physics.smearing import broadening


def free_electrons(minimum, spacing, kernel, width):
    """The grid and the DOS of a free-electron gas whose band begins at -4 eV."""
    grid = EnergyGrid(minimum=minimum, spacing=spacing, n_energy=int(16 / spacing), kernel=kernel, width=width)
    states = np.linspace(-4, 40, 2_000)  # 0.02 eV apart, a tenth of the smallest width or less
    return grid, broadening(grid.energy[:, None] - states, kernel=kernel, width=width) @ np.sqrt(states + 4)


@pytest.mark.parametrize(
    "minimum, spacing, kernel, width",
    [(-6, 0.25, "gaussian", 0.5), (-6, 0.5, "gaussian", 0.5), (-8, 0.125, "fermi-dirac", 0.25)],
)
def test_below_its_band_a_dos_tells_its_width(minimum, spacing, kernel, width):
    grid, dos = free_electrons(minimum, spacing, kernel, width)
    problems = []
    for told, low, high in ((1.0, -0.05, 0.25), (0.72, 0.3, 0.7), (1.25, -0.3, 0.01)):
        told_grid = grid.model_copy(update={"width": told * width})
        assert low < check_width(dos, told_grid, where="al", fail=problems.append) < high
    assert problems[0].startswith(f"al: the DOS is as smooth as with a {kernel} kernel of ")
    assert len(problems) == (1 if width == spacing else 2), "energies that far apart do not tell a width too large"
    if len(problems) == 2:
        (at_most,) = re.findall(rf"al: the DOS falls off .* {kernel} kernel of (\S+) eV at most, so that", problems[1])
        assert 0.95 * width < float(at_most) < 1.15 * width


@pytest.mark.parametrize("kernel", ["gaussian", "fermi-dirac"])
def test_few_states_do_not_make_a_right_width_a_wrong_one(kernel):
    grid = EnergyGrid(minimum=-14, spacing=0.25, n_energy=100, kernel=kernel, width=0.5)
    for n in (2, 10, 100, 1000):
        states = np.random.default_rng(n).normal(0, 2, n)
        dos = broadening(grid.energy[:, None] - states, kernel=kernel, width=0.5).sum(axis=1)
        assert check_width(dos, grid, where="al", fail=pytest.fail) in (None, pytest.approx(0, abs=0.12))


@pytest.mark.parametrize("minimum, spacing", [(-6, 0.75), (-3, 0.25)])
def test_energies_too_far_apart_or_within_the_band_do_not_tell_a_width(minimum, spacing):
    grid, dos = free_electrons(minimum, spacing, "gaussian", 0.5)
    for width in (0.2, 0.5):
        assert check_width(dos, grid.model_copy(update={"width": width}), where="al", fail=pytest.fail) is None


def test_states_far_apart_and_many_energies_are_not_mistaken_for_a_wrong_width():
    energies = np.random.default_rng(0).uniform(-10, 40, 60)
    grid = EnergyGrid(minimum=-10, spacing=0.05, n_energy=1000, kernel="gaussian", width=0.1)
    dos = broadening(grid.energy[:, None] - energies, kernel="gaussian", width=0.1).sum(axis=1)
    assert unsmoothed(dos, grid) < 0.5 * MOST_UNSMOOTHED
    assert unsmoothed(dos, grid.model_copy(update={"width": 0.2})) > 0.1
    assert unsmoothed(dos, grid.model_copy(update={"width": 0.04})) == 0, "anything is possible"
