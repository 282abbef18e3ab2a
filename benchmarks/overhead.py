"""Claim: a trial through our searchers, adapter and ledger costs at most 1.3 times one of Ray Tune's own, to the end.

Trials that do nothing but report once, two at a time, actors reused.  Ray's own side draws at random, without a
searcher; ours writes every trial durably to the ledger.  Both sides alternate in one session.

Growth: one long search; the time of a trial by tenths of it, and the driver's CPU time, which other work on the
machine disturbs less; the two writes to the ledger; and by how much the driver has grown since the first tenth.

    python benchmarks/overhead.py [trials=150] [rounds=3] [long=2000]
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from dftune.cluster.connection import connected
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.spec import StudySpec

SPACE: dict[str, Any] = {
    "n_layers": {"type": "int", "low": 1, "high": 4},
    "width": {"type": "int", "low": 16, "high": 512, "log": True},
    "activation": {"type": "choice", "values": ["relu", "tanh"]},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
}


def nothing(config: dict[str, Any]) -> None:
    """A trial."""
    from ray import tune

    tune.report({"epoch": 1, "best_loss": 1.0, "validation_loss": 1.0, "complete": True})


def rays(n_trials: int, folder: str) -> float:
    """Seconds of ``n_trials`` of Ray Tune's own."""
    from ray import tune

    space = {
        "n_layers": tune.randint(1, 5),
        "width": tune.lograndint(16, 513),
        "activation": tune.choice(["relu", "tanh"]),
        "learning_rate": tune.loguniform(1e-4, 1e-2),
    }
    return fitted(
        tune.Tuner(
            tune.with_resources(nothing, {"CPU": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=n_trials, max_concurrent_trials=2, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
    )


class Watched:
    """What a search has cost by the end of each trial."""

    def __init__(self) -> None:
        self.seconds: list[float] = []  # of the clock
        self.cpu: list[float] = []  # of the driver
        self.memory: list[float] = []  # of the driver [MB]
        self.ledger = 0.0  # seconds of writing

    def timed(self, write: Callable[..., None], ends: bool) -> Callable[..., None]:
        """``write``, watched; the end of a trial if ``ends``."""

        def watched(*arguments: Any, **more: Any) -> None:
            begun = time.perf_counter()
            write(*arguments, **more)
            self.ledger += time.perf_counter() - begun
            if ends:
                self.seconds.append(time.perf_counter())
                self.cpu.append(time.process_time())
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                self.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

        return watched

    def row(self) -> dict[str, Any]:
        """By tenths of the trials, and over all of them."""
        n = len(self.seconds)
        cuts = [round(i * (n - 1) / 10) for i in range(11)]

        def per_trial(times: list[float]) -> list[float]:
            return [round(1e3 * (times[b] - times[a]) / (b - a), 1) for a, b in pairwise(cuts)]

        return {
            "ms_per_trial_by_tenth": per_trial(self.seconds),
            "driver_cpu_ms_by_tenth": per_trial(self.cpu),
            "ledger_ms_per_trial": round(1e3 * self.ledger / n, 1),
            "driver_mb_per_1000_trials": round(1e3 * (self.memory[-1] - self.memory[cuts[1]]) / (n - cuts[1]), 1),
        }


def ours(method: str, n_trials: int, folder: str, watched: Watched | None = None) -> float:
    """Seconds of ``n_trials`` of one of our methods."""
    from ray import tune

    from dftune.cluster.trials.schedulers import InOrder
    from dftune.cluster.trials.trial_watch import TrialWatch
    from dftune.platform.progress import Silent
    from dftune.platform.study.record import Record
    from dftune.searchers.tune_searcher import TuneSearcher

    name = f"{method}-{time.monotonic_ns()}"
    spec = StudySpec.of({"name": name, "dataset": "nowhere", "method": method, "space": SPACE, "trials": n_trials})
    with closing(Ledger.create(Path(folder) / f"{name}.db", spec, "0" * 64)) as ledger:
        record = Record(ledger, spec, lambda config: {}, Silent())
        if watched is not None:
            record.asked = watched.timed(record.asked, ends=False)  # type: ignore[method-assign]
            record.told = watched.timed(record.told, ends=True)  # type: ignore[method-assign]
        searcher = TuneSearcher(spec.searcher(), metric="best_loss", max_trials=n_trials, record=record)
        seconds = fitted(
            tune.Tuner(
                tune.with_resources(nothing, {"CPU": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=InOrder(),
                    num_samples=-1,
                    max_concurrent_trials=2,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[TrialWatch()]),
            )
        )
        assert [t.state for t in ledger.trials()] == ["finished"] * n_trials
    return seconds


def fitted(tuner: Any) -> float:
    started = time.perf_counter()
    results = tuner.fit()
    assert not results.errors
    return time.perf_counter() - started


def main() -> None:
    n_trials, rounds, long = (
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in enumerate((150, 3, 2000), start=1)
    )
    common = {"ray": version("ray"), "optuna": version("optuna"), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder, connected():
        rays(10, folder)  # workers start
        times: dict[str, list[float]] = {"ray": [], "random": [], "optuna": []}
        for _ in range(rounds):
            times["ray"].append(rays(n_trials, folder))
            for method in ("random", "optuna"):
                times[method].append(ours(method, n_trials, folder))
        for method in ("random", "optuna"):
            ratios = [ours_s / rays_s for ours_s, rays_s in zip(times[method], times["ray"], strict=True)]
            row = {"case": "overhead", "method": method, "trials": n_trials, "ratios": [round(r, 3) for r in ratios]}
            per_trial = {name: round(1e3 * statistics.median(t) / n_trials, 1) for name, t in times.items()}
            print(
                json.dumps(row | {"ratio": statistics.median(ratios), "ms_per_trial": per_trial} | common), flush=True
            )
        for method in ("random", "optuna"):
            watched = Watched()
            row = {"case": "growth", "method": method, "trials": long, "seconds": ours(method, long, folder, watched)}
            print(json.dumps(row | watched.row() | common), flush=True)


if __name__ == "__main__":
    main()
