"""Baseline: closed-form Gaussian kernel ridge of 1,000 grid points, beside which the network is quoted.

From standardised descriptors to the LDOS of examples/al4.  Width and penalty are chosen on as many points of
the validation snapshots; LDOS R² and band-energy errors [meV/atom] are those of the test snapshots.  Under a minute.

    python benchmarks/kernel_ridge.py [n_train=1000] [seed=0]
"""

import json
import os
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.baselines import fit_kernel_ridge, judge_kernel_ridge
from dftune.trainables.ldos.training_data import read_split, read_training_data

SETTINGS = BispectrumSettings(cutoff=4.68, two_j_max=10)


def main() -> None:
    n_train = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    dataset = Dataset.open(Path(__file__).parents[1] / "examples" / "al4")
    data, test = read_training_data(dataset, SETTINGS), read_split(dataset, SETTINGS, "test")
    started = time.perf_counter()
    ridge = fit_kernel_ridge(data, n_points=n_train, seed=seed)
    fitted = time.perf_counter()
    accuracy = judge_kernel_ridge(ridge, data, test)
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
