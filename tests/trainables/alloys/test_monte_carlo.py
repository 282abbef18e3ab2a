"""Monte Carlo on a lattice, against the sum over all configurations of a small cell."""

from itertools import combinations
from math import comb

import ase.build
import numpy as np
import pytest

from dftune.trainables.alloys.lattice import Lattice
from dftune.trainables.alloys.linear import LinearPosterior
from dftune.trainables.alloys.monte_carlo import Ordering, sample
from dftune.trainables.alloys.shell_model import ShellModel, Shells
from dftune.trainables.alloys.thermodynamics import States, Thermodynamics
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import K_B

CELL = Lattice.of(ase.build.bulk("Cu", "fcc", a=3.84, cubic=True).repeat((2, 1, 1)))  # 8 sites, some their own images
CUBE = Lattice.of(ase.build.bulk("Cu", "fcc", a=3.84, cubic=True).repeat((2, 2, 1)))
TEMPERATURES = np.array([300.0, 450.0, 700.0, 1500.0])


def model_of(lattice, table):
    """A shell model of given coefficients: a_k, then V_rk of each shell [eV per site]."""
    table = np.array(table)
    known = LinearPosterior(table.ravel(), np.zeros((table.size, 1)), 0.0, 10.0, 0.0)
    shells = Shells.of(lattice, len(table) - 1)
    return ShellModel(shells.radii, shells.sizes, table.shape[1] - 1, known)


MODEL = model_of(CELL, [[0.02, 0.01], [-0.12, 0.02], [0.02, -0.01]])


def exact(energies, quantity, temperature):
    """<quantity> over all configurations."""
    weights = np.exp(-(energies - energies.min()) / (K_B * temperature))
    return weights @ quantity / weights.sum()


def all_of(n_sites, n_second):
    rows = [np.isin(np.arange(n_sites), some) for some in combinations(range(n_sites), n_second)]
    return np.array(rows, dtype=np.uint8)


def run(energy, lattice, *, n_second, seed=1, **extra):
    start = np.zeros(lattice.n_sites, dtype=np.uint8)
    start[np.random.default_rng(seed).permutation(lattice.n_sites)[:n_second]] = 1
    m = 2 * n_second / lattice.n_sites - 1
    asked = {"shells": Shells.of(lattice, 2), "ordering": Ordering.of(MODEL, lattice, m), "start": start}
    return sample(energy, lattice, TEMPERATURES, seed=seed, **{**asked, **extra})


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("potential", [None, 0.15])
def test_means_are_those_over_all_configurations(batched, potential):
    n_second, rounds = 3, 800 if batched else 40_000
    known = MODEL.energy(CELL, (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.uint8))
    energy = (lambda species: known[species @ (1 << np.arange(8))]) if batched else MODEL
    chain = run(energy, CELL, n_second=n_second, potential=potential, rounds=rounds, sweeps=1)
    every = all_of(8, n_second) if potential is None else np.concatenate([all_of(8, n) for n in range(9)])
    energies = MODEL.energy(CELL, every) - (potential or 0) * every.sum(axis=1)
    found, ordering = Thermodynamics.of(chain), Ordering.of(MODEL, CELL, 2 * n_second / 8 - 1)
    correlations = Shells.of(CELL, 2).correlations(every)[1]
    for t, temperature in enumerate(TEMPERATURES):
        mean = exact(energies, energies, temperature)
        variance = exact(energies, (energies - mean) ** 2, temperature)
        expected = {
            "energy": mean / 8,
            "heat_capacity": variance / (K_B * temperature) ** 2 / 8,
            "order": exact(energies, ordering.order(every), temperature),
        }
        for name, value in expected.items():
            error = getattr(found.errors, name)[t]
            assert getattr(found.at, name)[t] == pytest.approx(value, abs=5 * error + 1e-9), (name, temperature)
            assert batched or error < 0.03 * abs(value) + 2e-3
        assert chain.content[:, t].mean() == pytest.approx(exact(energies, every.mean(axis=1), temperature), abs=0.03)
        wanted = [exact(energies, c, temperature) for c in correlations.T]
        assert chain.correlations[t] == pytest.approx(wanted, abs=0.15 if batched else 0.01)


def test_every_configuration_of_one_energy_comes_equally_often():
    """All 28 configurations of two atoms on eight sites, without interaction: chi-square with 27 degrees of freedom."""
    free = model_of(CELL, [[0.0], [0.0], [0.0]])
    chain = run(free, CELL, n_second=2, rounds=20_000, sweeps=2, keep=5000, ordering=Ordering.of(MODEL, CELL, -0.5))
    keys = chain.configurations[:, 0] @ (1 << np.arange(8))
    counts = np.unique(keys, return_counts=True)[1]
    assert len(counts) == comb(8, 2)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 60  # one in 4000


def test_equal_seeds_give_equal_chains_and_others_do_not():
    chains = [run(MODEL, CELL, n_second=4, rounds=50, seed=seed).energies for seed in (1, 1, 2)]
    assert (chains[0] == chains[1]).all()
    assert (chains[0] != chains[2]).any()


def test_the_energy_of_a_chain_is_the_models():
    chain = run(MODEL, CUBE, n_second=8, rounds=200, keep=2)
    last = chain.configurations[-1]
    assert chain.energies[-1] == pytest.approx(MODEL.energy(CUBE, last), abs=1e-10) or chain.exchanged.any()
    assert sorted(chain.energies[-1]) == pytest.approx(sorted(MODEL.energy(CUBE, last)), abs=1e-10)
    assert chain.content[-1] == pytest.approx(last.mean(axis=1))
    assert sorted(chain.order[-1]) == pytest.approx(sorted(Ordering.of(MODEL, CUBE, 0.0).order(last)))


def test_complete_order_has_order_one_and_the_strength_for_energy():
    layers = (CUBE.positions[:, 2] > 1).astype(np.uint8)  # L1_0
    ordering = Ordering.of(MODEL, CUBE, 0.0)
    assert ordering.order(layers) == pytest.approx([1.0])
    assert ordering.order(np.tile(layers, (1, 4))) == pytest.approx([1.0])
    disorder = -sum(MODEL.coefficients[1][:, 0])  # of the pairs, where c_r = 0
    (energy,) = MODEL.energy(CUBE, layers) / 16 - MODEL.coefficients[0][0]
    assert energy == pytest.approx(-disorder - ordering.strength)


def test_curves_between_temperatures_are_those_over_all_configurations():
    chain = run(MODEL, CELL, n_second=3, rounds=40_000, sweeps=1)
    every = all_of(8, 3)
    energies = MODEL.energy(CELL, every)
    between = np.array([370.0, 1000.0])
    found = States.of(chain).at(between)
    for t, temperature in enumerate(between):
        assert found.energy[t] == pytest.approx(exact(energies, energies, temperature) / 8, rel=5e-3)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"start": np.zeros(8, dtype=np.uint8)}, "in a pure element no atoms can change places"),
        ({"start": np.zeros(7, dtype=np.uint8)}, "the start has 7 sites, the lattice 8"),
        ({"energy": lambda species: np.zeros(3)}, r"gave \(3,\) values for 4 configurations"),
        ({"energy": lambda species: np.full(len(species), np.nan)}, "or one that is not finite"),
        ({"temperatures": np.array([0.0, 300.0])}, "above 0 K"),
    ],
)
def test_what_cannot_be_sampled_is_refused(change, text):
    start = np.arange(8, dtype=np.uint8) % 2
    asked = {"energy": MODEL, "lattice": CELL, "temperatures": TEMPERATURES, "start": start}
    with pytest.raises(InputError, match=text):
        sample(shells=Shells.of(CELL, 2), ordering=Ordering.of(MODEL, CELL, 0.0), **{**asked, **change})


def test_an_alloy_that_separates_has_no_order():
    with pytest.raises(InputError, match="no ordered pattern of this cell is lower"):
        Ordering.of(model_of(CELL, [[0.0], [0.0], [0.0]]), CELL, 0.0)
