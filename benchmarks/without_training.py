"""Claim: without search and training a surrogate is as good as the best of 50 trained ones, at a 100th of the compute.

examples/al4 (six training snapshots, 4.68 Å, 2J_max 10, judged on three test snapshots).  For each seed:
- ``none``: 1 x 1024 silu as drawn, last layer in closed form (the defaults), one initialisation;
- ``none, energies``, ``none, LDOS``: one initialisation without rows of forces, and without any;
- ``none, LDOS, penalty 1``: without rows, and the penalty need not be chosen;
- ``none, energies, 512``: 512 neurons and the penalty 1;
- ``optuna``: 50 trials of TPE over architecture and learning rate, each trained for 8 epochs by Adam and valued by its
  validation loss.  The best one is trained for 25 and judged as it is, as studies ended before there was a readout;
  and with its last layer solved, as they end now (``optuna, readout``).

Mean |A - A_DFT| and of the band energy [meV/atom], mean |force component| [eV/Å], LDOS error (1 - R²), CPU seconds of
one thread from descriptors to the network.  What is done is kept in FOLDER: a killed run goes on.

    python benchmarks/without_training.py FOLDER [n_seeds=5] [n_trials=50] [epochs=8]   n_trials 0: without the search
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dftune.searchers import SEARCHERS
from dftune.searchers.method import SearchTask
from dftune.searchers.space import Choice, Float, Int
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.files import write_text
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.readout import motions
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.training import Trained, train
from dftune.trainables.ldos.training_data import SnapshotData, TrainingData, read_split, read_training_data

SETTINGS = BispectrumSettings(cutoff=4.68, two_j_max=10)
WITHOUT: dict[str, dict[str, Any]] = {  # what is done -> config beyond the defaults
    "none": {},
    "none, energies": {"force_weight": 0},
    "none, LDOS": {"force_weight": 0, "energy_weight": 0},
    "none, LDOS, penalty 1": {"force_weight": 0, "energy_weight": 0, "penalty": 1.0},
    "none, energies, 512": {"force_weight": 0, "width": 512, "penalty": 1.0},
}
FINAL_EPOCHS = 25
ERRORS = ("free_energy", "band_energy", "forces", "ldos")
SPACE = {  # that of examples/compare.toml, wider
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid")),
    "learning_rate": Float(low=5e-4, high=5e-3, log=True),
}


def timed(function: Callable[[], Trained]) -> tuple[Trained, float]:
    """What it gives, and its CPU seconds with the derivatives of the descriptors, which are forgotten before."""
    motions._kept.clear()
    started = time.process_time()
    return function(), time.process_time() - started


def errors(trained: Trained, data: TrainingData, test: list[SnapshotData]) -> dict[str, float]:
    found = [evaluated(trained.network, d, data=data, forces=True) for d in test]
    accuracy = judge(trained.network, data.scaling, data.energy_grid, test).accuracy
    return {
        "free_energy": 1e3 * float(np.mean([np.abs(e.free_energy) for e in found])),
        "band_energy": accuracy.band_energy_mae,
        "forces": float(np.mean([np.abs(e.forces).mean() for e in found if e.forces is not None])),
        "ldos": 1 - accuracy.ldos_r2,
    }


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds, or what is made now and written there."""
    if not path.exists():
        write_text(path, json.dumps(make()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def best_of(folder: Path, data: TrainingData, seed: int, n_trials: int, epochs: int) -> tuple[SurrogateConfig, float]:
    """The config of the lowest validation loss, and the CPU seconds of all trials."""
    method, best, spent = SEARCHERS["optuna"], (np.inf, SurrogateConfig()), 0.0
    searcher = method.build(SearchTask(SPACE, seed), method.options())
    for n in range(n_trials):
        asked = searcher.ask(str(n))
        assert isinstance(asked, dict)
        config = SurrogateConfig.of({**asked, "epochs": epochs, "readout": "never"})

        def trained(config: SurrogateConfig = config) -> dict[str, Any]:
            found, seconds = timed(lambda: train(config, data, seeds=[seed]))
            return {"loss": found.best_loss[0], "cpu_s": seconds}

        row = kept(folder / f"seed-{seed}-trial-{n}-of-{epochs}.json", trained)
        searcher.tell(str(n), row["loss"])
        best, spent = min(best, (row["loss"], config), key=lambda pair: pair[0]), spent + row["cpu_s"]
    return best[1], spent


def without(name: str, data: TrainingData, test: list[SnapshotData], seed: int) -> dict[str, Any]:
    config = SurrogateConfig.of({"training": "none", **WITHOUT[name]})
    found, seconds = timed(lambda: fit(config, data, seeds=[seed]))
    return {"method": name, "seed": seed, "cpu_s": seconds, "config": str(config)} | errors(found, data, test)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    n_seeds, n_trials, epochs = (
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in enumerate((5, 50, 8), start=2)
    )
    dataset = Dataset.open(Path(__file__).parents[1] / "examples" / "al4")
    for s in dataset.without_descriptors(SETTINGS):
        dataset.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    data, test = read_training_data(dataset, SETTINGS), read_split(dataset, SETTINGS, "test")
    rows = []
    for seed in range(n_seeds):
        for name in WITHOUT:
            file = folder / f"seed-{seed}-{name.replace(', ', '-')}.json"
            rows.append(kept(file, lambda name=name, seed=seed: without(name, data, test, seed)))  # type: ignore[misc]
            print(json.dumps(rows[-1]), flush=True)
        if n_trials == 0:
            continue
        config, spent = best_of(folder, data, seed, n_trials, epochs)
        config = config.model_copy(update={"epochs": FINAL_EPOCHS})
        found, seconds = timed(lambda: train(config, data, seeds=[seed]))  # noqa: B023
        spent, said = spent + seconds, f"{config}, learning rate {config.learning_rate:.4g}"
        rows.append({"method": "optuna", "seed": seed, "cpu_s": spent, "config": said} | errors(found, data, test))
        print(json.dumps(rows[-1]), flush=True)
        solved, seconds = timed(lambda: fit(config, data, seeds=[seed], trained=found))  # noqa: B023
        about = {"method": "optuna, readout", "cpu_s": spent + seconds}
        rows.append({**rows[-1], **about} | errors(solved, data, test))
        print(json.dumps(rows[-1]), flush=True)
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        means = {name: statistics.mean(row[name] for row in own) for name in (*ERRORS, "cpu_s")}
        print(json.dumps({"method": method, "n_seeds": len(own), **means}), flush=True)


if __name__ == "__main__":
    main()
