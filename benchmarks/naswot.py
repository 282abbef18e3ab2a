"""Claim: NASWOT is 20 (N_batch = 250) and 100 (1000) times faster than the published recipe, with equal scores.

T = 5, 91 descriptors, one hidden layer of 64 leaky ReLU, float64, one thread on both sides.  The recipe loops over the
networks: Jacobian by autograd, N x N correlation matrix, eigenvalues of a general matrix, sum over all of them.
Ours scores eight configs a call, as the scorers of a study do; both times are of one config.

    python benchmarks/naswot.py
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# One thread for both sides; read when numpy and torch are loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.scores.naswot import N_INITIALIZATIONS, K, naswot
from dftune.trainables.ldos.training_data import MiniBatch, read_training_data

CONFIG = SurrogateConfig(n_layers=1, width=64, activation="leaky_relu")
N_CONFIGS = 8  # a call
CLAIMED = {250: 20, 1000: 100}  # N_batch -> ratio
REPEATS = {128: 21, 250: 21, 500: 11, 1000: 7}


def recipe(batch: MiniBatch, seed: int) -> float:
    """S' by Eq. 5 and 6 of Fiedler et al. (2022), one network after the other."""
    scores = []
    for network_seed in np.random.SeedSequence(seed).generate_state(N_INITIALIZATIONS):
        n_in, n_out = batch.descriptors.shape[1], batch.ldos.shape[1]
        network = Network(CONFIG, n_in, n_out, [int(network_seed)], dtype=torch.float64)
        x = torch.tensor(batch.descriptors, dtype=torch.float64, requires_grad=True)
        network(x).sum().backward()
        sigma = np.linalg.eigvals(np.corrcoef(x.grad.numpy())).real
        scores.append(np.sum(np.log(sigma + K) + 1 / (sigma + K)))
    return float(np.mean(scores) + np.std(scores))


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Wall seconds and the result."""
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def main() -> None:
    torch.set_num_threads(1)
    dataset, settings = Dataset.open(Path(__file__).parents[1] / "examples/al4"), BispectrumSettings()
    data = None if dataset.without_descriptors(settings) else read_training_data(dataset, settings)
    for n_batch, repeats in REPEATS.items():
        rng = np.random.default_rng(n_batch)
        if data is not None:
            batch = data.sample(n_batch, rng)
        else:
            shapes = (n_batch, settings.n_components), (n_batch, dataset.info.energy_grid.n_energy)
            batch = MiniBatch(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
        pairs = []
        for seed in range(repeats + 1):
            ours, scores = timed(naswot, [CONFIG] * N_CONFIGS, batch, seed)
            published, expected = timed(recipe, batch, seed)
            assert np.allclose(scores, expected, rtol=1e-6, atol=0), (scores, expected)
            pairs.append((ours / N_CONFIGS, published))
        ours, published = (statistics.median(side) for side in zip(*pairs[1:], strict=True))  # the first is a warm-up
        ratios = [b / a for a, b in pairs[1:]]
        row = {
            "case": "naswot",
            "n_batch": n_batch,
            "descriptors": "al4" if data is not None else "random normal",
            "ms": 1e3 * ours,
            "recipe_ms": 1e3 * published,
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "claimed": CLAIMED.get(n_batch),
            "repeats": repeats,
        }
        versions = {"torch": version("torch"), "numpy": version("numpy"), "threads": 1, "cpus": os.cpu_count()}
        print(json.dumps(row | versions), flush=True)


if __name__ == "__main__":
    main()
