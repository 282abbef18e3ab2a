"""A trained network at work: from descriptors to LDOS, its derivative, and its speed.  LDOS in 1/(eV Å³)."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.shards import Shard
from .config import SurrogateConfig
from .network import Network
from .training_data import Scaling

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
# Grid points evaluated at once: memory stays flat in the size of the grid.  With 16,384 the layers leave a CPU's cache,
# and two of 128 neurons took 1.7 times as long.
CHUNK, CHUNK_ON_GPU = 2048, 16_384
# Bytes of a layer of all networks at once, less than ``memory.LARGE``: five of 1,024 neurons at 2,048 points have
# 42 MB, which the C library fetches from the system anew each time, and took 2.5 times as long.
LAYER = 3 * 2**20
FEW = 64  # grid points: 1,024 neurons of them are 0.5 MB in float64


def predict_ldos(network: Network, scaling: Scaling, shards: Iterable[Shard]) -> Iterator[NDArray[np.float32]]:
    """LDOS of T initialisations, chunk by chunk in grid order: (T, n_points_in_chunk, n_energy) [1/(eV Å³)].

    Args:
        network, scaling: as trained.
        shards: descriptors, (n_points_in_shard, n_components).
    """
    with torch.no_grad():
        for shard in shards:
            for x in _chunks(network, scaling, shard):
                yield network(x).cpu().numpy() * np.float32(scaling.ldos_scale) + scaling.ldos_mean


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The way from the last hidden layer h of T networks to their LDOS, d_j(r) = Σ_i W_ij h_i(r) + b_j, in float64.

    Sums of d over grid points or over energies are sums of h, so that the LDOS itself need not be made.

    weights: W, (T, width, n_energy); biases: b, (T, n_energy) [1/(eV Å³)].
    reference: ``Network.reference``, (T, width + 1) [eV], or None.
    """

    weights: Float64
    biases: Float64
    reference: Float64 | None = None

    @classmethod
    def of(cls, network: Network, scaling: Scaling) -> "LastLayer":
        """That of a network, with the scaling of the LDOS in it."""
        weights, biases = (p[-1].detach().cpu().double().numpy() for p in (network.weights, network.biases))
        reference = None if network.reference is None else network.reference.cpu().double().numpy()
        return cls(scaling.ldos_scale * weights, scaling.ldos_scale * biases[:, 0] + scaling.ldos_mean, reference)

    def only(self, t: int) -> "LastLayer":
        """That of one network alone."""
        reference = None if self.reference is None else self.reference[t : t + 1]
        return LastLayer(self.weights[t : t + 1], self.biases[t : t + 1], reference)

    def total(self, hidden: Tensor) -> Float64:
        """Σ_r d_j(r), (T, n_energy), of h, (T, n_points, width)."""
        return np.einsum("ti,tij->tj", summed(hidden), self.weights) + hidden.shape[1] * self.biases

    def total_reference(self, hidden: Tensor) -> Float64:
        """Σ_r of what the energies are relative to, (T,) [eV]; 0 where they are absolute."""
        if self.reference is None:
            return np.zeros(len(self.weights))
        return np.einsum("ti,ti->t", summed(hidden), self.reference[:, :-1]) + hidden.shape[1] * self.reference[:, -1]

    def mean(self, hidden: Tensor) -> Float64:
        """The mean of d over the T networks, (n_points, n_energy)."""
        each = zip(hidden.double().cpu().numpy(), self.weights, strict=True)
        return np.asarray(sum(h @ w for h, w in each) / len(self.weights) + self.biases.mean(axis=0))

    def integrals(self, rules: Iterable[Callable[[Float64], Float64]]) -> tuple[Float64, Float64]:
        """Integrals of d_j(r) as weights of h_i(r) and a constant, for ``integrated``.

        Args:
            rules: of each network the integral, which takes (..., n_energy), gives (...) and is linear.

        Returns:
            (T, width) and (T,).
        """
        found = [(rule(w), rule(b)) for rule, w, b in zip(rules, self.weights, self.biases, strict=True)]
        weights, constants = zip(*found, strict=True)
        return np.array(weights), np.array(constants)

    def by_hidden(self, constant: Float64, slope: Float64, by_reference: float) -> tuple[Float64, Float64]:
        """Derivative with respect to h of a number whose derivative with respect to d_j(r) is a_j + w_j u(r).

        Args:
            constant, slope: a and w, (T, n_energy).
            by_reference: derivative with respect to the reference's value at r.

        Returns:
            What it is without u(r), and what is to be multiplied by u(r), each (T, width).
        """
        a, w = (np.einsum("tij,tj->ti", self.weights, x) for x in (constant, slope))
        return (a if self.reference is None else a + by_reference * self.reference[:, :-1]), w


def summed(hidden: Tensor, factors: Float64 | None = None) -> Float64:
    """Σ_r h(r), (T, width), of h, (T, n_points, width); with factors f, (k, n_points), Σ_r f(r) h(r), (T, k, width)."""
    if factors is None:
        if hidden.is_cuda:
            return np.asarray(hidden.sum(dim=1, dtype=torch.float64).cpu().numpy())
        return np.asarray(hidden.numpy().sum(axis=1, dtype=np.float64))
    if hidden.is_cuda:
        return np.asarray((torch.from_numpy(factors).to(hidden.device) @ hidden.double()).cpu().numpy())
    found = np.zeros((len(hidden), len(factors), hidden.shape[2]))
    for t, points, wide in _wide(hidden):
        found[t] += factors[:, points] @ wide
    return found


def integrated(hidden: Tensor, integrals: Sequence[tuple[Float64, Float64]]) -> Float64:
    """Each of ``LastLayer.integrals`` at each point, (k, T, n_points), of h, (T, n_points, width)."""
    weights, constants = (np.stack(parts, axis=-1) for parts in zip(*integrals, strict=True))
    if hidden.is_cuda:
        found = (hidden.double() @ torch.from_numpy(weights).to(hidden.device)).cpu().numpy()
    else:
        found = np.empty((*hidden.shape[:2], len(integrals)))
        for t, points, wide in _wide(hidden):
            found[t, points] = wide @ weights[t]
    return np.moveaxis(found + constants[:, None], -1, 0)


def _wide(hidden: Tensor) -> Iterator[tuple[int, slice, Float64]]:
    """h in float64 on a CPU: t, some points, (n_points, width) of these, which stay in its cache.

    NumPy takes half of torch's time for copies and products of this size, and a copy of all takes 13 times as long.
    """
    for t, of_one in enumerate(hidden.numpy()):
        for start in range(0, len(of_one), FEW):
            points = slice(start, start + FEW)
            yield t, points, of_one[points].astype(np.float64)


def last_hidden(network: Network, scaling: Scaling, descriptors: Shard) -> Iterator[Tensor]:
    """The last hidden layer of descriptors (n_points, n_components), chunk by chunk (T, n_points_in_chunk, width)."""
    with torch.no_grad():
        for x in _chunks(network, scaling, descriptors):
            yield network.hidden_layers(x)[-1]


def pull_back(
    network: Network,
    scaling: Scaling,
    descriptors: NDArray[np.floating],
    by_hidden: tuple[Float64, Float64],
    potential: Float64,
) -> NDArray[np.floating]:
    """Derivative of a number with respect to the descriptors, from that with respect to the last hidden layer.

    Args:
        network, scaling: as trained.
        descriptors: (n_points, n_components).
        by_hidden: as ``LastLayer.by_hidden`` gives it, each (T, width).
        potential: u, (T, n_points).

    Returns:
        (T, n_points, n_components), in the unit of the number; in reverse mode.
    """
    found, done = [], 0
    constant, slope, u = (torch.from_numpy(x.astype(np.float32))[..., None] for x in (*by_hidden, potential))
    for x in _chunks(network, scaling, descriptors):
        x = x.expand(network.n_initializations, *x.shape).clone().requires_grad_()
        hidden = network.hidden_layers(x)[-1]
        a, w, here = (part.to(hidden.device) for part in (constant.mT, slope.mT, u[:, done : done + x.shape[1]]))
        found.append(torch.autograd.grad(hidden, x, torch.addcmul(a, w, here))[0].cpu().numpy())
        done += x.shape[1]
    return np.concatenate(found, axis=1) / scaling.descriptor_std


def _chunks(network: Network, scaling: Scaling, descriptors: Shard) -> Iterator[Tensor]:
    """Standardised descriptors on the network's device, a few points at a time."""
    device, widest = network.weights[0].device, max(network.sizes[1:-1])
    fit = max(FEW, LAYER // (4 * network.n_initializations * widest))
    chunk = min(CHUNK, fit) if device.type == "cpu" else CHUNK_ON_GPU
    for start in range(0, len(descriptors), chunk):
        yield torch.from_numpy(scaling.descriptors(descriptors[start : start + chunk])).to(device)


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
