"""Networks on a snapshot: their LDOS, energies and forces beside those of the DFT.  eV, Å, K."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.bispectrum import bispectrum_forces
from ...descriptors.settings import BispectrumSettings
from ..accuracy import SnapshotError
from ..inference import LastLayer, last_hidden, pull_back
from ..network import Network
from ..training_data import Moments, Scaling, SnapshotData
from .electrons import Electrons, Ions, electrons_from
from .motions import is_small, slabs, thinned

Float64 = NDArray[np.float64]
PULLED = 2048  # grid points of one pass back through the network
IN_MEMORY = 256 * 2**20  # bytes of a hidden layer that is kept for the second pass over it


@dataclass(frozen=True, eq=False)
class Evaluation:
    """T networks on one snapshot.

    dos: (T, n_energy) [1/eV].  band_energy, free_energy: predicted minus DFT, (T,) [eV/atom]; NaN where the predicted
    DOS cannot hold the electrons, or the DFT gave none; A also where the grid is too coarse for its density.
    forces: predicted minus DFT, (T, n_atoms, 3) [eV/Å], where they were asked for and the DFT gave them.
    ldos: where it was asked for.  levels: absolute energies that those of the LDOS are relative to, (T,) [eV].
    """

    dos: Float64
    band_energy: Float64
    free_energy: Float64
    forces: Float64 | None
    ldos: "LdosError | None"
    levels: Float64

    def error(self, data: SnapshotData) -> SnapshotError:
        """In the units of reports; of an evaluation with ``ldos``."""
        assert self.ldos is not None
        rmse = np.sqrt(((self.dos - self.ldos.true_dos(data)) ** 2).mean(axis=1)) / data.snapshot.n_atoms
        band, free = 1e3 * self.band_energy, 1e3 * self.free_energy
        return SnapshotError(data.snapshot, band, rmse, self.ldos.squares, free)


@dataclass(frozen=True, eq=False)
class LdosError:
    """squares: Σ over points and energies of (predicted - true)², (T,) [1/(eV Å³)]².  true: moments of the true one."""

    squares: Float64
    true: Moments

    def true_dos(self, data: SnapshotData) -> Float64:
        """Reference DOS, (n_energy,) [1/eV]."""
        return self.true.mean * data.snapshot.volume


def evaluate(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    ions: Ions,
    *,
    settings: BispectrumSettings | None = None,
    forces: bool = False,
    ldos: bool = True,
) -> Evaluation:
    """Predict a snapshot on its own grid from its stored descriptors, and compare.

    Energies and forces need sums of the LDOS only, which are sums of the last hidden layer.

    Args:
        network, scaling: with their last layer.
        data: the snapshot.
        ions: of the snapshot.
        settings: of the descriptors; needed for forces.
        forces: also forces, where the DFT is known and gave them; where ``motions`` keeps derivatives, as sums over
            thinned grid points.
        ldos: also the squared error of the LDOS, for which the LDOS is made.
    """
    s = data.snapshot
    found = [_One(network.only(t), scaling, data) for t in range(network.n_initializations)]
    dos = np.array([one.dos for one in found])
    levels = np.array([one.level for one in found])
    zero = s.n_electrons * levels
    band, free = np.full((2, len(found)), np.nan)
    wanted = forces and s.forces is not None and ions.dft is not None and settings is not None
    off = np.full((len(found), s.n_atoms, 3), np.nan) if wanted else None
    for t, one in enumerate(found):
        try:
            electrons = electrons_from(dos[t], one.sums, ions, slopes=off is not None)
        except ValueError:
            continue  # the DOS may hold too few states: what follows from it stays NaN
        if s.band_energy is not None:
            band[t] = (electrons.levels.band + zero[t] - s.band_energy) / s.n_atoms
        if s.total_energy is not None and electrons.free_energy is not None:
            free[t] = (electrons.free_energy + zero[t] - s.total_energy) / s.n_atoms
        if off is not None and electrons.gradient is not None:
            assert settings is not None
            assert s.forces is not None
            off[t] = one.forces(electrons, settings) - s.forces
    error = None
    if ldos:
        squares = np.array([one.squared_error() for one in found])
        error = LdosError(squares, reduce(add, (Moments.of(shard[:]) for shard in data.learnt)))
    return Evaluation(dos, band, free, off, error, levels)


class _One:
    """One network on a snapshot; its last hidden layer is kept where memory allows, and else made at each pass."""

    def __init__(self, network: Network, scaling: Scaling, data: SnapshotData) -> None:
        self._network, self._scaling, self._data = network, scaling, data
        self._layer = LastLayer.of(network, scaling)
        size = 4 * data.snapshot.n_points * network.sizes[-2]
        self._kept = [list(shard) for shard in self._made()] if size <= IN_MEMORY else None

    def _made(self) -> Iterator[Iterator[Tensor]]:
        return (last_hidden(self._network, self._scaling, shard) for shard in self._data.descriptors)

    def _hidden(self) -> Iterator[Tensor]:
        """Chunk by chunk in grid order, (1, n_points_in_chunk, width)."""
        return (chunk for shard in self._kept or self._made() for chunk in shard)

    @cached_property
    def _mean(self) -> Float64:
        """The last hidden layer's mean over the grid, (width,)."""
        sums = sum(h[0].sum(dim=0).double() for h in self._hidden())
        assert isinstance(sums, Tensor)
        return np.asarray(sums.cpu().numpy() / self._data.snapshot.n_points)

    @property
    def dos(self) -> Float64:
        """D, (n_energy,) [1/eV]."""
        return self._data.snapshot.volume * (self._mean @ self._layer.weights[0] + self._layer.biases[0])

    @property
    def level(self) -> float:
        """The absolute energy that those of the LDOS are relative to [eV]."""
        if self._layer.reference is None:
            return self._data.level
        return float(self._mean @ self._layer.reference[0, :-1] + self._layer.reference[0, -1])

    def sums(self, weights: Float64) -> Float64:
        """Σ_j d_j(r) w_jk of weights (n_energy, n_weights), (n_points, n_weights)."""
        by_hidden = torch.from_numpy((self._layer.weights[0] @ weights).astype(np.float32))
        found = [(h[0] @ by_hidden.to(h.device)).cpu().numpy() for h in self._hidden()]
        return np.concatenate(found).astype(np.float64) + self._layer.biases[0] @ weights

    def squared_error(self) -> float:
        """Σ over points and energies of (predicted - true)² [1/(eV Å³)]²."""
        total, chunks = 0.0, self._hidden()
        weight, bias = (part[-1][0].detach() for part in (self._network.weights, self._network.biases))
        for ldos in self._data.learnt:
            done = 0
            while done < len(ldos):
                h = next(chunks)[0]
                true = torch.from_numpy(self._scaling.ldos(ldos[done : done + len(h)])).to(h.device)
                total += float((torch.addmm(bias, h, weight) - true).square().sum(dtype=torch.float64))
                done += len(h)
        return total * self._scaling.ldos_scale**2

    def forces(self, electrons: Electrons, settings: BispectrumSettings) -> Float64:
        """Minus the derivative of A, (n_atoms, 3) [eV/Å]."""
        data, s, gradient = self._data, self._data.snapshot, electrons.gradient
        assert gradient is not None
        assert electrons.still is not None
        small = is_small(s, settings)
        points = thinned(s.grid) if small else np.arange(s.n_points)
        n_summed = len(points)
        constant, slope = (s.volume / n_summed * part[None] for part in (gradient.constant, gradient.weights))
        potential = gradient.potential.reshape(1, -1)

        def pulled(points: NDArray[np.integer], values: NDArray[np.floating]) -> NDArray[np.floating]:
            by_hidden = self._layer.by_hidden(constant, slope, potential[:, points], s.n_electrons / n_summed)
            return pull_back(self._network, self._scaling, values, by_hidden)[0]

        if not small:
            every = np.concatenate([pulled(*some) for some in _in_order(data)])
            place = s.cell, s.positions, s.numbers, s.grid, settings
            return electrons.still + bispectrum_forces(*place, every, threads=torch.get_num_threads())[0]
        found = electrons.still.copy()
        for slab, values in slabs(data, settings, points):
            g = pulled(slab.points, values)
            for motion in slab.motions:
                found[motion.atom] -= motion.values.reshape(3, -1) @ g[motion.point].reshape(-1)
        return found


def _in_order(data: SnapshotData) -> Iterator[tuple[NDArray[np.integer], NDArray[np.floating]]]:
    """All grid points, some at a time, and their descriptors."""
    first = 0
    for shard in data.descriptors:
        for start in range(0, len(shard), PULLED):
            values = shard[start : start + PULLED]
            yield np.arange(first + start, first + start + len(values)), values
        first += len(shard)
