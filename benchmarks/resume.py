"""Claim: a study of 2,000 finished trials that is resumed starts its next trial within 10 s of the command.

The trials are proposed by the method itself and written to the ledger with made-up values, as a search would have
done; their training is what is left out.  Then `dftune study resume` is run as a user runs it, with an embedded local
Ray and all descriptors there, until the ledger has a further trial; a study with four trials gives the share of that
which has nothing to do with the number of trials.

    python benchmarks/resume.py [trials=2000]
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from dftune import Study
from dftune.platform.ledger.lease import held
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.spec import StudySpec
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings

ROOT = Path(__file__).parents[1]
METHODS = ("random", "optuna")
FEW = 4
DESCRIPTORS = BispectrumSettings(cutoff=4.0, two_j_max=4)


def fill(study: Study, n: int, dataset: Dataset) -> None:
    """A ledger with ``n`` finished trials of the study's method."""
    spec = study.spec
    searcher = spec.searcher()
    study.folder.mkdir(parents=True)
    with (
        held(study.place.home(spec.name)) as lease,
        closing(Ledger.create(study.folder / "ledger.db", spec, dataset.fingerprint)) as ledger,
    ):
        ledger.claim(lease)
        for trial in range(n):
            config = searcher.ask(str(trial))
            value = 0.1 + abs(config["learning_rate"] - 2e-3) + 1 / config["width"]
            ledger.asked(trial, config, seed=spec.trial_seed(trial), scores={})
            ledger.told(trial, value, {"epoch": 1, "seconds": 1.0, "best_loss": value}, None)
            searcher.tell(str(trial), value)


def main() -> None:
    n_trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    common = {"ray": version("ray"), "optuna": version("optuna"), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="resume-") as scratch:
        folder = Path(scratch)
        shutil.copytree(ROOT / "examples" / "al4", folder / "al4", ignore=shutil.ignore_patterns("descriptors"))
        dataset = Dataset.open(folder / "al4")
        for s in dataset.snapshots:
            values = bispectrum(s.cell, s.positions, s.numbers, s.grid, DESCRIPTORS)
            dataset.write_descriptors(s, DESCRIPTORS, values)
        for method in METHODS:
            seconds = {}
            for n in (FEW, n_trials):
                seconds[n] = resumed(Study.from_spec(spec_of(method, n, folder), folder), n, dataset)
            row = {"case": "resume", "method": method, "trials": n_trials, "first_trial_s": seconds[n_trials]}
            print(json.dumps(row | {f"first_trial_s_with_{FEW}": seconds[FEW]} | common), flush=True)


def spec_of(method: str, n: int, folder: Path) -> StudySpec:
    return StudySpec.of(
        {
            "name": f"{method}-{n}",
            "dataset": folder / "al4",
            "method": method,
            "trials": max(n + 1, 20),  # some methods need so many
            "descriptors": DESCRIPTORS.model_dump(),
            "space": {
                "width": {"type": "int", "low": 4, "high": 64, "log": True},
                "activation": {"type": "choice", "values": ["relu", "silu", "tanh"]},
                "learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True},
            },
            "config": {"n_layers": 1, "epochs": 200, "patience": 1000},
        }
    )


def resumed(study: Study, n: int, dataset: Dataset) -> float:
    """Seconds from the command to the first new trial."""
    fill(study, n, dataset)
    begun = time.time()
    command = [sys.executable, "-m", "dftune.platform.cli.main", "study", "resume", study.spec.name]
    driver = subprocess.Popen(
        [*command, "--studies", study.folder.parent], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with closing(sqlite3.connect(study.folder / "ledger.db")) as ledger:  # all trials at each look would cost time
        running = "SELECT count(*) FROM trials WHERE state = 'RUNNING'"
        while driver.poll() is None and not ledger.execute(running).fetchone()[0]:
            time.sleep(0.1)
    seconds = time.time() - begun
    try:
        if driver.poll() is None:
            return seconds
        raise SystemExit(f"the study ended before a new trial began: {driver.communicate()[1][-2000:]}")
    finally:
        driver.kill()
        driver.communicate()


if __name__ == "__main__":
    main()
