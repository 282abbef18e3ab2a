"""Rows of the last layer's regression: what a snapshot's energies say of its weights.  eV, Å; energies an atom.

The scaled LDOS is y(r) = Wᵀφ(r).  To first order in the LDOS's error an energy is a linear functional of it, so of W:
a row Σ_i l_iᵀ W r_i with one or two pairs of vectors l over features and r over energies (docs/physics.md, section 18).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from ...descriptors.settings import BispectrumSettings
from ...errors import DatasetError
from ...physics.smearing import fermi_dirac, fermi_dirac_slope
from ..network import Network
from ..training_data import Scaling, SnapshotData
from .electrons import Electrons, Ions, electrons_of
from .features import REFERENCE_SCALE, chunks, n_columns
from .tangents import sums_of_tangents

Float64 = NDArray[np.float64]
RowKind = Literal["free_energy", "band_energy", "electrons", "dos", "reference", "forces", "stress"]
LINEAR: frozenset[RowKind] = frozenset({"electrons", "dos", "reference"})  # exact, whatever the LDOS' error
# A free or band energy that is further than this from what the snapshot's own LDOS gives would teach an error.  Least
# squares are 0.1 to 0.8 meV/atom off, the linear rule 28 to 36 [eV/atom].
DISAGREES = 0.01


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of T initialisations: Σ_i left[t, k, i]ᵀ W right[k, i] should be target[k].

    kinds: of each row.  left: (T, n_rows, 2, p).  right: (n_rows, 2, n_energy).  target: (n_rows,), in eV/atom for
    energies, electrons/atom, 1/(eV atom) for a DOS, eV for a reference, eV/Å for forces, eV/Å³ for a stress.  Where
    energies are relative to one, W and ``right`` have a column for it behind those of the energies.
    """

    kinds: tuple[RowKind, ...]
    left: Float64
    right: Float64
    target: Float64

    def of(self, weights: Float64) -> Float64:
        """What the rows give, (T, n_rows), of W (T, p, n_energy), or of several W of one initialisation."""
        n, n_rows, _, p = self.left.shape
        turned = self.left.reshape(n, 2 * n_rows, p) @ weights
        return np.einsum("tkij,kij->tk", turned.reshape(len(weights), n_rows, 2, -1), self.right)

    def only(self, t: int) -> "Rows":
        """Those of one initialisation alone."""
        return Rows(self.kinds, self.left[t : t + 1], self.right, self.target)

    @classmethod
    def none(cls, network: Network, data: SnapshotData) -> "Rows":
        """No row at all."""
        n, p, n_energy = network.n_initializations, network.sizes[-2] + 1, n_columns(network, data)
        return cls((), np.zeros((n, 0, 2, p)), np.zeros((0, 2, n_energy)), np.zeros(0))

    @classmethod
    def join(cls, parts: Sequence["Rows"]) -> "Rows":
        """Those of several snapshots, one after the other."""
        return cls(
            tuple(kind for part in parts for kind in part.kinds),
            np.concatenate([part.left for part in parts], axis=1),
            np.concatenate([part.right for part in parts]),
            np.concatenate([part.target for part in parts]),
        )


def reference(data: SnapshotData, ions: Ions, *, slopes: bool = True) -> Electrons:
    """What the snapshot's own LDOS says of its electrons, with the derivative of A where the DFT is known.

    Args:
        data: the snapshot; its descriptors do not count.
        ions: of the snapshot.
        slopes: whether the derivative is needed.

    Raises:
        DatasetError: its energies are not those of its LDOS, so that rows would teach an error.
    """
    s = data.snapshot

    def ldos() -> Iterable[NDArray[np.floating]]:
        return (shard[start : start + 16_384] for shard in data.learnt for start in range(0, len(shard), 16_384))

    try:
        # A by the linear rule is some 30 meV/atom off, which changes with the volume: there are no rows of a stress
        strain = s.stress is not None and ions.energy_grid.rule != "linear"
        found = electrons_of(ldos, ions, slopes=slopes and ions.dft is not None, strain=strain)
    except ValueError as error:
        raise DatasetError(f"snapshot {s.id}: its LDOS gives no energies ({error}); import it again") from error
    free = found.free_energy is not None
    ours, theirs = (found.free_energy, s.total_energy) if free else (found.levels.band, s.band_energy)
    if ours is None or theirs is None or ions.energy_grid.rule == "linear":
        return found
    ours += s.n_electrons * data.level
    if not abs(ours - theirs) < DISAGREES * s.n_atoms:
        raise DatasetError(
            f"snapshot {s.id}: its {'free' if free else 'band'} energy of {theirs / s.n_atoms:.4f} eV/atom is "
            f"{1e3 * (theirs - ours) / s.n_atoms:+.1f} meV/atom from that of its own LDOS, and rows for it would teach "
            "an error; correct it, or leave energies out of the readout with energy_weight = 0, force_weight = 0 and "
            "stress_weight = 0"
        )
    return found


def energy_rows(network: Network, scaling: Scaling, data: SnapshotData, ions: Ions, known: Electrons) -> Rows:
    """One row for the free energy; where it is not known two, for band energy and number of electrons.

    One more where energies are relative to a level: for that level, which A and E_b hold N times.

    A change δy of the scaled LDOS changes A by Ω s [⟨δy⟩·a + ⟨u δy⟩·w], with means over the grid, the scale s of the
    LDOS, and a, w, u of ``LdosGradient``; it changes E_b by Ω s ⟨δy⟩·b at a constant number of electrons,
    b = w[εf] - w[f] (Σ w[εf'] D) / (Σ w[f'] D), and the number at a fixed ε_F by Ω s ⟨δy⟩·w[f].

    Args:
        network, scaling: whose features and LDOS they are.
        data: the snapshot.
        ions: of the snapshot.
        known: ``reference`` of the snapshot.

    The linear rule is some 30 meV/atom off in either energy, so on its grids there is no row.
    """
    s = data.snapshot
    free = known.free_energy is not None
    if ions.energy_grid.rule == "linear" or (s.total_energy if free else s.band_energy) is None:
        return Rows.none(network, data)
    potential = None if known.gradient is None else known.gradient.potential.reshape(-1)
    phi, y = _means(network, scaling, data, potential)
    n_energy = network.sizes[-1]
    scale = s.volume * scaling.ldos_scale / s.n_atoms
    kinds: tuple[RowKind, ...]
    if known.gradient is not None and known.free_energy is not None and s.total_energy is not None:
        kinds = ("free_energy",)
        right = np.stack([known.gradient.constant, known.gradient.weights])[None]
        off = np.array([(s.total_energy - known.free_energy) / s.n_atoms])
    else:
        assert s.band_energy is not None
        kinds = ("band_energy", "electrons")
        right = np.zeros((2, 2, n_energy))
        right[:, 0] = band_slopes(known, ions)
        off = np.array([(s.band_energy - known.levels.band) / s.n_atoms, 0.0])
    right = scale * right
    target = np.einsum("ij,kij->k", y, right) + off
    if data.reference is not None:
        kinds, target = (*kinds, "reference"), np.append(target, data.level)
        right = np.pad(right, ((0, 1), (0, 0), (0, 1)))
        right[0, 0, -1] = REFERENCE_SCALE * s.n_electrons / s.n_atoms
        right[-1, 0, -1] = REFERENCE_SCALE
    return Rows(kinds, np.repeat(phi[:, None], len(kinds), axis=1), right, target)


def dos_rows(network: Network, scaling: Scaling, data: SnapshotData) -> Rows:
    """A row for each energy: of the DOS an atom what the mean of the scaling does not give, (Ω s / N_atoms) ⟨y_j⟩.

    Arguments as in ``energy_rows``.
    """
    s, n_energy = data.snapshot, network.sizes[-1]
    phi, y = _means(network, scaling, data, None)
    scale = s.volume * scaling.ldos_scale / s.n_atoms
    right = np.zeros((n_energy, 2, n_columns(network, data)))
    right[:, 0, :n_energy] = scale * np.eye(n_energy)
    kinds: tuple[RowKind, ...] = tuple("dos" for _ in range(n_energy))
    return Rows(kinds, np.repeat(phi[:, None], n_energy, axis=1), right, scale * y[0])


def _means(
    network: Network, scaling: Scaling, data: SnapshotData, potential: Float64 | None
) -> tuple[Float64, Float64]:
    """Means over the grid of φ and of the scaled LDOS, and of u times both, (T, 2, p) and (2, n_energy).

    Args:
        network, scaling, data: as in ``energy_rows``.
        potential: u at each grid point, 0 if there is none.
    """
    n, p, n_energy = network.n_initializations, network.sizes[-2] + 1, network.sizes[-1]
    phi, y = np.zeros((n, 2, p)), np.zeros((2, n_energy))
    for points, values, ldos in chunks(network, scaling, data):
        u = np.zeros(len(points)) if potential is None else potential[points.start : points.stop]
        both = np.stack([np.ones(len(points)), u])
        phi += (torch.from_numpy(both).to(values) @ values).double().cpu().numpy()
        y += both @ scaling.ldos(ldos)
    return phi / data.snapshot.n_points, y / data.snapshot.n_points


def force_rows(
    network: Network,
    scaling: Scaling,
    data: SnapshotData,
    known: Electrons,
    settings: BispectrumSettings,
    *,
    forces: bool = True,
    stress: bool = True,
) -> Rows:
    """A row for each component of the DFT's forces F and stress σ.

    It is the LDOS' share Σ_r Σ_j δA/δd_j(r) ∂d_j(r)/∂R of -F or of σΩ, where R is a coordinate of an atom or one
    of the strain.  With d = s Wᵀφ that is (Ω s / n_r) [(Σ_r ∂φ/∂R)ᵀ W a + (Σ_r u ∂φ/∂R)ᵀ W w].  Its target is what ions
    and core charges leave of -F, and what a strain at which each grid point keeps its LDOS leaves of σΩ.  These, a, u
    and w are those of the true LDOS, and W moves them too, which the row does not see.

    Arguments as in ``energy_rows``; ``settings`` are those of the descriptors; ``forces`` and ``stress``: which rows,
    where they are known.
    """
    s, gradient, n = data.snapshot, known.gradient, 3 * data.snapshot.n_atoms
    wanted = dict[RowKind, Float64]()
    if forces and s.forces is not None and known.still is not None:
        wanted["forces"] = (known.still - s.forces).reshape(-1)
    if stress and s.stress is not None and known.strained is not None:
        wanted["stress"] = full_3x3_to_voigt_6_stress(s.stress - known.strained / s.volume)
    if gradient is None or not wanted:
        return Rows.none(network, data)
    kinds = tuple(kind for kind, target in wanted.items() for _ in target)
    first = 0 if "forces" in wanted else n
    some = range(first, first + len(kinds))
    moved = sums_of_tangents(network, scaling, data, settings, gradient.potential.reshape(-1), coordinates=some)
    point = s.volume / s.n_points
    right = point * scaling.ldos_scale * np.stack([gradient.constant, gradient.weights])
    if data.reference is not None:
        right = np.pad(right, ((0, 0), (0, 1)))
        right[0, -1] = REFERENCE_SCALE * s.n_electrons / s.n_points
    share = np.array([1.0 if kind == "forces" else 1 / s.volume for kind in kinds])
    return Rows(kinds, moved, share[:, None, None] * right, np.concatenate([*wanted.values()]))


def band_slopes(known: Electrons, ions: Ions) -> Float64:
    """b of the band energy at constant N, and w[f] of the number of electrons, (2, n_energy)."""
    rule = ions.energy_grid.quadrature()
    at = {"fermi_level": known.levels.fermi_level, "temperature": ions.snapshot.temperature}
    count = rule.weights(lambda e: fermi_dirac(e, **at))
    band = rule.weights(lambda e: e * fermi_dirac(e, **at))
    moved = rule.weights(lambda e: fermi_dirac_slope(e, **at)) @ known.dos
    moved_band = rule.weights(lambda e: e * fermi_dirac_slope(e, **at)) @ known.dos
    return np.stack([band - count * (moved_band / moved), count])
