"""The order-disorder transition, from configurations to a temperature with an interval."""

from dataclasses import replace

import ase.build
import numpy as np
import pytest

from dftune.tests.places import ROOT
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.kind import AlloyKind
from dftune.trainables.alloys.lattice import Lattice
from dftune.trainables.alloys.linear import LinearPosterior
from dftune.trainables.alloys.monte_carlo import Ordering, sample
from dftune.trainables.alloys.shell_model import ShellModel, Shells
from dftune.trainables.alloys.simulation import Simulation, TransitionSettings, begun, random_start, simulate
from dftune.trainables.alloys.transition import apart_between, here, transition
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import K_B
from dftune.trainables.progress import Silent

B2 = Lattice.of(ase.build.bulk("Fe", "bcc", a=3.0, cubic=True).repeat((2, 2, 2)))
J = 0.05  # eV a pair of nearest neighbours, which are unlike in the order B2
ISING = 6.3544 * J / K_B  # of an endless crystal: 1 / K_c = 1 / 0.15737, Butera & Comi, Phys. Rev. B 62, 14837 (2000)
SMALL = TransitionSettings(copies=(1, 1, 1), draws=4, temperatures=12, rounds=200)


def data(n=30, noise=0.0, sign=1.0):
    rng = np.random.default_rng(0)
    species = (rng.random((n, 16)) < rng.uniform(0.2, 0.8, size=(n, 1))).astype(np.uint8)
    _, c = Shells.of(B2, 1).correlations(species)
    return species, 16 * sign * 4 * J * (c[:, 0] - 1) + noise * rng.normal(size=n)


@pytest.fixture(scope="module")
def found():
    species, energies = data(noise=0.3)
    return transition(B2, species, energies, SMALL, sites={"charge": 0.1 - 0.2 * species})


def test_the_interval_holds_the_models_drawn(found):
    low, high = found.interval
    assert 0 < found.drawn.min() <= low < high <= found.drawn.max()
    assert abs(found.temperature - found.drawn.mean()) < 3 * found.drawn.std()
    assert found.temperature == pytest.approx(ISING, rel=0.25), "16 sites"
    assert found.thermodynamics.peak_error < 0.1 * found.temperature


def test_it_is_the_same_with_the_same_seed_and_in_any_order_of_the_tasks(found):
    def backwards(work, tasks):
        for number in reversed(range(len(tasks))):
            yield number, work(tasks[number])

    species, energies = data(noise=0.3)
    again = transition(B2, species, energies, SMALL, execute=backwards)
    assert (again.drawn == found.drawn).all()
    assert again.temperature == found.temperature


def test_more_noise_gives_a_wider_interval(found):
    species, energies = data(noise=0.01)
    sharp = transition(B2, species, energies, SMALL)
    assert np.diff(sharp.interval) < 0.5 * np.diff(found.interval)


def test_charges_follow_the_elements(found):
    assert found.sites["charge"][:, :, 0] == pytest.approx(np.tile([0.1, -0.1], (12, 1)), abs=1e-6)
    assert found.sites["charge"][:, :, 1] == pytest.approx(0, abs=1e-6)


def test_it_is_told_and_drawn(found, tmp_path):
    told = found.to_dict()
    assert told["transition_temperature"] == found.temperature
    curves = told["curves"]
    assert len(curves["temperature"]) == len(curves["heat_capacity"]) == len(curves["charge"]["mean"][0]) == 12
    assert len(curves["short_range_order"]) == found.model.n_shells
    assert f"transition at {found.temperature:.0f} K" in found.lines()[0]
    assert found.extrapolates == [], "rows of 20 to 80 %"
    assert replace(found, extrapolates=["its share of B"]).to_dict()["warnings"][0] == "its share of B"
    found.draw(tmp_path / "transition.png")
    assert (tmp_path / "transition.png").stat().st_size > 10_000


def test_of_few_draws_the_interval_says_that_it_holds_less(found):
    assert found.level == pytest.approx(3 / 5), "between the lowest and the highest of four"
    assert found.interval == (found.drawn.min(), found.drawn.max())
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        drawn, other = rng.lognormal(size=60), rng.lognormal()
        low, high = replace(found, drawn=drawn).interval
        inside += low < other < high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015), "of draws that are not normal, either"


@pytest.mark.slow
def test_a_transition_of_first_order_is_where_a_cell_half_in_order_changes(cuau):
    """864 sites of CuAu: order lasts to about 2,850 K and disorder to 2,550 K; both start from half changes between."""
    lattice = cuau.info.lattice
    model = ShellModel.fit(lattice, cuau.all.species, cuau.formation_energies)
    settings = TransitionSettings(copies=(3, 3, 3), rounds=200)
    task = Simulation(model, lattice, Ordering.of(model, lattice, 0.0), 2725.0, settings, seed=0, moves=False)
    ordered, disordered, both = (simulate(replace(task, begins=b)) for b in ("ordered", "disordered", "both"))
    low, high = apart_between(ordered[0], disordered[0], 0.001)
    assert 2250 < low < 2650 < 2750 < high < 3000
    assert disordered[1].peak < both[1].peak < ordered[1].peak
    assert 2600 < both[1].peak < 2800


def test_chains_that_differ_are_not_in_equilibrium(found):
    assert apart_between(found.chain, found.chain, 0.0) is None
    shifted = found.chain.energies.copy()
    shifted[:, 5] += 0.2 * np.ptp(shifted.mean(axis=0))
    other = replace(found.chain, energies=shifted)
    apart = apart_between(found.chain, other, 0.0)
    assert apart_between(found.chain, other, 0.1 * np.ptp(shifted.mean(axis=0)) / 16) is None, "within the noise"
    assert apart == (found.chain.temperatures[4], found.chain.temperatures[6])
    told = replace(found, apart=apart)
    assert f"differ between {apart[0]:.0f} and {apart[1]:.0f} K" in "".join(told.lines())
    assert "from order and from disorder agree" not in "".join(told.lines())
    assert "from order and from disorder agree" in "".join(replace(told, apart=None).lines())
    assert told.to_dict()["not_in_equilibrium"] == list(apart)


@pytest.mark.parametrize("begins, share", [("ordered", 1.0), ("both", 0.5)])
def test_a_start_in_order_has_the_ordered_pattern(begins, share):
    species, energies = data()
    model = ShellModel.fit(B2, species, energies, n_shells=1, degree=0)
    ordering = Ordering.of(model, B2, 0.0)
    settings = SMALL.model_copy(update={"copies": (4, 1, 1)})
    task = Simulation(model, B2, ordering, ISING, settings, seed=1, begins=begins)
    start = begun(task, 64)
    assert start.sum() == 32
    assert ordering.order(start[:32]) == pytest.approx(1.0, abs=0.1)
    assert bool(ordering.order(start[32:])[0] > 0.9) is (share == 1.0)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"n": 1}, "1 values do not determine 2 coefficients"),
        ({"sign": -1.0}, "lower in energy than the pure elements"),
        ({"configurations": 31}, "there are 30 configurations, fewer than the 31"),
        ({"content": 0.01}, "a cell of 16 sites has no whole number of atoms for a content of 0.01"),
    ],
)
def test_where_there_is_no_transition_that_is_said(change, text):
    settings = SMALL.model_copy(update={k: v for k, v in change.items() if k in TransitionSettings.model_fields})
    species, energies = data(**{k: v for k, v in change.items() if k in ("n", "sign")})
    with pytest.raises(InputError, match=text):
        transition(B2, species, energies, settings)


@pytest.mark.slow
def test_binders_cumulants_cross_at_the_transition_of_the_ising_model():
    """Of flips at Δμ = 0 in two cells; Binder, Z. Phys. B 43, 119 (1981).  The universal value there is 0.465."""
    known = LinearPosterior(np.array([0.0, -4 * J]), np.zeros((2, 1)), 0.0, 10.0, 0.0)
    nearest = Shells.of(B2, 1)
    model = ShellModel(nearest.radii, nearest.sizes, 0, known)
    temperatures, fits = ISING * np.linspace(0.95, 1.05, 12), []
    for n in (2, 3):
        large = B2.repeated((n, n, n))
        chain = sample(
            model,
            large,
            temperatures,
            shells=model.shells(large),
            ordering=Ordering.of(model, B2, 0.0),
            start=random_start(large.n_sites, 0.5, n),
            potential=0.0,
            rounds=4000,
        )
        cumulant = 1 - (chain.order**4).mean(axis=0) / (3 * (chain.order**2).mean(axis=0) ** 2)
        fits.append(np.polyfit(temperatures / ISING - 1, cumulant, 3))
    crossing = min(np.roots(fits[1] - fits[0]), key=abs)
    assert abs(crossing) < 0.01
    assert np.polyval(fits[1], crossing) == pytest.approx(0.465, abs=0.05)


def test_a_dataset_has_a_transition():
    data = AlloyData.open(ROOT / "examples" / "alloys" / "FePt")
    asked = {"copies": (1, 1, 1), "draws": 2, "rounds": 16, "temperatures": 8}
    found = AlloyKind().transition(data, asked, here, Silent())
    assert (found.symbols, sorted(found.sites)) == (("Fe", "Pt"), ["charge", "moment"])
    iron, platinum = found.sites["moment"][0, :, 0]
    assert 2.0 < iron < 4.0 > 4 * platinum > 0.4
    with pytest.raises(InputError, match=r"draws: input should be greater than or equal to 2"):
        AlloyKind().transition(data, {"draws": 1}, here, Silent())
    with pytest.raises(InputError, match="drawz"):
        AlloyKind().transition(data, {"drawz": 1}, here, Silent())


@pytest.mark.slow
def test_forty_rows_of_copper_and_gold_give_an_interval_that_holds_the_value_of_all():
    data = AlloyData.open(ROOT / "examples" / "alloys" / "CuAu")
    asked = {"copies": (1, 1, 1), "draws": 40, "rounds": 500}
    every = AlloyKind().transition(data, asked, here, Silent())
    some = AlloyKind().transition(data, asked | {"configurations": 40}, here, Silent())
    low, high = some.interval
    assert low < every.temperature < high
    assert np.diff(every.interval) < np.diff(some.interval) < 0.2 * every.temperature
