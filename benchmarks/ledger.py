"""Claim: a trial costs the ledger under 50 ms, the 300th as the first.

SQLite, one study of eight hyperparameters: ``asked`` before a trial starts, ``told`` when it has ended.  What the disk
asks for one durable write of a page is measured beside it, after each trial and in the same folder.

    python benchmarks/ledger.py [trials=300]
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

import numpy as np

from dftune.platform.ledger import Ledger
from dftune.platform.spec import StudySpec
from dftune.searchers.space import Choice, Float, Int, draw

SPACE = {
    "n_layers": Int(low=1, high=4),
    "width": Int(low=16, high=512, log=True),
    "activation": Choice(values=("relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid")),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
    "batch_size": Choice(values=(64, 128, 256, 512)),
    "optimizer": Choice(values=("adam", "adamw", "sgd")),
    "weight_decay": Float(low=1e-6, high=1e-2, log=True),
    "schedule": Choice(values=("constant", "cosine")),
}
SCORES = {"rfr": 4.2, "first_width": 64.0, "n_parameters": 9.6}
RESULT = {
    "epoch": 25,
    "train_loss": 2.31e-3,
    "best_loss": 2.58e-3,
    "best_band_energy_mae": 9.7,
    "seconds": 6.1,
    "points_per_second": 196_000.0,
    "memory_mb": 512.0,
}
ENDS = 30  # trials at each end that a median is taken over


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rng = np.random.default_rng(0)
    spec = StudySpec(name="ledger", dataset=Path("nowhere"), method="random", space=SPACE)
    asked, told, disk = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Ledger.create(Path(folder) / "ledger.db", spec, "0" * 64)) as ledger,
        open(Path(folder) / "page", "wb") as page,
    ):
        for trial in range(trials):
            config = draw(spec.space, rng)
            times = [time.perf_counter()]
            ledger.asked(trial, config, seed=trial, scores=SCORES)
            times.append(time.perf_counter())
            ledger.told(trial, float(rng.random()), RESULT, None)
            times.append(time.perf_counter())
            page.write(bytes(4096))
            page.flush()
            os.fsync(page.fileno())
            times.append(time.perf_counter())
            for side, seconds in zip((asked, told, disk), np.diff(times), strict=True):
                side.append(1e3 * float(seconds))
        started = time.perf_counter()
        assert len(ledger.trials()) == trials
        read = time.perf_counter() - started
    both = [a + t for a, t in zip(asked, told, strict=True)]
    row = {"case": "ledger", "trials": trials, "hyperparameters": len(SPACE), "claimed_ms": 50}
    for name, side in {"asked": asked, "told": told, "both": both, "fsync_of_a_page": disk}.items():
        row |= {f"{name}_ms_first": statistics.median(side[:ENDS]), f"{name}_ms_last": statistics.median(side[-ENDS:])}
    row |= {"both_ms_max": max(both), "read_all_ms": 1e3 * read}
    print(json.dumps(row | {"optuna": version("optuna"), "sqlalchemy": version("sqlalchemy"), "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
