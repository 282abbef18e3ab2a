"""Networks on a snapshot: their LDOS, energies and forces beside those of the DFT.  eV, Å, K."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from .posterior import Posterior
from .slopes import Slopes, energy_slopes, feature_sums, force_slopes

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
    std: where a posterior was given, of free_energy and band_energy (1,) [eV/atom], dos (n_energy,) [1/eV] and, with
    forces, forces (3 n_atoms,) [eV/Å]: how well the first network's last layer is known.
    """

    dos: Float64
    band_energy: Float64
    free_energy: Float64
    forces: Float64 | None
    ldos: "LdosError | None"
    levels: Float64
    std: Mapping[str, Float64] = field(default_factory=dict)

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
    posterior: Posterior | None = None,
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
        posterior: of the last layer; how well it is known is then told, too.
    """
    s = data.snapshot
    found = [_One(network.only(t), scaling, data) for t in range(network.n_initializations)]
    dos = np.array([one.dos for one in found])
    levels = np.array([one.level for one in found])
    zero = s.n_electrons * levels
    band, free = np.full((2, len(found)), np.nan)
    wanted = forces and s.forces is not None and ions.dft is not None and settings is not None
    off = np.full((len(found), s.n_atoms, 3), np.nan) if wanted else None
    std = dict[str, Float64]()
    for t, one in enumerate(found):
        try:
            electrons = electrons_from(dos[t], one.sums, ions, slopes=off is not None or posterior is not None)
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
        if posterior is not None and t == 0:
            slopes = one.slopes(electrons, ions, settings if wanted else None)
            std = {name: some.std(posterior) for name, some in slopes.items()}
    error = None
    if ldos:
        squares = np.array([one.squared_error() for one in found])
        error = LdosError(squares, reduce(add, (Moments.of(shard[:]) for shard in data.learnt)))
    return Evaluation(dos, band, free, off, error, levels, std)


def slopes_of(
    network: Network, scaling: Scaling, data: SnapshotData, ions: Ions, settings: BispectrumSettings | None = None
) -> dict[str, Slopes]:
    """How a structure's ``free_energy`` and ``band_energy`` (an atom), ``dos`` and ``forces`` go with the last layer.

    With ``LdosSurrogate.posterior`` they say how well these are known (``Slopes.std``, in eV/atom, 1/eV and eV/Å), and
    how much of that two structures share (``Slopes.coordinates``): choosing by what is not known needs no LDOS.

    Args:
        network, scaling: the first initialisation counts.
        data: the structure with its descriptors on the whole grid; its LDOS does not count and may be ().
        ions: of the structure.
        settings: of the descriptors: also forces, minus which component 3 i + k is of atom i along axis k.

    Raises:
        ValueError: as ``electrons_from``.
    """
    one = _One(network.only(0), scaling, data)
    return one.slopes(electrons_from(one.dos, one.sums, ions, slopes=True), ions, settings)


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

    def slopes(self, electrons: Electrons, ions: Ions, settings: BispectrumSettings | None) -> dict[str, Slopes]:
        """As ``slopes_of``."""
        gradient = electrons.gradient
        u = np.zeros(ions.snapshot.n_points) if gradient is None else gradient.potential.reshape(-1)
        sums = feature_sums(self._hidden(), u)
        relative = self._layer.reference is not None
        found = energy_slopes(sums, electrons, ions, self._scaling, relative=relative)
        if settings is not None and gradient is not None:
            found["forces"] = force_slopes(self._network, self._scaling, self._data, electrons, settings)
        return found

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
