"""Models of alloys on many splits: mean and standard deviation, as Tables 3 and 4 of Lupo Pasini et al. (2020)."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .accuracy import AlloyAccuracy, accuracy_of
from .config import NAMES, AlloyConfig
from .data import AlloyData
from .inference import MANY, inference_time
from .splits import SplitSettings
from .training import predict, train
from .training_data import Targets, TrainingData, read_training_data

ROWS = ("E", "C", "M", "EC", "EM", "CM", "ECM")  # the first three are single-task
JUDGE_EPOCHS = 10  # every how many epochs the validation data choose the weights
Splits = Sequence[tuple[TrainingData, Targets]]
Baseline = Callable[[TrainingData, Targets, int], AlloyAccuracy]


@dataclass(frozen=True)
class Repeated:
    """What a model came to on several splits.

    name: of the row.  group: what it is one of.  tasks: what it learns, as ``EC``.  orbits: trained on, where that is
    limited.  each: name of a number in ``AlloyAccuracy.values`` -> what it is on each split.  cpu_seconds: of one
    training.  microseconds: of a prediction, one at a time and a thousand at a time [µs a configuration]; None for a
    baseline.
    """

    name: str
    group: str
    tasks: str
    orbits: int | None
    each: dict[str, list[float]]
    cpu_seconds: float
    microseconds: tuple[float, float] | None = None

    @property
    def values(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each number over the splits."""
        return {name: (float(np.mean(some)), float(np.std(some))) for name, some in self.each.items()}

    def row(self) -> dict[str, str]:
        """A row of a table, in the units of ``AlloyAccuracy``."""
        row = {"model": self.name}
        for name, label in COLUMNS.items():
            if name in self.each:
                mean, std = self.values[name]
                if name == "total_energy_r2":  # 0.9999999999998 says nothing
                    row[label] = f"{1 - mean:.1e} ± {std:.0e}"
                else:
                    row[label] = f"{mean:.4f} ± {std:.4f}" if name.endswith("_r2") else f"{mean:.4g} ± {std:.2g}"
        row["training [CPU s]"] = f"{self.cpu_seconds:.3g}"
        one, many = self.microseconds or (None, None)
        row["one [µs]"] = "-" if one is None else f"{one:.3g}"
        row[f"of {MANY} [µs]"] = "-" if many is None else f"{many:.3g}"
        return row

    def beside(self, others: Iterable["Repeated"], n: int) -> dict[str, str]:
        """A row of differences to other models on the same n splits: mean, standard deviation, how often it is better.

        Errors alone, each of the first of the others that has it.  Where a training of either failed, nothing is
        compared: of the others it is not known on which splits they were.
        """
        row = {"model": self.name}
        for name, label in COLUMNS.items():
            mine = self.each.get(name)
            theirs = next((other.each[name] for other in others if name in other.each), None)
            if name.endswith("_mae") and mine is not None and theirs is not None and len(mine) == len(theirs) == n:
                difference = np.array(mine) - np.array(theirs)
                better = int((difference < 0).sum())
                row[label] = f"{difference.mean():+.2g} ± {difference.std():.2g}, better in {better} of {len(mine)}"
        return row


COLUMNS = {
    "total_energy_r2": "total energy, 1 - R²",
    "energy_r2": "formation energy R²",
    "energy_mae": "formation energy [mRy/atom]",
    "charge_r2": "charge R²",
    "charge_mae": "charge [e]",
    "moment_r2": "moment R²",
    "moment_mae": "moment [mu_B]",
}


@dataclass(frozen=True)
class Repeat:
    """A task: a config or a baseline on the splits of the seeds 0 to n - 1.

    location: of the dataset.  settings: of the splits, but for the seed.
    """

    name: str
    group: str
    location: str
    settings: SplitSettings
    n: int
    config: AlloyConfig | None = None
    baseline: Baseline | None = None

    @property
    def key(self) -> str:
        """All that its numbers depend on besides the data, as JSON; a baseline is known by its name."""
        settings = self.settings.model_dump(mode="json", exclude={"seed"})
        config = None if self.config is None else self.config.model_dump(mode="json")
        return json.dumps([self.name, self.group, settings, self.n, config])


def filled(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of a table with the same columns in each."""
    names = {name for row in rows for name in row}
    order = [name for name in ("model", *COLUMNS.values()) if name in names]
    order += [name for name in rows[0] if name not in order] if rows else []
    return [{name: row.get(name, "-") for name in order} for row in rows]


def repeat(task: Repeat) -> Repeated:
    """Do a task.  Raises InputError: no training of it came to its end."""
    splits = splits_of(AlloyData.open(task.location), task.n, task.settings)
    if task.config is not None:
        found = repeated(task.config, splits)
    else:
        assert task.baseline is not None
        found = repeated_baseline(task.name, task.baseline, splits)
    return replace(found, name=task.name, group=task.group, orbits=task.settings.rows)


def splits_of(data: AlloyData, n: int, settings: SplitSettings | None = None) -> Splits:
    """Training and test data of the splits of the seeds 0 to n - 1, else as ``settings``; errors as ``split_rows``."""
    settings = settings or SplitSettings()
    return [read_training_data(data, settings.model_copy(update={"seed": seed, "folds": 1})) for seed in range(n)]


def papers_rows(config: AlloyConfig, varying: Iterable[str]) -> list[AlloyConfig]:
    """The configs of all rows whose targets vary: a network of its own for one task, else one with a common trunk.

    They have two layers of 200 neurons where no moments vary, else of 300, and equal α; all else is as in ``config``.
    """
    some = set(varying)
    values: dict[str, Any] = {"depth": 2, "width": 300 if "M" in some else 200, "training": "adam"}
    values |= {f"alpha_{name}": 1.0 for name in NAMES.values()}
    found = []
    for tasks in ROWS:
        if set(tasks) <= some:
            architecture = "single" if len(tasks) == 1 else "multi"
            found.append(
                AlloyConfig.of({**config.model_dump(), **values, "tasks": tasks, "architecture": architecture})
            )
    return found


def repeated(config: AlloyConfig, splits: Splits, *, judge_epochs: int = JUDGE_EPOCHS) -> Repeated:
    """Train a config on all splits at once, and judge each network on the test data of its own.

    Args:
        config: all hyperparameters.
        splits: training and test data of each.
        judge_epochs: every how many epochs the validation data choose the weights.

    Raises:
        TrainingFailed: no training came to its end; one that fails is left out.
        InputError: a task whose targets do not vary.
    """
    started = time.process_time()
    trained = train(config, [data for data, _ in splits], seeds=range(len(splits)), judge_epochs=judge_epochs)
    seconds = (time.process_time() - started) / len(splits)
    found = []
    for t, which in enumerate(trained.which):
        test = splits[which][1]
        one = predict(trained.network, trained.scaling, test.sigma)
        found.append(accuracy_of({task: values[t : t + 1] for task, values in one.items()}, test))
    n_sites = splits[0][0].lattice.n_sites
    times = inference_time(config, n_sites, n=1), inference_time(config, n_sites)
    return Repeated(str(config), "", config.tasks, None, _each(found), seconds, times)


def repeated_baseline(name: str, baseline: Baseline, splits: Splits) -> Repeated:
    """A baseline on all splits."""
    started = time.process_time()
    found = [baseline(data, test, seed) for seed, (data, test) in enumerate(splits)]
    seconds = (time.process_time() - started) / len(splits)
    return Repeated(name, "", "".join(splits[0][0].varying), None, _each(found), seconds)


def _each(found: Iterable[AlloyAccuracy]) -> dict[str, list[float]]:
    by_name: dict[str, list[float]] = {}
    for accuracy in found:
        for name, (mean, _) in accuracy.values.items():
            if mean is not None:
                by_name.setdefault(name, []).append(mean)
    return by_name
