"""Networks and baselines on many splits: mean and standard deviation, as the tables of Lupo Pasini et al. (2020)."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .accuracy import AlloyAccuracy, accuracy_of
from .config import AlloyConfig
from .data import AlloyData
from .inference import MANY, inference_time
from .splits import SplitSettings
from .training import predict, train
from .training_data import Targets, TrainingData, read_training_data

ROWS = ("E", "C", "M", "EC", "EM", "CM", "ECM")  # the first three are single-task
Splits = Sequence[tuple[TrainingData, Targets]]
Baseline = Callable[[TrainingData, Targets, int], AlloyAccuracy]


@dataclass(frozen=True)
class Repeated:
    """What a model came to on several splits.

    name: of the row.  values: name of a number in ``AlloyAccuracy.values`` -> mean and standard deviation over the
    splits.  n_splits: of them.  cpu_seconds: of one training.  microseconds: of a prediction, one at a time and a
    thousand at a time [µs a configuration]; None for a baseline.
    """

    name: str
    values: dict[str, tuple[float, float]]
    n_splits: int
    cpu_seconds: float
    microseconds: tuple[float, float] | None = None

    def row(self) -> dict[str, Any]:
        """A row of a table, in the units of ``AlloyAccuracy``."""
        row: dict[str, Any] = {"model": self.name, "splits": self.n_splits}
        for name in COLUMNS:
            if name in self.values:
                mean, std = self.values[name]
                row[name] = f"{mean:.4f} ± {std:.4f}" if name.endswith("_r2") else f"{mean:.4g} ± {std:.2g}"
        row["training [CPU s]"] = round(self.cpu_seconds, 3)
        if self.microseconds is not None:
            row["one [µs]"], row[f"of {MANY} [µs]"] = (round(t, 1) for t in self.microseconds)
        return row


COLUMNS = ("energy_r2", "energy_mae", "charge_r2", "charge_mae", "moment_r2", "moment_mae")


def splits_of(data: AlloyData, n: int, settings: SplitSettings | None = None) -> Splits:
    """Training and test data of the splits of the seeds 0 to n - 1, else as ``settings``; errors as ``split_rows``."""
    settings = settings or SplitSettings()
    return [read_training_data(data, settings.model_copy(update={"seed": seed})) for seed in range(n)]


def papers_rows(config: AlloyConfig, data: TrainingData) -> list[AlloyConfig]:
    """The configs of all rows whose targets vary: a network of its own for one task, else one with a common trunk."""
    found = []
    for tasks in ROWS:
        if set(tasks) <= set(data.varying):
            architecture = "single" if len(tasks) == 1 else "multi"
            found.append(AlloyConfig.of({**config.model_dump(), "tasks": tasks, "architecture": architecture}))
    return found


def repeated(config: AlloyConfig, splits: Splits, *, judge_epochs: int = 10) -> Repeated:
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
    return Repeated(str(config), _means(found), len(found), seconds, times)


def repeated_baseline(name: str, baseline: Baseline, splits: Splits) -> Repeated:
    """A baseline on all splits."""
    started = time.process_time()
    found = [baseline(data, test, seed) for seed, (data, test) in enumerate(splits)]
    return Repeated(name, _means(found), len(found), (time.process_time() - started) / len(splits))


def _means(found: Iterable[AlloyAccuracy]) -> dict[str, tuple[float, float]]:
    by_name: dict[str, list[float]] = {}
    for accuracy in found:
        for name, (mean, _) in accuracy.values.items():
            if mean is not None:
                by_name.setdefault(name, []).append(mean)
    return {name: (float(np.mean(values)), float(np.std(values))) for name, values in by_name.items()}
