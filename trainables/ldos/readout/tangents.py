"""How the features of a snapshot move with its atoms: Σ_r ∂φ/∂R, forward through descriptors and network.  Å."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.native.forward import PairDerivatives, pair_derivatives
from ...descriptors.settings import BispectrumSettings
from ..network import Network
from ..training_data import Scaling, SnapshotData

Float64 = NDArray[np.float64]
DERIVED = 1024  # grid points whose derivatives are held at once: 5 MB of 7 neighbours, 3 axes and 55 components
POINTS = 64  # of them through the network at once: 1,024 features of them are 5 MB


def atom_tangents(
    network: Network, scaling: Scaling, data: SnapshotData, settings: BispectrumSettings, potential: Float64
) -> Float64:
    """Σ_r ∂φ(r)/∂R and Σ_r u(r) ∂φ(r)/∂R for each coordinate R of each atom.

    The derivatives of the descriptors are made, led through the network and thrown away, some points at a time.

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
            pairs = pair_derivatives(
                s.cell, s.positions, s.numbers, s.grid, settings, start=done, stop=done + len(values)
            )
            _add(sums, network, scaling, values, pairs, done, potential)
            done += len(values)
    moved = sums.transpose(0, 1, 3, 2, 4).reshape(len(sums), 3 * s.n_atoms, 2, -1)
    return np.concatenate([moved, np.zeros((*moved.shape[:-1], 1))], axis=-1)


def _add(
    sums: Float64,
    network: Network,
    scaling: Scaling,
    descriptors: NDArray[np.floating],
    pairs: PairDerivatives,
    first: int,
    potential: Float64,
) -> None:
    """Add the tangents of some points to those of their atoms."""
    device = network.weights[0].device
    x = torch.from_numpy(scaling.descriptors(descriptors)).to(device)
    slopes = [slope.detach() for slope in hidden_slopes(network, x)]
    ends = np.searchsorted(pairs.point, np.arange(first, first + len(x) + POINTS, POINTS))
    for begin, end in pairwise(ends):
        some = slice(begin, end)
        point, atom, values = merged(pairs.point[some] - first, pairs.atom[some], pairs.values[some])
        v = torch.from_numpy(values / scaling.descriptor_std).to(device)
        weights = np.stack([np.ones(len(point)), potential[first + point]]).astype(np.float32)
        on_device, at = torch.from_numpy(weights).to(device), torch.from_numpy(point).to(device)
        edges = np.flatnonzero(np.diff(atom, prepend=-1, append=-1))
        for t in range(len(sums)):
            moved = tangent(network, t, slopes, v, at).reshape(len(point), -1)
            for i, j in pairwise(edges):
                part = (on_device[:, i:j] @ moved[i:j]).cpu().numpy()
                sums[t, atom[i]] += part.reshape(2, 3, -1)


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


def merged(
    point: NDArray[np.integer], atom: NDArray[np.integer], values: NDArray[np.floating]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.floating]]:
    """Pairs of one point and one atom as their sum, ordered by atoms; several images of an atom may be near a point."""
    order = np.lexsort((point, atom))
    point, atom, values = point[order], atom[order], values[order]
    new = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(atom, prepend=-1) != 0))
    if len(new) == len(point):
        return point, atom, values
    return point[new], atom[new], np.add.reduceat(values, new, axis=0)
