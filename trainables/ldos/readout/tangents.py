"""How the features of a snapshot move with its atoms: Σ_r ∂φ/∂R, forward through descriptors and network.  Å."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.settings import BispectrumSettings
from ..network import Network
from ..training_data import Scaling, SnapshotData
from .motions import DERIVED, Motion, motions

Float64 = NDArray[np.float64]


def atom_tangents(
    network: Network, scaling: Scaling, data: SnapshotData, settings: BispectrumSettings, potential: Float64
) -> Float64:
    """Σ_r ∂φ(r)/∂R and Σ_r u(r) ∂φ(r)/∂R for each coordinate R of each atom.

    The derivatives of the descriptors are led through the network some points at a time.

    Args:
        network: T networks.
        scaling: of the descriptors.
        data: the snapshot.
        settings: of the descriptors.
        potential: u, (n_points,).

    Returns:
        (T, 3 n_atoms, 2, width + 1) [1/Å]; the last feature, the constant, does not move.
    """
    s = data.snapshot
    sums = np.zeros((network.n_initializations, s.n_atoms, 2, 3, network.sizes[-2]))
    done = 0
    for shard in data.descriptors:
        for start in range(0, len(shard), DERIVED):
            values = shard[start : start + DERIVED]
            x = torch.from_numpy(scaling.descriptors(values)).to(network.weights[0].device)
            slopes = [slope.detach() for slope in hidden_slopes(network, x)]
            for motion in motions(s, settings, done, done + len(values)):
                _add(sums, network, scaling, slopes, motion, done, potential)
            done += len(values)
    moved = sums.transpose(0, 1, 3, 2, 4).reshape(len(sums), 3 * s.n_atoms, 2, -1)
    return np.concatenate([moved, np.zeros((*moved.shape[:-1], 1))], axis=-1)


def _add(
    sums: Float64,
    network: Network,
    scaling: Scaling,
    slopes: list[Tensor],
    motion: Motion,
    first: int,
    potential: Float64,
) -> None:
    """Add the tangents of some points to those of their atoms; ``first`` is the point that slopes begin with."""
    point, device = motion.point, slopes[0].device
    v = torch.from_numpy(motion.values / scaling.descriptor_std).to(device)
    weights = np.stack([np.ones(len(point)), potential[point]]).astype(np.float32)
    on_device, at = torch.from_numpy(weights).to(device), torch.from_numpy(point - first).to(device)
    for t in range(len(sums)):
        moved = tangent(network, t, slopes, v, at).reshape(len(point), -1)
        for atom, here in motion.of_atoms:
            part = (on_device[:, here] @ moved[here]).cpu().numpy()
            sums[t, atom] += part.reshape(2, 3, -1)


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
    """By how much the last hidden layer of one network moves, (n, axes, width), as standardised descriptors move by v.

    Args:
        network: its hidden weights count.
        t: which initialisation.
        slopes: ``hidden_slopes`` of some grid points.
        v: (n, axes, n_in).
        at: which of the grid points moves so, (n,).
    """
    with torch.no_grad():
        moved, (n, axes, _) = v, v.shape
        for weight, slope in zip(network.weights[:-1], slopes, strict=True):
            moved = (moved.reshape(n * axes, -1) @ weight[t]).reshape(n, axes, -1)
            moved *= slope[t].index_select(0, at)[:, None]
    return moved
