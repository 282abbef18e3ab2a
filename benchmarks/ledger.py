"""Claim: a trial costs the ledger at most 30 ms on SQLite, the 2,000th as the first; on PostgreSQL as well.

One study of eight hyperparameters, in a SQLite file and in a PostgreSQL database on this machine (a Unix socket,
durable writes), in turn: ``asked`` before a trial starts, ``told`` when it has ended, both as their holder writes.
What the disk asks for one durable write of a page is measured beside it, after each trial and on the same disk.  Then
the server is killed and started again between two writes.

    python benchmarks/ledger.py [trials=2000]
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dftune.platform.ledger.lease import Lease
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.places import Database, LedgerFile
from dftune.platform.spec import StudySpec
from dftune.searchers.space import Choice, Float, Int, draw
from dftune.tests.postgresql_server import Server, programs

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
ENDS = 100  # trials at each end that a median is taken over
RESTARTS = 5
DOWN_SECONDS = 2.0  # the server is away so long
SPEC = StudySpec(name="ledger", dataset=Path("nowhere"), method="random", space=SPACE)


def begun(place: LedgerFile | Database) -> Ledger:
    """A new ledger, as its holder has it."""
    ledger = Ledger.create(place, SPEC, "0" * 64)
    ledger.claim(Lease(place.home("ledger"), 1))
    return ledger


def write(ledger: Ledger, trial: int, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds of the two writes of a trial."""
    config = draw(SPEC.space, rng)
    times = [time.perf_counter()]
    ledger.asked(trial, config, seed=trial, scores=SCORES)
    times.append(time.perf_counter())
    ledger.told(trial, float(rng.random()), RESULT, None)
    times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rng = np.random.default_rng(0)
    about = {"optuna": version("optuna"), "sqlalchemy": version("sqlalchemy"), "cpus": os.cpu_count()}
    server = Server(durable=True) if programs() is not None else None
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "page", "wb") as page:
        ledgers = {"sqlite": begun(LedgerFile(Path(folder) / "ledger.db"))}
        if server is not None:
            ledgers["postgresql"] = begun(Database(server.new_database()))
        asked: dict[str, list[float]] = {name: [] for name in ledgers}
        told: dict[str, list[float]] = {name: [] for name in ledgers}
        disk = []
        for trial in range(trials):
            for name, ledger in ledgers.items():
                a, t = write(ledger, trial, rng)
                asked[name].append(1e3 * a)
                told[name].append(1e3 * t)
            started = time.perf_counter()
            page.write(bytes(4096))
            page.flush()
            os.fsync(page.fileno())
            disk.append(1e3 * (time.perf_counter() - started))
        for name, ledger in ledgers.items():
            with closing(Ledger.open(ledger.place, "ledger")) as fresh:
                started = time.perf_counter()
                assert len(fresh.trials()) == trials
                again = time.perf_counter() - started
            started = time.perf_counter()
            Ledger.open(ledger.place, "ledger").close()
            opened = time.perf_counter() - started
            both = [a + t for a, t in zip(asked[name], told[name], strict=True)]
            row = {"case": "ledger", "kind": name, "trials": trials, "hyperparameters": len(SPACE), "claimed_ms": 30}
            for side, ms in {"asked": asked[name], "told": told[name], "both": both, "fsync_of_a_page": disk}.items():
                row |= {
                    f"{side}_ms_first": statistics.median(ms[:ENDS]),
                    f"{side}_ms_last": statistics.median(ms[-ENDS:]),
                }
            row |= {"both_ms_mean": statistics.mean(both), "both_ms_max": max(both)}
            row |= {"open_ms": 1e3 * opened, "look_again_ms": 1e3 * again}
            print(json.dumps(row | about))
        if server is not None:
            recovery = []
            for n in range(RESTARTS):
                up: list[float] = []
                server.kill()

                def start(up: list[float] = up) -> None:
                    server.start()
                    up.append(time.perf_counter())

                timer = threading.Timer(DOWN_SECONDS, start)
                timer.start()
                write(ledgers["postgresql"], trials + n, rng)
                written = time.perf_counter()
                timer.join()
                recovery.append(written - up[0])
            row = {"case": "restart", "down_s": DOWN_SECONDS, "written_after_s": sorted(recovery)}
            print(json.dumps(row | about))
            server.close()


if __name__ == "__main__":
    main()
