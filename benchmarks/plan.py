"""Claim: the simulation of `dftune cluster plan` foretells the time of real searches on other slots within 15 %.

Trials sleep, longer for larger networks, so that slots are exact on any machine; searcher, adapter, ledger, Ray Tune
and its processes are real.  One random search on two slots is measured; from its ledger alone all others are foretold.
How many trials oat and direct take depends on values, which are guessed for configs that were not measured: ``trained``
tells by how many the guess was off.

    python benchmarks/plan.py [second=4.0]    (a typical trial, longer than a process takes to start; six minutes)
"""

import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from dftune.cluster.connection import connected
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.plan.costs import Evidence, Measured
from dftune.platform.plan.simulation import simulate
from dftune.platform.spec import StudySpec

SPACE: dict[str, Any] = {
    "n_layers": {"type": "int", "low": 1, "high": 3},
    "width": {"type": "int", "low": 32, "high": 128, "log": True},
    "activation": {"type": "choice", "values": ["relu", "tanh"]},
}
METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "optuna": {},
    "oat": {},
    "direct": {"kind": "sweep", "start": "middle"},
}
EPOCHS, POINTS = 4, 10_000
SIZES = {"n_in": 91, "n_out": 37, "n_train": POINTS, "n_validation": POINTS}


def asleep(task: dict[str, Any]) -> None:
    """A trial: sleeps 0.4 to 2.6 times ``second``, reporting each epoch."""
    from ray import tune

    hidden = [task["width"]] * task["n_layers"]
    n_parameters = sum((a + 1) * b for a, b in pairwise([SIZES["n_in"], *hidden, SIZES["n_out"]]))
    seconds = task["second"] * (0.3 + n_parameters / 20_000)
    loss = (100 if task["activation"] == "relu" else 130) / n_parameters  # no two configs are equally good
    for epoch in range(1, EPOCHS + 1):
        time.sleep(seconds / EPOCHS)
        numbers = {"epoch": epoch, "grid_points": POINTS * epoch, "seconds": seconds * epoch / EPOCHS}
        report = numbers | {"best_loss": loss, "validation_loss": loss, "n_parameters": n_parameters}
        tune.report(report)
    tune.report(report | {"complete": True})


def busy(task: dict[str, Any]) -> None:
    """A trial that does nothing but report."""
    from ray import tune

    for epoch in range(1, task["reports"] + 1):
        tune.report({"epoch": epoch, "best_loss": 1.0, "validation_loss": 1.0})
    tune.report({"epoch": task["reports"], "best_loss": 1.0, "validation_loss": 1.0, "complete": True})


def spec_of(name: str, method: str, n_trials: int) -> StudySpec:
    values = {"name": name, "dataset": "nowhere", "space": SPACE, "config": {"epochs": EPOCHS, "batch_size": 128}}
    return StudySpec.of(values | {"method": method, "options": METHODS[method], "trials": n_trials})


def searched(trainable: Any, spec: StudySpec, slots: int, folder: str, more: dict[str, Any]) -> tuple[float, Evidence]:
    """Seconds of a real search, from its first trial to the end of its last, and what its ledger says."""
    from ray import tune

    from dftune.platform.progress import Silent
    from dftune.platform.study.record import Record
    from dftune.searchers.tune_searcher import TuneSearcher

    with closing(Ledger.create(Path(folder) / f"{spec.name}.db", spec, "0" * 64)) as ledger:
        searcher = TuneSearcher(
            spec.searcher(),
            metric="best_loss",
            max_trials=spec.trials,
            record=Record(ledger, spec, lambda config: {}, Silent()),
            package=lambda trial, config: config | more,
        )
        results = tune.Tuner(
            tune.with_resources(trainable, {"CPU": 0.25}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=slots, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        assert not results.errors
        assert searcher.error is None
        trials = ledger.trials()
    ends = [t.ended_at for t in trials if t.ended_at is not None]
    assert len(ends) == len(trials)
    return max(ends) - trials[0].started_at, Evidence(spec, trials, {}, {}, sizes=SIZES)


def main() -> None:
    second = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    common = {"ray": version("ray"), "optuna": version("optuna"), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder, connected():
        searched(busy, spec_of("warm", "random", 4), 2, folder, {"reports": 1})  # workers start
        driver = {
            n: searched(busy, spec_of(f"busy-{n}", "random", 60), 2, folder, {"reports": n})[0] / 60 for n in (1, 21)
        }
        report = (driver[21] - driver[1]) / 20
        row = {"case": "driver", "ms_per_report": 1e3 * report, "ms_per_trial": 1e3 * (driver[1] - 2 * report)}
        print(json.dumps(row | common), flush=True)
        _, evidence = searched(asleep, spec_of("measured", "random", 12), 2, folder, {"second": second})
        measured, errors = Measured([evidence]), []
        overhead = measured.overhead
        for method in METHODS:
            for slots in (1, 2, 4) if method == "random" else (2, 4):
                spec = spec_of(f"{method}-{slots}", method, 12 if method in ("random", "optuna") else 40)
                real, found = searched(asleep, spec, slots, folder, {"second": second})
                foretold = simulate(spec.searcher(), slots, measured.cost_of, overhead, max_trials=spec.trials)
                errors.append(foretold.seconds / real - 1)
                row = {"case": "plan", "method": method, "slots": slots, "real_s": real, "foretold_s": foretold.seconds}
                row |= {"trained": len(found.trials), "foretold_trained": foretold.trained}
                print(json.dumps(row | {"error": errors[-1]}), flush=True)
        row = {"case": "summary", "largest_error": max(map(abs, errors)), "mean_error": statistics.mean(errors)}
        row |= {"start_s": overhead.start, "reset_s": overhead.reset, "ask_s": overhead.ask}
        print(json.dumps(row | common), flush=True)


if __name__ == "__main__":
    main()
