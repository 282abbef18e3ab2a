"""How long alloy networks take to predict."""

import statistics
import time

import ase.build
import numpy as np
import torch

from .config import AlloyConfig
from .lattice import Lattice
from .network import Network

MANY = 1000  # configurations at once


def inference_time(config: AlloyConfig, n_sites: int, *, device: str = "cpu", n: int = MANY) -> float:
    """Time of a prediction [µs a configuration], the median of three, of ``n`` at once.

    Args:
        config: of the network.
        n_sites: of the lattice.  An equivariant network is timed on a simple chain of cells of that size.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    network = Network(config, _some_lattice(n_sites), seeds=[0]).to(device)
    network.neighbours = network.neighbours.to(device)
    sigma = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], size=(1, n, n_sites)).astype(np.float32))
    seconds = []
    with torch.no_grad():
        for _ in range(4):
            started = time.perf_counter()
            [values.cpu() for values in network(sigma.to(device)).values()]
            seconds.append(time.perf_counter() - started)
    return 1e6 * statistics.median(seconds[1:]) / n


def _some_lattice(n_sites: int) -> Lattice:
    return Lattice.of(ase.build.bulk("Cu", "sc", a=3.0).repeat((1, 1, n_sites)))
