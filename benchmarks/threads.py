"""Claim: torch's threads that spin as briefly as ours cost little alone, and take a third of the time beside others.

The retraining of T = 5 networks with a thread a CPU, in processes that take turns: with libgomp's default, and with
``GOMP_SPINCOUNT`` as dftune sets it; alone, and beside busy processes.  A minute or two.

    python benchmarks/threads.py [rounds=3] [busy=4]
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median

from dftune.trainables.processes import PATIENCE

ROOT = Path(__file__).parents[1]
((NAME, SPINS),) = PATIENCE.items()
TRAINING = """
import os, sys, time
import torch
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

torch.set_num_threads(os.cpu_count())
dataset, settings = Dataset.open(sys.argv[1]), BispectrumSettings(cutoff=4.0, two_j_max=4)
data = [
    SnapshotData(s, [bispectrum(s.cell, s.positions, s.numbers, s.grid, settings)], list(dataset.ldos(s).arrays()))
    for s in (*dataset.split("train")[:3], dataset.split("validation")[0])
]
config = SurrogateConfig.of({"n_layers": 2, "width": 96, "epochs": 6, "batch_size": 256})
points = TrainingData(data[:3], data[3:], dataset.info.energy_grid, Scaling.fit(data[:3]))
started = time.perf_counter()
train(config, points, seeds=range(5))
print(time.perf_counter() - started)
"""


def seconds(spins: str | None) -> float:
    """Of one training in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    environment |= {} if spins is None else {NAME: spins}
    command = [sys.executable, "-c", TRAINING, ROOT / "examples" / "al4"]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    busy = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    for beside in (0, busy):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(beside)]
        try:
            pairs = [(seconds(None), seconds(SPINS)) for _ in range(rounds)]
        finally:
            for other in others:
                other.kill()
                other.wait()
        default, ours = zip(*pairs, strict=True)
        row = {"case": "threads", "busy_processes": beside, "default_s": default, "ours_s": ours}
        row |= {"ratio": median(b / a for a, b in pairs), "torch": version("torch"), "cpus": os.cpu_count()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
