"""Claims: a model predicts within a millisecond. Not so: rows where models disagree are no better than random ones.

On the bundled tables of both alloys, in this process; prints a row of JSON for each number.

    python benchmarks/alloys.py select|times
"""

import json
import sys
import time

import numpy as np

from dftune.tests.places import ROOT
from dftune.trainables.alloys.baselines import ROUNDS
from dftune.trainables.alloys.config import AlloyConfig
from dftune.trainables.alloys.configurations import DRAWS, most_disagreed
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.inference import inference_time
from dftune.trainables.alloys.repeated import papers_rows, splits_of
from dftune.trainables.alloys.shell_model import ShellModel, SiteModel, drawn_models
from dftune.trainables.alloys.units import MRY

ALLOYS = ("CuAu", "FePt")
FEW, MORE, SPLITS = 20, 20, 60


def row(case, **values):
    print(json.dumps({"case": case, **values}), flush=True)


def opened(name):
    return AlloyData.open(str(ROOT / "examples" / "alloys" / name))


def select():
    """Error of the shell model on test orbits [mRy/atom]: of 20 rows, of 20 random ones more, of 20 selected ones more.

    Both are taken from what a split does not test on, so there are few to select from.
    """
    for name in ALLOYS:
        errors = {"of few": [], "and random ones": [], "and selected ones": []}
        for seed, (data, test) in enumerate(splits_of(opened(name), SPLITS)):
            species = np.concatenate([data.train.species, data.validation.species])
            energy = 32 * np.concatenate([data.train.values["E"], data.validation.values["E"]])[:, 0]
            rng = np.random.default_rng([seed, 3])
            order = rng.permutation(len(species))
            few, pool = order[:FEW], order[FEW:]
            lattice = data.lattice
            candidates = ShellModel.candidates(lattice, species[few], energy[few])
            chosen = most_disagreed(drawn_models(candidates, DRAWS, rng), lattice, list(species[pool]), MORE)
            selected = [i for i in pool if any((species[i] == one).all() for one in chosen)]
            for case, more in zip(errors, ([], pool[:MORE], selected), strict=True):
                rows = np.concatenate([few, more]).astype(int)
                model = ShellModel.fit(lattice, species[rows], energy[rows])
                off = model.energy(lattice, test.species) / 32 - test.values["E"][:, 0]
                errors[case].append(abs(off).mean() / MRY)
        for case, found in errors.items():
            row("select", alloy=name, rows=case, error=round(np.mean(found), 3), std=round(np.std(found), 3))
        difference = np.array(errors["and selected ones"]) - errors["and random ones"]
        row(
            "select", alloy=name, selected_beside_random=round(difference.mean(), 3), std=round(difference.std(), 3),
            better=int((difference < 0).sum()), of=SPLITS,
        )  # fmt: skip


def times():
    """Time of predicting all targets [µs a configuration], one and a thousand at a time; least of 5."""
    for name in ALLOYS:
        ((data, _),) = splits_of(opened(name), 1)
        lattice, varying = data.lattice, data.varying
        energy = ShellModel.fit(lattice, data.train.species, 32 * data.train.values["E"][:, 0])
        sites = [
            SiteModel.fit(lattice, data.train.species, data.train.values[t], n_shells=energy.n_shells)
            for t in varying
            if t != "E"
        ]
        drawn = np.random.default_rng(0).integers(2, size=(1000, 32)).astype(np.uint8)

        def shells(species, energy=energy, sites=sites, lattice=lattice):
            return [energy.energy(lattice, species), *(one.predict(lattice, species) for one in sites)]

        row("times", alloy=name, model="shell model", one=least(shells, drawn[:1]), of_1000=least(shells, drawn))
        trees = boosted(data)
        row("times", alloy=name, model="XGBoost", one=least(trees, drawn[:1]), of_1000=least(trees, drawn))
        clusters = AlloyConfig.of({"tasks": "".join(varying), "training": "none"})
        for config in (clusters, *papers_rows(AlloyConfig(), varying)):
            one, many = (min(inference_time(config, 32, n=n) for _ in range(5)) for n in (1, 1000))
            row("times", alloy=name, model=str(config), one=round(one, 1), of_1000=round(many, 2))


def boosted(data):
    """Trees of all tasks with default settings, as a function of species."""
    from xgboost import DMatrix, train

    fitted = [
        train({"nthread": 1}, DMatrix(data.train.sigma, values.reshape(len(values), -1)), num_boost_round=ROUNDS)
        for values in (data.train.values[t] for t in data.varying)
    ]
    return lambda species: [one.predict(DMatrix(2.0 * species - 1)) for one in fitted]


def least(model, species):
    """The least time of 5 [µs a configuration]."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        model(species)
        seconds.append(time.perf_counter() - started)
    return round(1e6 * min(seconds) / len(species), 2)


if __name__ == "__main__":
    for asked in sys.argv[1:] or ("select", "times"):
        {"select": select, "times": times}[asked]()
