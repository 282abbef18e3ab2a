"""The linear part of an equivariant network, solved in closed form before the rest is trained."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .config import Task
from .network import Network, linear_features, shell_averages
from .training_data import Targets, TrainingData

Float64 = NDArray[np.float64]
PENALTIES = 10.0 ** np.arange(-8, 0)  # of standardised features, over the number of equations


def fit_linear(network: Network, data: Sequence[TrainingData]) -> None:
    """Set the linear parts of T networks to the ridge regressions of their training data.

    Args:
        network: an equivariant one.
        data: of each network.  The penalty is the one with the smallest error on its validation data.
    """
    solved: dict[tuple[int, Task], Float64] = {}
    with torch.no_grad():
        for t, one in enumerate(data):
            for task in network.config.learnt:
                key = id(one), task
                if key not in solved:
                    solved[key] = ridge(one, task, network.config.shells)
                network.weights[f"linear_{task}"][t] = torch.from_numpy(solved[key])[:, None]


def ridge(data: TrainingData, task: Task, n_shells: int) -> Float64:
    """Coefficients of ``linear_features`` for the standardised targets of a task, (n_linear,)."""
    x, y = _equations(data, data.train, task, n_shells)
    unseen, expected = _equations(data, data.validation, task, n_shells)
    scale = np.sqrt((x**2).mean(axis=0))
    scale[scale < 1e-9] = 1.0
    gram, right = (x / scale).T @ (x / scale) / len(x), (x / scale).T @ y / len(x)
    values, vectors = np.linalg.eigh(gram)
    along = vectors.T @ right
    found = [vectors @ (along / (np.maximum(values, 0) + penalty)) / scale for penalty in PENALTIES]
    errors = [float(np.square(unseen @ one - expected).mean()) for one in found]
    return found[int(np.argmin(errors))]


def _equations(data: TrainingData, targets: Targets, task: Task, n_shells: int) -> tuple[Float64, Float64]:
    """Features (n_equations, n_linear) and standardised targets, one a configuration for the energy, else a site."""
    sigma = torch.from_numpy(2.0 * targets.species[None] - 1)
    averages = torch.from_numpy(shell_averages(data.lattice, n_shells))
    means = torch.cat([torch.matmul(shell, sigma[..., None]) for shell in averages], dim=-1)
    features = linear_features(task, sigma, means)[0].numpy()
    mean, std = data.scaling[task]
    values = (targets.values[task] - mean) / std
    if task == "E":
        return features, values[:, 0]
    return features.reshape(-1, features.shape[-1]), values.ravel()
