"""Claim: a trial through our searchers, adapter and ledger costs at most 1.3 times one of Ray Tune's own, to the end.

Trials that do nothing but report once, two at a time, actors reused.  Ray's own side draws at random, without a
searcher; ours writes every trial durably to the ledger.  Both sides alternate in one session.

    python benchmarks/overhead.py [trials=150] [rounds=3] [long=1000]
"""

import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dftune.cluster.connection import connected
from dftune.platform.ledger import Ledger
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


def ours(method: str, n_trials: int, folder: str, ends: list[float] | None = None) -> float:
    """Seconds of ``n_trials`` of one of our methods; ``ends`` gets the moment at which each is in the ledger."""
    from ray import tune

    from dftune.platform.progress import Silent
    from dftune.platform.search import _Record
    from dftune.searchers.tune_searcher import TuneSearcher

    name = f"{method}-{time.monotonic_ns()}"
    spec = StudySpec.of({"name": name, "dataset": "nowhere", "method": method, "space": SPACE, "trials": n_trials})
    with closing(Ledger.create(Path(folder) / f"{name}.db", spec, "0" * 64)) as ledger:
        record = _Record(ledger, spec, lambda config: {}, Silent())
        if ends is not None:
            told = record.told
            record.told = lambda *a: (told(*a), ends.append(time.perf_counter()))  # type: ignore[method-assign]
        searcher = TuneSearcher(spec.searcher(), metric="best_loss", max_trials=n_trials, record=record)
        seconds = fitted(
            tune.Tuner(
                tune.with_resources(nothing, {"CPU": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher, num_samples=-1, max_concurrent_trials=2, reuse_actors=True
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
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
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in enumerate((150, 3, 1000), start=1)
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
            ends: list[float] = []
            ours(method, long, folder, ends)
            tenth = long // 10
            row = {"case": "growth", "method": method, "trials": long, "seconds": ends[-1] - ends[0]}
            row["ms_per_trial_by_tenth"] = [
                round(1e3 * (ends[(i + 1) * tenth - 1] - ends[i * tenth]) / (tenth - 1), 1) for i in range(10)
            ]
            print(json.dumps(row | common), flush=True)


if __name__ == "__main__":
    main()
