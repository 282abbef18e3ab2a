"""Networks on a snapshot: their LDOS, energies, forces and stress beside those of the DFT.  eV, Å, K."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from ...descriptors.bispectrum import bispectrum_forces
from ...descriptors.settings import BispectrumSettings
from ...physics.free_energy import LdosGradient
from ..accuracy import SnapshotError
from ..inference import LastLayer, last_hidden
from ..network import Network
from ..training_data import Moments, Scaling, SnapshotData
from .electrons import Electrons, Filling, Ions
from .features import REFERENCE_SCALE
from .motions import VOIGT, is_small, n_coordinates, slabs, thinned
from .posterior import Posterior
from .slopes import Slopes, energy_slopes, feature_sums, force_slopes
from .tangents import hidden_slopes

Float64 = NDArray[np.float64]
PULLED = 2048  # grid points of one pass back through the network
IN_MEMORY = 256 * 2**20  # bytes of a hidden layer that is kept for the second pass over it


@dataclass(frozen=True, eq=False)
class Evaluation:
    """T networks on one snapshot.

    dos: (T, n_energy) [1/eV].  band_energy, free_energy: predicted minus DFT, (T,) [eV/atom]; NaN where the predicted
    DOS cannot hold the electrons, or the DFT gave none; A also where the grid is too coarse for its density.
    forces, stress: predicted minus DFT, (T, n_atoms, 3) [eV/Å] and (T, 6) [eV/Å³] as ``VOIGT``, where they were asked
    for and the DFT gave them.
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
    stress: Float64 | None = None

    def error(self, data: SnapshotData) -> SnapshotError:
        """In the units of reports; of an evaluation with ``ldos``."""
        assert self.ldos is not None
        dos = (self.dos - self.ldos.true_dos(data)) / data.snapshot.n_atoms
        rmse = np.sqrt((dos**2).mean(axis=1))
        band, free = 1e3 * self.band_energy, 1e3 * self.free_energy
        units = {"free_energy": 1e3, "band_energy": 1e3, "dos": 1 / data.snapshot.n_atoms, "forces": 1.0}
        std = {name: units[name] * values for name, values in self.std.items()}
        return SnapshotError(data.snapshot, band, rmse, self.ldos.squares, free, self.forces, dos, std)


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
    readouts: Float64 | None = None,
) -> Evaluation:
    """Predict a snapshot on its own grid from its stored descriptors, and compare.

    Energies and forces need sums of the LDOS only, which are sums of the last hidden layer.

    Args:
        network, scaling: with their last layer.
        data: the snapshot.
        ions: of the snapshot.
        settings: of the descriptors; needed for forces.
        forces: also forces and stress, where the DFT is known and gave them; where ``motions`` keeps derivatives, as
            sums over thinned grid points.
        ldos: also the squared error of the LDOS, for which the LDOS is made.
        posterior: of the last layer; how well it is known is then told, too.
        readouts: last layers (T, width + 1, n_columns), as ``set_readout`` takes them, in place of that of the network,
            which is one; they share its hidden layers.
    """
    s = data.snapshot
    wanted = settings if forces and ions.dft is not None and not (s.forces is None and s.stress is None) else None
    alone = [network.only(t) for t in range(network.n_initializations)]
    layers = [LastLayer.of(one, scaling) for one in alone] if readouts is None else [_layer(readouts, network, scaling)]
    known = [posterior, *[None] * (len(alone) - 1)]
    some = [
        _Some(one, layer, scaling, data).evaluation(ions, wanted, ldos=ldos, posterior=about)
        for one, layer, about in zip(alone, layers, known, strict=True)
    ]
    dos, band, free, levels = (np.concatenate([getattr(e, n) for e in some]) for n in _EACH)
    off = {n: np.concatenate(each) for n in _OFF if (each := [x for e in some if (x := getattr(e, n)) is not None])}
    squares = [e.ldos for e in some if e.ldos is not None]
    error = LdosError(np.concatenate([e.squares for e in squares]), squares[0].true) if squares else None
    return Evaluation(dos, band, free, off.get("forces"), error, levels, some[0].std, off.get("stress"))


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
        ValueError: as ``Filling.of``.
    """
    first = network.only(0)
    return _Some(first, LastLayer.of(first, scaling), scaling, data).slopes(ions, settings)


_EACH, _OFF = ("dos", "band_energy", "free_energy", "levels"), ("forces", "stress")


def _layer(readouts: Float64, network: Network, scaling: Scaling) -> LastLayer:
    """Last layers with the precision that a network has."""
    n_energy, kept = network.sizes[-1], readouts.astype(np.float32).astype(np.float64)
    scaled = scaling.ldos_scale * kept[..., :n_energy]
    reference = REFERENCE_SCALE * kept[..., n_energy] if kept.shape[-1] > n_energy else None
    return LastLayer(scaled[:, :-1], scaled[:, -1] + scaling.ldos_mean, reference)


class _Some:
    """One network on a snapshot with one or more last layers.

    Its last hidden layer is kept where memory allows, and else made at each pass.
    """

    def __init__(self, network: Network, layer: LastLayer, scaling: Scaling, data: SnapshotData) -> None:
        self._network, self._layer, self._scaling, self._data = network, layer, scaling, data
        size = 4 * data.snapshot.n_points * network.sizes[-2]
        self._kept = [list(shard) for shard in self._made()] if size <= IN_MEMORY else None

    def evaluation(
        self, ions: Ions, settings: BispectrumSettings | None, *, ldos: bool, posterior: Posterior | None
    ) -> Evaluation:
        """Of each last layer, with forces and stress where the settings of the descriptors are given."""
        s, n = self._data.snapshot, len(self._layer.weights)
        dos, levels = self._dos()
        zero = s.n_electrons * levels
        band, free = np.full((2, n), np.nan)
        fillings: dict[int, Filling] = {}
        for t, one in enumerate(dos):
            with suppress(ValueError):
                fillings[t] = Filling.of(one, ions, slopes=settings is not None or posterior is not None)
        known = self._electrons(fillings, ions, strain=settings is not None and s.stress is not None)
        for t, electrons in known.items():
            if s.band_energy is not None:
                band[t] = (electrons.levels.band + zero[t] - s.band_energy) / s.n_atoms
            if s.total_energy is not None and electrons.free_energy is not None:
                free[t] = (electrons.free_energy + zero[t] - s.total_energy) / s.n_atoms
        forces = None if settings is None or s.forces is None else np.full((n, s.n_atoms, 3), np.nan)
        stress = None if settings is None or s.stress is None else np.full((n, len(VOIGT)), np.nan)
        for t, moved in {} if settings is None else self._by_coordinates(known, settings).items():
            still, strained, ends = known[t].still, known[t].strained, 3 * s.n_atoms
            if forces is not None and s.forces is not None and still is not None:
                forces[t] = still - moved[:ends].reshape(-1, 3) - s.forces
            if stress is not None and s.stress is not None and strained is not None:
                rest = full_3x3_to_voigt_6_stress(strained - s.volume * s.stress)
                stress[t] = (rest + moved[ends:]) / s.volume
        error = None
        if ldos:
            true = reduce(add, (Moments.of(shard[:]) for shard in self._data.learnt))
            error = LdosError(self._squared_errors(), true)
        std = dict[str, Float64]()
        if posterior is not None and 0 in known:
            std = {name: some.std(posterior) for name, some in self._slopes(known[0], ions, settings).items()}
        return Evaluation(dos, band, free, forces, error, levels, std, stress)

    def _made(self) -> Iterator[Iterator[Tensor]]:
        return (last_hidden(self._network, self._scaling, shard) for shard in self._data.descriptors)

    def _hidden(self) -> Iterator[Tensor]:
        """Chunk by chunk in grid order, (n_points_in_chunk, width)."""
        return (chunk[0] for shard in self._kept or self._made() for chunk in shard)

    def _dos(self) -> tuple[Float64, Float64]:
        """D of each last layer, (T, n_energy) [1/eV], and the absolute energy that its own are relative to, (T,)."""
        s, layer = self._data.snapshot, self._layer
        sums = sum(h.sum(dim=0).double() for h in self._hidden())
        assert isinstance(sums, Tensor)
        mean = np.asarray(sums.cpu().numpy() / s.n_points)
        dos = s.volume * (np.einsum("i,tij->tj", mean, layer.weights) + layer.biases)
        if layer.reference is None:
            return dos, np.full(len(dos), self._data.level)
        return dos, layer.reference[:, :-1] @ mean + layer.reference[:, -1]

    def _electrons(self, fillings: Mapping[int, Filling], ions: Ions, *, strain: bool = False) -> dict[int, Electrons]:
        """What those last layers say whose DOS holds the electrons, in one pass."""
        if not fillings:
            return {}
        layer, ends = self._layer, np.cumsum([f.weights.shape[1] for f in fillings.values()])
        by_hidden = np.concatenate([layer.weights[t] @ f.weights for t, f in fillings.items()], axis=1)
        constant = np.concatenate([layer.biases[t] @ f.weights for t, f in fillings.items()])
        on_device = torch.from_numpy(by_hidden.astype(np.float32))
        found = [(h @ on_device.to(h.device)).cpu().numpy() for h in self._hidden()]
        sums = np.split(np.concatenate(found).astype(np.float64) + constant, ends[:-1], axis=1)
        return {t: f.electrons(own, ions, strain=strain) for (t, f), own in zip(fillings.items(), sums, strict=True)}

    def _squared_errors(self) -> Float64:
        """Σ over points and energies of (predicted - true)² [1/(eV Å³)]² of each last layer, (T,)."""
        layer, scaling, chunks = self._layer, self._scaling, self._hidden()
        device = self._network.weights[0].device
        scaled = (layer.weights / scaling.ldos_scale, (layer.biases - scaling.ldos_mean) / scaling.ldos_scale)
        weights, biases = (torch.from_numpy(part.astype(np.float32)).to(device) for part in scaled)
        total = np.zeros(len(weights))
        for ldos in self._data.learnt:
            done = 0
            while done < len(ldos):
                h = next(chunks)
                true = torch.from_numpy(scaling.ldos(ldos[done : done + len(h)])).to(device)
                for t in range(len(total)):
                    off = torch.addmm(biases[t], h, weights[t]) - true
                    total[t] += float(off.square().sum(dtype=torch.float64))
                done += len(h)
        return total * scaling.ldos_scale**2

    def slopes(self, ions: Ions, settings: BispectrumSettings | None) -> dict[str, Slopes]:
        """As ``slopes_of``, of the first last layer."""
        return self._slopes(self.electrons(ions, slopes=True), ions, settings)

    def electrons(self, ions: Ions, *, slopes: bool) -> Electrons:
        """What the first last layer says; errors as ``Filling.of``."""
        return self._electrons({0: Filling.of(self._dos()[0][0], ions, slopes=slopes)}, ions)[0]

    def _slopes(self, electrons: Electrons, ions: Ions, settings: BispectrumSettings | None) -> dict[str, Slopes]:
        gradient = electrons.gradient
        u = np.zeros(ions.snapshot.n_points) if gradient is None else gradient.potential.reshape(-1)
        sums = feature_sums(self._hidden(), u)
        relative = self._layer.reference is not None
        found = energy_slopes(sums, electrons, ions, self._scaling, relative=relative)
        if settings is not None and gradient is not None:
            found["forces"] = force_slopes(self._network, self._scaling, self._data, electrons, settings)
        return found

    def _by_coordinates(self, known: Mapping[int, Electrons], settings: BispectrumSettings) -> dict[int, Float64]:
        """What the LDOS adds to the derivative of A by each coordinate (``Motion.coordinates``) [eV/Å; of a strain eV].

        Of the last layers whose A is known.
        """
        s = self._data.snapshot
        gradients = {t: e.gradient for t, e in known.items() if e.gradient is not None}
        if not gradients:
            return {}
        if not is_small(s, settings):
            return {t: self._pulled_at_all_points(t, gradient, settings) for t, gradient in gradients.items()}
        found = np.zeros((n_coordinates(s), len(gradients)))
        points = thinned(s.grid)
        parts = [self._parts(t, gradient, len(points)) for t, gradient in gradients.items()]
        back = Backwards(self._network, self._scaling, *(np.concatenate(some) for some in zip(*parts, strict=True)))
        potential = np.stack([gradient.potential.ravel() for gradient in gradients.values()])
        for slab, values in slabs(self._data, settings, points):
            by_descriptor = back(values, potential[:, slab.points])
            for motion in slab.motions:
                gradient_there = by_descriptor[:, motion.point].reshape(len(gradients), -1)
                found[motion.coordinates] += motion.values.reshape(len(motion.values), -1) @ gradient_there.T
        return dict(zip(gradients, found.T, strict=True))

    def _parts(self, t: int, gradient: LdosGradient, n_summed: int) -> tuple[Float64, Float64]:
        """``LastLayer.by_hidden`` of a derivative of A, each (1, width), in a sum over some grid points."""
        s = self._data.snapshot
        constant, slope = (s.volume / n_summed * part[None] for part in (gradient.constant, gradient.weights))
        return self._layer.only(t).by_hidden(constant, slope, s.n_electrons / n_summed)

    def _pulled_at_all_points(self, t: int, gradient: LdosGradient, settings: BispectrumSettings) -> Float64:
        """The same of one last layer from all grid points, back through the bispectrum, (n_coordinates,)."""
        s = self._data.snapshot
        back = Backwards(self._network, self._scaling, *self._parts(t, gradient, s.n_points))
        potential = gradient.potential.reshape(1, -1)
        every = np.concatenate([back(values, potential[:, points])[0] for points, values in _in_order(self._data)])
        place = s.cell, s.positions, s.numbers, s.grid, settings
        forces, strain = bispectrum_forces(*place, every, threads=torch.get_num_threads())
        return np.concatenate([-forces.ravel(), full_3x3_to_voigt_6_stress(strain)])[: n_coordinates(s)]


class Backwards:
    """The way from derivatives by the last hidden layer back to descriptors, for one network and T last layers.

    Args:
        network: one, whose hidden layers count.
        scaling: of the descriptors.
        constant, slope: what a derivative by the last hidden layer is made of, a + u(r) w, each (T, width).
    """

    def __init__(self, network: Network, scaling: Scaling, constant: Float64, slope: Float64) -> None:
        self._network, self._scaling = network, scaling
        parts = (torch.from_numpy(part.astype(np.float32)) for part in (constant, slope))
        self._constant, self._slope = (part[:, None].to(network.weights[0].device) for part in parts)

    def __call__(self, descriptors: NDArray[np.floating], potential: Float64) -> NDArray[np.floating]:
        """(T, n_points, n_components) of descriptors (n_points, n_components) and u (T, n_points)."""
        device = self._slope.device
        x = torch.from_numpy(self._scaling.descriptors(descriptors)).to(device)
        u = torch.from_numpy(potential.astype(np.float32)).to(device)
        with torch.no_grad():
            slopes = hidden_slopes(self._network, x)
            back = torch.addcmul(self._constant, u[:, :, None], self._slope)
            for weight, slope in zip(list(self._network.weights[:-1])[::-1], slopes[::-1], strict=True):
                back = back.mul_(slope) @ weight[0].T
        return back.cpu().numpy() / self._scaling.descriptor_std


def _in_order(data: SnapshotData) -> Iterator[tuple[NDArray[np.integer], NDArray[np.floating]]]:
    """All grid points, some at a time, and their descriptors."""
    first = 0
    for shard in data.descriptors:
        for start in range(0, len(shard), PULLED):
            values = shard[start : start + PULLED]
            yield np.arange(first + start, first + start + len(values)), values
        first += len(shard)
