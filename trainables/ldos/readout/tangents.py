"""How the features of a snapshot move with atoms and strain: Σ_r ∂φ/∂R, forward through descriptors and network.  Å."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.settings import BispectrumSettings
from ..network import Network
from ..training_data import Scaling, SnapshotData
from .motions import Motion, Slab, n_coordinates, slabs, thinned

Float64 = NDArray[np.float64]


def sums_of_tangents(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    settings: BispectrumSettings,
    potential: Float64,
    *,
    keep: bool = True,
    coordinates: range | None = None,
) -> Float64:
    """Σ_r ∂φ(r)/∂R and Σ_r u(r) ∂φ(r)/∂R for each coordinate R.

    The derivatives of the descriptors are led through the network some points at a time.  The sums are over the points
    of ``motions.thinned``, each of which counts for several.

    Args:
        network: T networks.
        scaling: of the descriptors.
        data: the snapshot.
        settings: of the descriptors.
        potential: u, (n_points,).
        keep: as in ``slabs``.
        coordinates: some of those that ``Motion.coordinates`` counts, of whole atoms; None: all that ``slabs`` has.

    Returns:
        (T, n_coordinates, 2, width + 1) [1/Å], without unit of a strain; the last feature, the constant, does not move.
    """
    wanted = range(n_coordinates(data.snapshot)) if coordinates is None else coordinates
    share = data.snapshot.n_points / len(thinned(data.snapshot.grid))
    sums = np.zeros((network.n_initializations, len(wanted), 2, network.sizes[-2] + 1))
    for slab, motion, t, moved in tangents(network, scaling, data, settings, keep=keep, coordinates=wanted):
        u = potential[slab.points[motion.point]]
        weights = torch.from_numpy((share * np.stack([np.ones(len(u)), u])).astype(np.float32)).to(moved.device)
        first = motion.coordinates.start - wanted.start
        sums[t, first : first + len(moved), :, :-1] += (weights @ moved).cpu().numpy()
    return sums


def tangents(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    settings: BispectrumSettings,
    *,
    keep: bool = True,
    coordinates: range | None = None,
) -> Iterator[tuple[Slab, Motion, int, Tensor]]:
    """What ``sums_of_tangents`` sums: how the last hidden layer moves, as ``tangent``.

    Of each slab, motion and network t.
    """
    device = network.weights[0].device
    for slab, values in slabs(data, settings, thinned(data.snapshot.grid), keep=keep):
        slopes = [x.detach() for x in hidden_slopes(network, torch.from_numpy(scaling.descriptors(values)).to(device))]
        for motion in (m for m in slab.motions if coordinates is None or m.coordinates.start in coordinates):
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
