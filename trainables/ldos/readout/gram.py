"""Sums over grid points that a ridge regression of the LDOS needs, in float64; sums of parts add up to the whole."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..network import Network
from ..training_data import Scaling, SnapshotData
from .features import REFERENCE_SCALE, chunks, n_columns

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gram:
    """Σ_r φφᵀ, Σ_r φyᵀ and Σ_r |y|² of T initialisations; y is the scaled LDOS.

    n_points: how many grid points they are of.  phi_phi: (T, p, p).  phi_y: (T, p, n_energy).  y_y: number.
    A column of ``phi_y`` more is that of the energies' reference; it is not in ``y_y``, nor in the loss.
    """

    n_points: int
    phi_phi: Float64
    phi_y: Float64
    y_y: float

    def __add__(self, other: Self) -> "Gram":
        return Gram(
            self.n_points + other.n_points,
            self.phi_phi + other.phi_phi,
            self.phi_y + other.phi_y,
            self.y_y + other.y_y,
        )

    def only(self, t: int) -> "Gram":
        """Those of one initialisation alone."""
        return Gram(self.n_points, self.phi_phi[t : t + 1], self.phi_y[t : t + 1], self.y_y)

    def loss(self, weights: Float64) -> Float64:
        """Mean squared error of φᵀW over points and energies, (T,), of W (T, p, n_energy)."""
        n_energy = weights.shape[-1]
        square = np.einsum("tpj,tpj->t", weights, self.phi_phi @ weights - 2 * self.phi_y[..., :n_energy]) + self.y_y
        return np.asarray(square / (self.n_points * n_energy))


def gram(network: Network, scaling: Scaling, data: SnapshotData) -> Gram:
    """The sums of one snapshot, chunk by chunk.

    Args:
        network: whose features they are.
        scaling: of descriptors and LDOS.
        data: the snapshot.
    """
    n, p, n_energy = network.n_initializations, network.sizes[-2] + 1, n_columns(network, data)
    phi_phi, phi_y, y_y, count = np.zeros((n, p, p)), np.zeros((n, p, n_energy)), 0.0, 0
    on_device: list[Tensor] = []
    for points, phi, ldos in chunks(network, scaling, data):
        y = scaling.ldos(ldos).astype(np.float64)
        if data.reference is not None:
            y = np.pad(y, ((0, 0), (0, 1)), constant_values=data.level / REFERENCE_SCALE)
        if phi.is_cuda:
            wide = phi.double()
            target = torch.from_numpy(y).to(phi.device)
            parts = [wide.mT @ wide, wide.mT @ target]
            on_device = [a + b for a, b in zip(on_device, parts, strict=True)] if on_device else parts
        else:
            for t in range(n):
                one = phi[t].double().numpy()
                phi_phi[t] += one.T @ one  # NumPy computes one half of it only
                phi_y[t] += one.T @ y
        y_y += float(np.square(y[:, : network.sizes[-1]]).sum())
        count += len(points)
    if on_device:
        phi_phi, phi_y = (part.cpu().numpy() for part in on_device)
    return Gram(count, phi_phi, phi_y, y_y)
