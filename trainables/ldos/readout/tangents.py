"""How the features of a snapshot move with its atoms: Σ_r ∂φ/∂R, forward through descriptors and network.  Å."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.settings import BispectrumSettings
from ..network import Network
from ..training_data import Scaling, SnapshotData
from .motions import Motion, Slab, slabs, thinned

Float64 = NDArray[np.float64]


def atom_tangents(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    settings: BispectrumSettings,
    potential: Float64,
    *,
    keep: bool = True,
) -> Float64:
    """Σ_r ∂φ(r)/∂R and Σ_r u(r) ∂φ(r)/∂R for each coordinate R of each atom.

    The derivatives of the descriptors are led through the network some points at a time.  The sums are over the points
    of ``motions.thinned``, each of which counts for several.

    Args:
        network: T networks.
        scaling: of the descriptors.
        data: the snapshot.
        settings: of the descriptors.
        potential: u, (n_points,).
        keep: as in ``slabs``.

    Returns:
        (T, 3 n_atoms, 2, width + 1) [1/Å]; the last feature, the constant, does not move.
    """
    s, share = data.snapshot, data.snapshot.n_points / len(thinned(data.snapshot.grid))
    sums = np.zeros((network.n_initializations, s.n_atoms, 2, 3, network.sizes[-2]))
    for slab, motion, t, moved in tangents(network, scaling, data, settings, keep=keep):
        u = potential[slab.points[motion.point]]
        weights = torch.from_numpy((share * np.stack([np.ones(len(u)), u])).astype(np.float32)).to(moved.device)
        sums[t, motion.atom] += (weights @ moved).swapaxes(0, 1).cpu().numpy()
    found = sums.transpose(0, 1, 3, 2, 4).reshape(len(sums), 3 * s.n_atoms, 2, -1)
    return np.concatenate([found, np.zeros((*found.shape[:-1], 1))], axis=-1)


def tangents(
    network: Network, scaling: Scaling, data: SnapshotData, settings: BispectrumSettings, *, keep: bool = True
) -> Iterator[tuple[Slab, Motion, int, Tensor]]:
    """What ``atom_tangents`` sums: of each slab, atom and network t how the last hidden layer moves, as ``tangent``."""
    device = network.weights[0].device
    for slab, values in slabs(data, settings, thinned(data.snapshot.grid), keep=keep):
        slopes = [x.detach() for x in hidden_slopes(network, torch.from_numpy(scaling.descriptors(values)).to(device))]
        for motion in slab.motions:
            at = torch.from_numpy(motion.point).to(device)
            v = torch.from_numpy(motion.values / scaling.descriptor_std).to(device)
            for t in range(network.n_initializations):
                yield slab, motion, t, tangent(network, t, slopes, v, at)


def hidden_slopes(network: Network, x: Tensor) -> list[Tensor]:
    """Derivative of each hidden layer's activation by what its neurons receive, each (T, n_points, width)."""
    received, slopes = network.first_sum(x), list[Tensor]()
    following = zip(network.weights[1:], network.biases[1:], strict=True)
    for weight, bias in following:
        with torch.enable_grad():
            received = received.detach().requires_grad_()
            given = network.activation(received)
            slopes += torch.autograd.grad(given.sum(), received)
        if len(slopes) < len(network.weights) - 1:
            received = torch.baddbmm(bias, given, weight)
    return slopes


def tangent(network: Network, t: int, slopes: list[Tensor], v: Tensor, at: Tensor) -> Tensor:
    """By how much the last hidden layer of one network moves, (axes, n, width), as standardised descriptors move by v.

    Args:
        network: its hidden weights count.
        t: which initialisation.
        slopes: ``hidden_slopes`` of some grid points.
        v: (axes, n, n_in).
        at: which of the grid points moves so, (n,).
    """
    with torch.no_grad():
        moved = v
        for weight, slope in zip(network.weights[:-1], slopes, strict=True):
            moved = moved @ weight[t]
            moved *= slope[t].index_select(0, at)
    return moved
