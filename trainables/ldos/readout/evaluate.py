"""Networks on a snapshot: their LDOS, energies and forces beside those of the DFT.  eV, Å, K."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...descriptors.bispectrum import bispectrum_forces
from ...descriptors.settings import BispectrumSettings
from ..inference import LastLayer, predict_ldos, pull_back, reference_levels
from ..network import Network
from ..training_data import Scaling, SnapshotData
from .electrons import Electrons, Ions, electrons_of
from .motions import DERIVED, is_small, motions

Float64 = NDArray[np.float64]
PULLED = 4096  # grid points of one pass back through the network
IN_MEMORY = 256 * 2**20  # bytes of a predicted LDOS that is kept for the second pass over it


@dataclass(frozen=True, eq=False)
class Evaluation:
    """T networks on one snapshot.

    squared_error: Σ over points and energies of (predicted - true)², (T,) [1/(eV Å³)]².  dos: (T, n_energy) [1/eV].
    band_energy, free_energy: predicted minus DFT, (T,) [eV/atom]; NaN where the predicted DOS cannot hold the
    electrons, or the DFT gave none.  forces: predicted minus DFT, (T, n_atoms, 3) [eV/Å], where they were asked for
    and the DFT gave them.
    """

    squared_error: Float64
    dos: Float64
    band_energy: Float64
    free_energy: Float64
    forces: Float64 | None


def evaluate(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    ions: Ions,
    *,
    settings: BispectrumSettings | None = None,
    forces: bool = False,
) -> Evaluation:
    """Predict a snapshot on its own grid from its stored descriptors, and compare.

    Args:
        network, scaling: with their last layer.
        data: the snapshot.
        ions: of the snapshot.
        settings: of the descriptors; needed for forces.
        forces: also forces, where the DFT is known and gave them.
    """
    s, n = data.snapshot, network.n_initializations
    predicted = _Predicted(network, scaling, data)
    band, free = np.full(n, np.nan), np.full(n, np.nan)
    dos, found = np.zeros((n, ions.energy_grid.n_energy)), list[Electrons | None]()
    levels = reference_levels(network, scaling, data.descriptors, data.level)
    wanted = forces and ions.dft is not None and s.forces is not None
    for t in range(n):
        dos[t] = sum(c.sum(axis=0, dtype=np.float64) for c in predicted.of(t)) * (s.volume / s.n_points)
        try:
            one = electrons_of(partial(predicted.of, t), ions, slopes=wanted)
        except ValueError:
            found.append(None)  # the DOS may hold too few states: what follows from it stays NaN
            continue
        found.append(one)
        if s.band_energy is not None:
            band[t] = (one.levels.band + s.n_electrons * levels[t] - s.band_energy) / s.n_atoms
        if s.total_energy is not None and one.free_energy is not None:
            free[t] = (one.free_energy + s.n_electrons * levels[t] - s.total_energy) / s.n_atoms
    off = None
    if wanted and s.forces is not None:
        assert settings is not None
        off = _forces(network, scaling, data, settings, found) - s.forces
    return Evaluation(predicted.squared_error(), dos, band, free, off)


@dataclass(eq=False)
class _Predicted:
    """The LDOS of T networks on a snapshot, kept where memory allows and else predicted whenever it is asked for."""

    network: Network
    scaling: Scaling
    data: SnapshotData

    def __post_init__(self) -> None:
        size = 4 * self.network.n_initializations * self.data.snapshot.n_points * self.network.sizes[-1]
        self._kept = list(self._predict()) if size <= IN_MEMORY else None

    def _predict(self) -> Iterable[NDArray[np.float32]]:
        return predict_ldos(self.network, self.scaling, self.data.descriptors)

    def of(self, t: int) -> Iterable[NDArray[np.float32]]:
        """That of one network, (n_points_in_chunk, n_energy) [1/(eV Å³)]."""
        return (chunk[t] for chunk in self._kept or self._predict())

    def squared_error(self) -> Float64:
        """(T,) [1/(eV Å³)]²."""
        total = np.zeros(self.network.n_initializations)
        chunks = iter(self._kept or self._predict())
        for ldos in self.data.learnt:
            done = 0
            while done < len(ldos):
                chunk = next(chunks)
                true = ldos[done : done + chunk.shape[1]].astype(np.float32)
                total += np.square(chunk - true).sum(axis=(1, 2), dtype=np.float64)
                done += chunk.shape[1]
        return total


def _forces(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    settings: BispectrumSettings,
    found: Sequence[Electrons | None],
) -> Float64:
    """Minus the derivative of A of each network, (T, n_atoms, 3) [eV/Å]; NaN where there is no A."""
    s, layer, done = data.snapshot, LastLayer.of(network, scaling), 0
    constant, slope = np.zeros((2, len(found), network.sizes[-1]))
    potential = np.zeros((len(found), s.n_points))
    for t, one in enumerate(found):
        if one is not None and one.gradient is not None:
            g = one.gradient
            constant[t], slope[t], potential[t] = g.constant, g.weights, g.potential.reshape(-1)
    pulled = np.empty((len(found), s.n_points, settings.n_components), dtype=np.float32)
    for shard in data.descriptors:
        for start in range(0, len(shard), PULLED):
            values = shard[start : start + PULLED]
            part = slice(done, done + len(values))
            by_hidden = layer.by_hidden(constant, slope, potential[:, part], s.n_electrons / s.volume)
            pulled[:, part] = (s.volume / s.n_points) * pull_back(network, scaling, values, by_hidden)
            done = part.stop
    forces = np.full((len(found), s.n_atoms, 3), np.nan)
    kept = _by_motions(data, settings, pulled) if is_small(s, settings) else None
    for t, one in enumerate(found):
        if one is not None and one.still is not None:
            place = s.cell, s.positions, s.numbers, s.grid, settings
            forces[t] = one.still + (bispectrum_forces(*place, pulled[t])[0] if kept is None else kept[t])
    return forces


def _by_motions(data: SnapshotData, settings: BispectrumSettings, by_descriptors: NDArray[np.float32]) -> Float64:
    """-Σ_r g(r)·∂B(r)/∂R of g (T, n_points, n_components), by derivatives that are kept, (T, n_atoms, 3)."""
    forces, done = np.zeros((len(by_descriptors), data.snapshot.n_atoms, 3)), 0
    for shard in data.descriptors:
        for start in range(0, len(shard), DERIVED):
            stop = min(start + DERIVED, len(shard))
            for motion in motions(data.snapshot, settings, done + start, done + stop):
                moved = np.einsum("tpc,pac->tpa", by_descriptors[:, motion.point], motion.values, dtype=np.float64)
                for atom, here in motion.of_atoms:
                    forces[:, atom] -= moved[:, here].sum(axis=1)
        done += len(shard)
    return forces
