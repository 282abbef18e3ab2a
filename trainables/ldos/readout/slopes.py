"""Derivatives of what is predicted by the last layer: rows, at the predicted LDOS.  eV, Å; energies an atom."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.settings import BispectrumSettings
from ..inference import summed
from ..network import Network
from ..training_data import Scaling, SnapshotData
from .electrons import Electrons, Ions
from .features import REFERENCE_SCALE
from .posterior import Posterior
from .rows import band_slopes
from .tangents import sums_of_tangents

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slopes:
    """Numbers that are, to first order, Σ_i left[k, i]ᵀ W right[k, i] of the first initialisation's last layer W.

    left: (n, 2, p), or (1, 2, p) for the same in all.  right: (n, 2, n_columns), in the numbers' unit.
    """

    left: Float64
    right: Float64

    def std(self, posterior: Posterior) -> Float64:
        """Their standard deviations, (n,)."""
        return np.asarray(np.sqrt(posterior.variance(self.left, self.right)))

    def coordinates(self, posterior: Posterior) -> Float64:
        """Vectors whose inner products are their covariances, (n, k); k is the same for all of a posterior."""
        return posterior.coordinates(self.left, self.right)


def feature_sums(hidden: Iterable[Tensor], potential: Float64) -> Float64:
    """Σ_r φ(r) and Σ_r u(r) φ(r) of the first initialisation, (2, p).

    Args:
        hidden: last hidden layer in chunks, (n_points_in_chunk, width); its numbers are added up in float64.
        potential: u in the same order, (n_points,).
    """
    done, total = 0, np.zeros(())
    for chunk in hidden:
        both = np.stack([np.ones(len(chunk)), potential[done : done + len(chunk)]])
        sums = summed(chunk[None], both)[0]
        total = total + np.concatenate([sums, both.sum(axis=1, keepdims=True)], axis=1)
        done += len(chunk)
    return total


def energy_slopes(
    sums: Float64, electrons: Electrons, ions: Ions, scaling: Scaling, *, relative: bool
) -> dict[str, Slopes]:
    """Of ``free_energy`` where it is known, ``band_energy`` (both an atom) and ``dos``.

    Args:
        sums: ``feature_sums`` over all grid points; u counts for the free energy only.
        electrons: of the predicted LDOS, with its gradient where the free energy is known.
        ions: of the structure.
        scaling: of the LDOS.
        relative: whether energies are relative to one that the network says; the DOS is then on these, too.
    """
    s, n_energy = ions.snapshot, ions.energy_grid.n_energy
    rights = {"band_energy": np.stack([band_slopes(electrons, ions)[0], np.zeros(n_energy)])[None] / s.n_atoms}
    if electrons.gradient is not None:
        rights["free_energy"] = np.stack([electrons.gradient.constant, electrons.gradient.weights])[None] / s.n_atoms
    rights["dos"] = np.stack([np.eye(n_energy), np.zeros((n_energy, n_energy))], axis=1)
    found = {}
    for name, right in rights.items():
        right = s.volume * scaling.ldos_scale * right
        if relative:
            right = np.pad(right, ((0, 0), (0, 0), (0, 1)))
            right[:, 0, -1] = 0.0 if name == "dos" else REFERENCE_SCALE * s.n_electrons / s.n_atoms
        found[name] = Slopes(sums[None] / s.n_points, right)
    return found


def force_slopes(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    electrons: Electrons,
    settings: BispectrumSettings,
    *,
    n_points: int | None = None,
    keep: bool = True,
) -> Slopes:
    """Of minus the forces, atom by atom, what the grid points of ``data`` add.

    Args:
        network, scaling: the first initialisation counts.
        data: the structure, or a coarser grid of it, with descriptors; its LDOS does not count.
        electrons: of the predicted LDOS, with its gradient on the same grid.
        settings: of the descriptors.
        n_points: of the structure, where ``data`` is a coarser grid.
        keep: derivatives of the descriptors, as ``motions.slabs``.
    """
    s, gradient = data.snapshot, electrons.gradient
    assert gradient is not None
    total = n_points or s.n_points
    right = s.volume / total * scaling.ldos_scale * np.stack([gradient.constant, gradient.weights])
    if network.reference is not None:
        right = np.pad(right, ((0, 0), (0, 1)))
        right[0, -1] = REFERENCE_SCALE * s.n_electrons / total
    alone = network if network.n_initializations == 1 else network.only(0)
    about = alone, scaling, data, settings, gradient.potential.reshape(-1)
    moved = sums_of_tangents(*about, keep=keep, coordinates=range(3 * s.n_atoms))[0]
    return Slopes(moved, np.tile(right, (len(moved), 1, 1)))
