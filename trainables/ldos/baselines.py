"""What a surrogate is quoted beside: closed-form kernel ridge of a few grid points, judged as a network is."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from .accuracy import Accuracy, SnapshotError, snapshot_error, summarize
from .kernel_ridge import KernelRidge, fit
from .training_data import Moments, SnapshotData, TrainingData

WIDTHS = (2.0, 4.0, 8.0, 16.0)  # of the kernel, in √n_components
CHUNK = 4096  # grid points predicted at once: 33 MB of kernel for 1,000 points to fit
PENALTIES = (1e-9, 1e-7, 1e-5, 1e-3)


def fit_kernel_ridge(data: TrainingData, *, n_points: int = 1000, seed: int = 0) -> KernelRidge:
    """Kernel ridge of random grid points of the training snapshots, chosen on as many of the validation snapshots.

    Args:
        data: training and validation snapshots.
        n_points: grid points to fit, and to choose width and penalty.
        seed: of the grid points.

    Raises:
        InputError: the LDOS does not vary over the validation points.
    """
    rng = np.random.default_rng(seed)
    validation = TrainingData(data.validation, [], data.energy_grid, data.scaling)
    train = data.sample(n_points, rng)
    return fit(train, validation.sample(n_points, rng), widths=WIDTHS, penalties=PENALTIES)


def judge_kernel_ridge(model: KernelRidge, data: TrainingData, test: Sequence[SnapshotData]) -> Accuracy:
    """Accuracy on the test snapshots, as ``surrogate.judge`` gives it for networks."""
    errors: list[SnapshotError] = []
    for snapshot in test:
        total, count, squared = np.zeros(data.energy_grid.n_energy), 0, 0.0
        for descriptors, ldos in zip(snapshot.descriptors, snapshot.ldos, strict=True):
            for start in range(0, len(ldos), CHUNK):
                rows = slice(start, start + CHUNK)
                predicted = model.predict(data.scaling.descriptors(descriptors[rows])) * data.scaling.ldos_scale
                predicted += data.scaling.ldos_mean
                total += predicted.sum(axis=0)
                count += len(predicted)
                squared += float(np.square(predicted - ldos[rows]).sum())
        errors.append(
            snapshot_error(
                snapshot.snapshot,
                data.energy_grid,
                predicted_dos=snapshot.snapshot.volume * total[None] / count,
                true_dos=snapshot.dos(),
                squared_error=np.array([squared]),
            )
        )
    return summarize(errors, reduce(add, (Moments.of(shard[:]) for s in test for shard in s.ldos)).total)
