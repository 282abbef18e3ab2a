"""Claims: 1e6 exchanges of atoms a second on one core; the transition's intervals narrow with the rows.

Runs on the bundled tables, in this process; prints a row of JSON for each number.

    python benchmarks/order_disorder.py speed|sizes|rows|coverage|intervals|phases|held
"""

import json
import sys
import time
from dataclasses import replace

import numpy as np

from dftune.tests.places import ROOT
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.kind import AlloyKind
from dftune.trainables.alloys.monte_carlo import Ordering, sample
from dftune.trainables.alloys.shell_model import ShellModel, drawn_models
from dftune.trainables.alloys.simulation import (
    Simulation,
    TransitionSettings,
    around,
    begun,
    mean_field,
    random_start,
    simulate,
)
from dftune.trainables.alloys.thermodynamics import Thermodynamics
from dftune.trainables.alloys.transition import apart_between, here, some_of
from dftune.trainables.errors import InputError
from dftune.trainables.progress import Silent


def row(case, **values):
    print(json.dumps({"case": case, **values}), flush=True)


def opened(name):
    data = AlloyData.open(ROOT / "examples" / "alloys" / name)
    lattice = data.info.lattice
    return data, lattice, ShellModel.fit(lattice, data.all.species, data.formation_energies)


def chain_of(name, copies, temperatures, rounds, seed=0):
    _, lattice, model = opened(name)
    large = lattice.repeated((copies,) * 3)
    started = time.process_time()
    chain = sample(
        model,
        large,
        temperatures,
        shells=model.shells(large),
        ordering=Ordering.of(model, lattice, 0.0),
        start=random_start(large.n_sites, 0.5, seed),
        rounds=rounds,
        seed=seed,
    )
    return chain, time.process_time() - started


def speed():
    """Attempted exchanges a second of one core, at temperatures around the transition of CuAu."""
    for copies in (1, 2, 3, 5):
        n, temperatures = 32 * copies**3, around(2750.0, 8)
        rounds = 4_000_000 // (n * 8)
        chain_of("CuAu", copies, temperatures, 2)
        _, seconds = chain_of("CuAu", copies, temperatures, rounds)
        row("speed", n_sites=n, per_second=round((rounds + 10) * 2 * n * 8 / seconds))


def sizes():
    """The peak of the heat capacity of the most likely model against the size of the cell."""
    for name, guess in (("CuAu", 2750.0), ("FePt", 3500.0)):
        for copies, rounds in ((1, 8000), (2, 3000), (3, 1500), (5, 400)):
            peaks = []
            for seed in range(3):
                chain, seconds = chain_of(name, copies, around(guess, 24), rounds, seed)
                found = Thermodynamics.of(chain)
                peaks.append(found.peak)
            row(
                "sizes",
                alloy=name,
                n_sites=32 * copies**3,
                peak=round(float(np.mean(peaks))),
                spread=round(float(np.std(peaks, ddof=1))),
                largest_heat_capacity=round(float(found.fine.heat_capacity.max()), 2),
                smallest_exchange=round(float(chain.exchanged.min()), 3),
                connected=found.connected,
                seconds=round(seconds, 1),
            )


def rows():
    """The transition from all rows, from 40 and from 20, 32 sites."""
    for name in ("CuAu", "FePt"):
        data, *_ = opened(name)
        for n in (None, 40, 20):
            found = AlloyKind().transition(
                data, {"copies": (1, 1, 1), "configurations": n, "rounds": 1000, "draws": 40}, here, Silent()
            )
            low, high = found.interval
            row(
                "rows",
                alloy=name,
                rows=found.n_configurations,
                temperature=round(found.temperature),
                interval=[round(low), round(high)],
                std=round(float(found.drawn.std(ddof=1))),
                simulation_error=round(found.thermodynamics.peak_error),
                without_transition=40 - len(found.drawn),
                model=[found.model.n_shells, found.model.degree],
            )


def coverage():
    """How often the 95 % interval of some rows holds the value of all rows: 32 sites, 20 choices of rows."""
    for name in ("CuAu", "FePt"):
        data, *_ = opened(name)
        quick = {"copies": (1, 1, 1), "rounds": 400, "draws": 24}
        every = AlloyKind().transition(data, {**quick, "rounds": 4000}, here, Silent())
        for n in (40, 20):
            inside, widths = 0, []
            for seed in range(20):
                found = AlloyKind().transition(data, {**quick, "configurations": n, "seed": seed}, here, Silent())
                low, high = found.interval
                inside += low < every.temperature < high
                widths.append(high - low)
            row(
                "coverage", alloy=name, rows=n, of_all=round(every.temperature), inside=inside, of=20,
                width=round(float(np.mean(widths))),
            )  # fmt: skip


def intervals():
    """The same of the mean-field temperature, which needs no simulation, of 100 choices of rows and 40 draws.

    table: of the data's energies, against the value of all rows.  drawn: of energies that a model drawn from the
    posterior of all rows has, with its noise, against the value of that model, another one each time.
    """
    for name in ("CuAu", "FePt"):
        data, lattice, every = opened(name)
        n_sites, species = lattice.n_sites, data.all.species
        mixed = (species.min(axis=1) == 0) & (species.max(axis=1) == 1)
        candidates = ShellModel.candidates(lattice, species, data.formation_energies)
        truths = drawn_models(candidates, 100, np.random.default_rng(99))
        for n in (40, 20):
            for kind in ("table", "drawn"):
                sides, widths = [], []
                for seed, truth in enumerate(truths):
                    chosen, energies = some_of(len(species), n, seed), data.formation_energies
                    if kind == "drawn":
                        noise = mixed * np.random.default_rng([seed, 7]).normal(size=len(species))
                        energies = truth.energy(lattice, species) + n_sites * truth.noise * noise
                    known = ordering_of(truth if kind == "drawn" else every, lattice)
                    models = ShellModel.candidates(lattice, species[chosen], energies[chosen])
                    drawn = drawn_models(models, 40, np.random.default_rng(seed))
                    temperatures = [ordering_of(model, lattice) for model in drawn]
                    low, high = np.quantile(temperatures, (0.025, 0.975), method="weibull")
                    sides.append(int(known > high) - int(known < low))
                    widths.append(high - low)
                row(
                    "intervals", alloy=name, rows=n, energies=kind, held=sides.count(0), too_low=sides.count(1),
                    too_high=sides.count(-1), width=round(float(np.median(widths))),
                )  # fmt: skip


def ordering_of(model, lattice):
    """The mean-field temperature of a model, 0 where nothing orders [K]."""
    try:
        return mean_field(Ordering.of(model, lattice, 0.0), 0.5)
    except InputError:
        return 0.0


def phases():
    """At which temperatures a large cell, half of it in order, comes to order; and where order and disorder last."""
    for name, guess in (("CuAu", 2720.0), ("FePt", 3600.0)):
        _, lattice, model = opened(name)
        settings = TransitionSettings(copies=(5, 5, 5), rounds=300)
        task = Simulation(model, lattice, Ordering.of(model, lattice, 0.0), guess, settings, seed=0)
        both, found = simulate(task)
        task = replace(task, guess=found.peak, moves=False)
        (ordered, hot), (disordered, cold) = (simulate(replace(task, begins=b)) for b in ("ordered", "disordered"))
        row(
            "phases",
            alloy=name,
            n_sites=both.n_sites,
            from_both=round(found.peak),
            from_order=round(hot.peak),
            from_disorder=round(cold.peak),
            apart=apart_between(ordered, disordered, 0.001),
            smallest_exchange=round(float(both.exchanged.min()), 3),
        )


def held(copies=5, rounds=1500):
    """The order that 4,000 sites, half of them in order, come to at one temperature alone, from the second half on."""
    for name, temperatures in (("CuAu", range(2600, 2761, 20)), ("FePt", range(3300, 3701, 100))):
        _, lattice, model = opened(name)
        large, ordering = lattice.repeated((copies,) * 3), Ordering.of(model, lattice, 0.0)
        settings = TransitionSettings(copies=(copies,) * 3)
        for kelvin in temperatures:
            task = Simulation(model, lattice, ordering, kelvin, settings, seed=kelvin)
            chain = sample(
                model, large, np.array([float(kelvin)]), shells=model.shells(large), ordering=ordering,
                start=begun(task, large.n_sites), rounds=rounds, seed=kelvin,
            )  # fmt: skip
            late = chain.order[len(chain.order) // 2 :]
            row("held", alloy=name, n_sites=large.n_sites, kelvin=kelvin, order=round(float(late.mean()), 3))


if __name__ == "__main__":
    asked = {
        "speed": speed,
        "sizes": sizes,
        "rows": rows,
        "coverage": coverage,
        "intervals": intervals,
        "phases": phases,
        "held": held,
    }
    for name in sys.argv[1:] or asked:
        asked[name]()
