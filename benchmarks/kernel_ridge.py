"""Baseline: closed-form Gaussian kernel ridge of 1,000 grid points, beside which the network is quoted.

From standardised descriptors to the LDOS of examples/al4.  Width and penalty are chosen on 1,000 points of the
validation snapshots; LDOS R² and band-energy errors [meV/atom] are those of the test snapshots.  Under a minute.

    python benchmarks/kernel_ridge.py [n_train=1000] [seed=0]
"""

import json
import os
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dftune.trainables.accuracy import snapshot_error, summarize, total_variance
from dftune.trainables.bispectrum import BispectrumSettings
from dftune.trainables.dataset import Dataset
from dftune.trainables.kernel_ridge import fit
from dftune.trainables.physics.local import dos
from dftune.trainables.training_data import TrainingData, read_split, read_training_data

WIDTHS = (2.0, 4.0, 8.0, 16.0)
PENALTIES = (1e-9, 1e-7, 1e-5, 1e-3)
SETTINGS = BispectrumSettings(cutoff=4.68, two_j_max=10)


def main() -> None:
    n_train = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    dataset = Dataset.open(Path(__file__).parents[1] / "examples" / "al4")
    data, test = read_training_data(dataset, SETTINGS), read_split(dataset, SETTINGS, "test")
    started, rng = time.perf_counter(), np.random.default_rng(seed)
    points = data.sample(n_train, rng)
    unseen = TrainingData(data.validation, [], data.energy_grid, data.scaling).sample(1000, rng)
    ridge = fit(points, unseen, widths=WIDTHS, penalties=PENALTIES)
    fitted = time.perf_counter()

    errors = []
    for snapshot in test:
        true = np.concatenate([np.asarray(s, dtype=np.float64) for s in snapshot.ldos])
        scaled = np.concatenate([ridge.predict(data.scaling.descriptors(shard)) for shard in snapshot.descriptors])
        predicted = scaled * data.scaling.ldos_scale + data.scaling.ldos_mean
        curves = [dos(values, volume=snapshot.snapshot.volume) for values in (predicted, true)]
        errors.append(
            snapshot_error(
                snapshot.snapshot,
                data.energy_grid,
                predicted_dos=curves[0][None],
                true_dos=curves[1],
                squared_error=np.array([np.square(predicted - true).sum()]),
            )
        )
    accuracy = summarize(errors, total_variance([shard for s in test for shard in s.ldos]))
    row = {
        "case": "kernel ridge",
        "n_train": n_train,
        "seed": seed,
        "width": ridge.width,
        "penalty": ridge.penalty,
        "validation_error": ridge.error,
        "ldos_r2": accuracy.ldos_r2,
        "dos_rmse": accuracy.dos_rmse,
        "band_energy_mae": accuracy.band_energy_mae,
        "by_group_mean_abs_and_mean": asdict(accuracy)["by_group"],
        "fit_s": fitted - started,
        "test_s": time.perf_counter() - fitted,
    }
    print(json.dumps(row | {"numpy": version("numpy"), "scipy": version("scipy"), "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
