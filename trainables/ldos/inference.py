"""A trained network at work: from descriptors to LDOS, its derivative, and its speed.  LDOS in 1/(eV Å³)."""

import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.shards import Shard
from .config import SurrogateConfig
from .network import Network
from .training_data import Scaling

CHUNK = 16_384  # grid points evaluated at once: memory stays flat in the size of the grid


def predict_ldos(network: Network, scaling: Scaling, shards: Iterable[Shard]) -> Iterator[NDArray[np.float32]]:
    """LDOS of T initialisations, chunk by chunk in grid order: (T, n_points_in_chunk, n_energy) [1/(eV Å³)].

    Args:
        network, scaling: as trained.
        shards: descriptors, (n_points_in_shard, n_components).
    """
    with torch.no_grad():
        for shard in shards:
            for start in range(0, len(shard), CHUNK):
                x = torch.from_numpy(scaling.descriptors(shard[start : start + CHUNK])).to(network.weights[0].device)
                yield network(x).cpu().numpy() * np.float32(scaling.ldos_scale) + scaling.ldos_mean


def pull_back(
    network: Network, scaling: Scaling, descriptors: NDArray[np.floating], by_ldos: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Derivative of a number with respect to the descriptors, from that with respect to the LDOS, in reverse mode.

    Args:
        network, scaling: as trained.
        descriptors: (n_points, n_components).
        by_ldos: its derivative with respect to the LDOS of each initialisation, (T, n_points, n_energy).

    Returns:
        (T, n_points, n_components), in the unit of the number.
    """
    x = torch.from_numpy(scaling.descriptors(descriptors)).to(network.weights[0].device)
    x = x.expand(network.n_initializations, *x.shape).clone().requires_grad_()
    y = network(x)
    (by_x,) = torch.autograd.grad(y, x, torch.from_numpy(by_ldos * scaling.ldos_scale).to(y))
    return by_x.cpu().numpy() / scaling.descriptor_std


def inference_time(config: SurrogateConfig, n_in: int, n_out: int, *, device: str = "cpu") -> float:
    """Time of one network's forward pass over 8,192 grid points, the best of 3 or more [µs a grid point].

    The architecture alone decides it, so the weights are random; descriptors, scaling and DOS are not in it.  On a GPU
    it is wall time.  On CPUs it is CPU time over the number of torch's threads, which is the wall time of a machine
    that does nothing else: beside other trials the wall time was up to 4 times that, the CPU time within 10 %.

    Args:
        config: the network.
        n_in, n_out: number of descriptor components and of energies.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    n_points, enough = 8192, 0.05  # [s]: a pass of a small network takes 0.5 ms
    network = Network(config, n_in, n_out, seeds=[0]).to(device)
    x = torch.rand(n_points, n_in, generator=torch.Generator().manual_seed(0)).to(device)
    on_cpu = device == "cpu"
    clock, threads = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    times: list[float] = []
    with torch.no_grad():
        while len(times) < 4 or sum(times) < enough:
            started = clock()
            network(x)
            if not on_cpu:
                torch.cuda.synchronize(device)
            times.append(clock() - started)
    return 1e6 * min(times[1:]) / threads / n_points  # the first one warms up
