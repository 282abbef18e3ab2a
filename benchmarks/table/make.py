"""Train and judge a fixed list of configs on several sets, with all scores and the readout beside, into table.parquet.

A killed run goes on where it was: finished rows are in the file. README.md beside says what the columns are.

    python benchmarks/table/make.py [SET ...]    sets as in SETS; those whose data are here by default
    python benchmarks/table/make.py --tau        τ of the scores and of the readout on the rows that are there
    python benchmarks/table/make.py --portfolio  configs that are good on all sets but one, on that one
"""

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from dftune.platform.ledger.score_quality import score_quality
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.space import Choice, Float, Int
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.files import atomic
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training import Trained, train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData, read_split

HERE = Path(__file__).parent
TABLE = HERE / "table.parquet"
SHARED = HERE.parents[2] / "shared" / "data"
SPACE = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid")),
    "learning_rate": Float(low=3e-4, high=1e-2, log=True),
}
FIXED = {"batch_size": 128, "epochs": 12, "patience": 12}
N_CONFIGS, SEED = 60, 14
N_TRAIN, N_VALIDATION, N_TEST = 6_000, 2_000, 2  # grid points of all snapshots together; whole snapshots
WAYS = ("trained", "trained_readout", "readout")


@dataclass(frozen=True)
class Set:
    """Snapshots and descriptors.

    folder: of a dataset, or of raw data.  splits: ids of raw snapshots.  pseudopotentials: of raw data.
    """

    folder: Path
    settings: BispectrumSettings
    splits: Mapping[str, Sequence[str]] | None = None

    def open(self, temporary: Path) -> Dataset:
        """The dataset; raw data are imported into a temporary folder, and so are the descriptors' files written."""
        if self.splits is None:
            return Dataset.open(self.folder)
        return import_dataset(
            [self.folder], temporary / self.folder.name, pseudopotentials=self.folder, source="benchmark", **self.splits
        )


SETS = {
    "al4-example": Set(HERE.parents[1] / "examples" / "al4", BispectrumSettings(cutoff=4.68, two_j_max=10)),
    "al4": Set(
        SHARED / "al4",
        BispectrumSettings(cutoff=3.0, two_j_max=8),
        {
            "validation": ["006", "007", "008", "018", "019", "020"],
            "test": ["009", "010", "011", "021", "022", "023"],
        },
    ),
    "be4": Set(
        SHARED / "be4",
        BispectrumSettings(cutoff=3.5, two_j_max=8),
        {"validation": ["002"], "test": ["003"]},
    ),
}


def _column(name: str, kind: pa.DataType, about: str, unit: str = "", *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"about": about, **({"unit": unit} if unit else {})})


def _errors(way: str, about: str) -> list[pa.Field]:
    return [
        _column(f"{way}_ldos_error", pa.float64(), f"1 - R² of the LDOS, {about}"),
        _column(f"{way}_band_energy_mae", pa.float64(), f"mean |E_b - E_b,DFT|, {about}", "meV/atom", nullable=True),
        _column(f"{way}_free_energy_mae", pa.float64(), f"mean |A - A_DFT|, {about}", "meV/atom", nullable=True),
        _column(f"{way}_cpu_s", pa.float64(), f"CPU time, {about}", "s"),
    ]


SCHEMA = pa.schema(
    [
        _column("set", pa.string(), "the data"),
        _column("cutoff", pa.float64(), "of the bispectrum", "Å"),
        _column("two_j_max", pa.int32(), "of the bispectrum, 2 J_max"),
        _column("n_train", pa.int32(), "grid points of the training"),
        _column("config", pa.int32(), "number of the config in the list, the same on all sets"),
        _column("n_layers", pa.int32(), "hidden layers"),
        _column("width", pa.int32(), "neurons of each"),
        _column("activation", pa.string(), "after each"),
        _column("learning_rate", pa.float64(), "of Adam at the first step; it falls as a cosine"),
        _column("validation_loss", pa.float64(), "mean squared error of the scaled LDOS, the best epoch's"),
        *_errors("trained", "trained by Adam"),
        *_errors("trained_readout", "then with the last layer in closed form, LDOS alone; time of this step"),
        *_errors("readout", "random hidden layers and the last layer in closed form, LDOS alone"),
        *[_column(name, pa.float64(), score.label + ", larger is better") for name, score in SCORES.items()],
        *[_column(f"{name}_cpu_s", pa.float64(), f"CPU time of the score {name}", "s") for name in SCORES],
    ]
)


def configs(n: int = N_CONFIGS) -> list[dict[str, Any]]:
    """The list: hyperparameters that vary."""
    search = RandomSearch(SPACE, SEED)
    found = (search.ask(str(k)) for k in range(n))
    return [config for config in found if isinstance(config, dict)]


def data_of(one: Set, dataset: Dataset, *, n_train: int, n_validation: int) -> tuple[TrainingData, list[SnapshotData]]:
    """Random grid points of training and validation, and whole snapshots for the test."""
    for s in dataset.without_descriptors(one.settings):
        values = bispectrum(s.cell, s.positions, s.numbers, s.grid, one.settings)
        dataset.write_descriptors(s, one.settings, values)
    rng = np.random.default_rng(SEED)
    parts = []
    for split, n_points in (("train", n_train), ("validation", n_validation)):
        some = read_split(dataset, one.settings, split)
        parts.append([_thinned(d, n_points // len(some), rng) for d in some])
    info = dataset.info
    data = TrainingData(*parts, info.energy_grid, Scaling.fit(parts[0]), one.settings, info.species)
    test = read_split(dataset, one.settings, "test")
    return data, test[:: -(-len(test) // N_TEST)]


def _thinned(d: SnapshotData, n: int, rng: np.random.Generator) -> SnapshotData:
    chosen = np.sort(rng.choice(d.snapshot.n_points, size=n, replace=False))
    parts = [np.concatenate([shard[:] for shard in shards])[chosen] for shards in (d.descriptors, d.ldos)]
    return replace(d, descriptors=parts[:1], ldos=parts[1:])


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    found = function()
    return found, time.process_time() - started


def row_of(
    name: str,
    number: int,
    values: Mapping[str, Any],
    data: TrainingData,
    test: Sequence[SnapshotData],
    dataset: Dataset,
) -> dict[str, Any]:
    """One config, trained and judged in the three ways, with its scores."""
    config = SurrogateConfig.of({**FIXED, **values, "energy_weight": 0.0, "force_weight": 0.0})
    untrained = SurrogateConfig.of({**config.model_dump(), "training": "none"})
    seeds = [SEED]
    trained, trained_s = _timed(lambda: train(config, data, seeds=seeds))
    solved, solved_s = _timed(lambda: fit(config, data, seeds=seeds, trained=_copy(trained)))
    readout, readout_s = _timed(lambda: fit(untrained, data, seeds=seeds))
    assert data.descriptors is not None
    row: dict[str, Any] = {
        "set": name,
        "cutoff": data.descriptors.cutoff,
        "two_j_max": data.descriptors.two_j_max,
        "n_train": sum(len(shard) for d in data.train for shard in d.ldos),
        "config": number,
        **values,
        "validation_loss": trained.best_loss[0],
    }
    ingredients = replace(data, dft=dataset.info.dft).ingredients
    for way, found, seconds in zip(WAYS, (trained, solved, readout), (trained_s, solved_s, readout_s), strict=True):
        a = judge(found.network, data.scaling, data.energy_grid, test, ingredients=ingredients).accuracy
        row |= {
            f"{way}_ldos_error": 1 - a.ldos_r2,
            f"{way}_band_energy_mae": a.band_energy_mae,
            f"{way}_free_energy_mae": a.free_energy_mae,
            f"{way}_cpu_s": seconds,
        }
    return row | scores_of(config, data)


def _copy(trained: Trained) -> Trained:
    return replace(trained, network=trained.network.only(0))


def scores_of(config: SurrogateConfig, data: TrainingData) -> dict[str, float]:
    """All scores of a config, and what they cost."""
    found = {}
    for name, score in SCORES.items():
        batch = data.sample(score.n_points, np.random.default_rng([SEED, 1]))
        values, found[f"{name}_cpu_s"] = _timed(lambda s=score, b=batch: s.function([config], b, SEED))
        found[name] = values[0]
    return found


def rows(
    names: Sequence[str],
    done: set[tuple[str, int]],
    *,
    n_configs: int = N_CONFIGS,
    n_train: int = N_TRAIN,
    n_validation: int = N_VALIDATION,
) -> Iterator[dict[str, Any]]:
    """The rows of some sets that are not done yet, each as soon as it is there."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            missing = [(k, c) for k, c in enumerate(configs(n_configs)) if (name, k) not in done]
            if not missing:
                continue
            dataset = SETS[name].open(Path(temporary))
            data, test = data_of(SETS[name], dataset, n_train=n_train, n_validation=n_validation)
            scores_of(SurrogateConfig.of({"width": 8}), data)  # the first call of each imports
            for k, config in missing:
                yield row_of(name, k, config, data, test, dataset)


def read() -> list[dict[str, Any]]:
    """The rows that are there."""
    return pq.read_table(TABLE, schema=SCHEMA).to_pylist() if TABLE.exists() else []


def write(found: Sequence[Mapping[str, Any]]) -> None:
    """All rows, in the order of sets and configs."""
    ordered = sorted(found, key=lambda row: (list(SETS).index(row["set"]), row["config"]))
    with atomic(TABLE) as part:
        pq.write_table(pa.Table.from_pylist(ordered, schema=SCHEMA), part, compression="zstd")


def taus(found: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """τ of each score, and of the error of the readout alone, with the errors of trained networks, set by set."""
    for name in dict.fromkeys(row["set"] for row in found):
        own = [row for row in found if row["set"] == name]
        for target in ("trained_ldos_error", "trained_readout_ldos_error", "readout_ldos_error"):
            values = [row[target] for row in own]
            predictors = {score: [row[score] for row in own] for score in SCORES}
            if target != "readout_ldos_error":
                predictors["readout_ldos_error"] = [-row["readout_ldos_error"] for row in own]
            for score, numbers in predictors.items():
                q = score_quality(score, numbers, values)
                cost = f"{'readout' if score == 'readout_ldos_error' else score}_cpu_s"
                yield {
                    "set": name,
                    "value": target,
                    "score": score,
                    "n": q.n_trials,
                    "tau": q.tau,
                    "tau_error": q.tau_error,
                    "regret": q.regret,
                    "cpu_s": float(np.median([row[cost] for row in own])),
                }


def portfolios(found: Sequence[Mapping[str, Any]], sizes: Sequence[int] = (1, 3, 5)) -> Iterator[dict[str, Any]]:
    """Configs that were best on all materials but one, and the least error that the first n of them have on that one.

    First come those with the least mean error over the other sets; the two sets of aluminium are left out together.
    Beside them as many at random (expected), and the one of the list that is most like the defaults.  Errors are in
    units of the least on that set.
    """
    sets = dict.fromkeys(row["set"] for row in found)
    listed = [row for row in found if row["set"] == found[0]["set"]]
    like_the_defaults = int(np.argmin([_unlike_the_defaults(row) for row in listed]))
    for target in ("trained_ldos_error", "trained_readout_ldos_error", "readout_ldos_error"):
        errors = {name: np.array([row[target] for row in found if row["set"] == name]) for name in sets}
        relative = {name: values / values.min() for name, values in errors.items()}
        for name, own in relative.items():
            others = [values for other, values in relative.items() if other[:2] != name[:2]]
            order = np.argsort(np.mean(others, axis=0))
            row: dict[str, Any] = {"value": target, "left_out": name, "default": float(own[like_the_defaults])}
            for n in sizes:
                row |= {f"portfolio_{n}": float(own[order[:n]].min()), f"random_{n}": _least_of(own, n)}
            yield row | {"first": [int(listed[k]["config"]) for k in order[: max(sizes)]]}


def _least_of(values: NDArray[np.float64], n: int) -> float:
    """The least of n of these values that are drawn at random, on average: the k-th is it if no lower one is drawn."""
    chances = [math.comb(above, n - 1) / math.comb(len(values), n) for above in reversed(range(len(values)))]
    return float(np.sort(values) @ chances)


def _unlike_the_defaults(row: Mapping[str, Any]) -> float:
    """A distance of a config from 2 x 128 gelu with a learning rate of 1e-3."""
    d = SurrogateConfig(learning_rate=1e-3)
    ratios = [row["width"] / d.width, row["learning_rate"] / d.learning_rate]
    return float(
        abs(row["n_layers"] - d.n_layers) + np.abs(np.log2(ratios)).sum() + (row["activation"] != d.activation)
    )


def main() -> None:
    found = read()
    if sys.argv[1:] == ["--portfolio"]:
        for one in portfolios(found):
            print(json.dumps(one))
        return
    if sys.argv[1:] == ["--tau"]:
        for one in taus(found):
            print(json.dumps(one))
        return
    names = sys.argv[1:] or [name for name, one in SETS.items() if one.folder.is_dir()]
    for row in rows(names, {(row["set"], row["config"]) for row in found}):
        found.append(row)
        write(found)
        print(json.dumps(row | {"cpus": os.cpu_count()}), flush=True)


if __name__ == "__main__":
    main()
