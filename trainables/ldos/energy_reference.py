"""LDOS on energies relative to the Fermi level of each snapshot, instead of absolute ones.  eV.

The zero of absolute DFT energies is the mean Coulomb potential of the cell.  It moves with the volume, by 0.3 eV for
1 % of strain in aluminium, and no environment of a grid point tells it.  On energies x = ε - ε_F the LDOS is what is
near; what is left is one number a structure, which a linear readout gives as a mean over the grid (docs/physics.md,
section 19).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..data.energy_grid import EnergyGrid
from ..data.shards import CombinedShard, Shard
from ..data.snapshot import Snapshot
from ..errors import DatasetError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EnergyReference:
    """What the energies of a snapshot are relative to.

    level: absolute energy of their zero [eV].
    matrix: (n_stored, n_energy), takes an LDOS from the stored energies to those relative to ``level``.
    """

    level: float
    matrix: Float32

    def moved(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        """The LDOS of shards on relative energies; each is moved when its rows are asked for."""
        return _Moved(shards, self.matrix)


def relative_grid(stored: EnergyGrid, train: Sequence[Snapshot]) -> EnergyGrid:
    """The stored energies relative to the highest Fermi level of the training.

    At lower Fermi levels they begin below the stored ones, where there are no states, and end within them.

    Raises:
        DatasetError: a snapshot has no Fermi level, or the grid is too coarse to interpolate on.
    """
    levels = [_level(s) for s in train]
    if stored.width < stored.spacing:
        raise DatasetError(
            f"energies relative to the Fermi level need an LDOS that is known between its energies: it is broadened by "
            f"{stored.width:g} eV, less than their distance of {stored.spacing:g} eV; use energies = 'absolute'"
        )
    return stored.model_copy(update={"minimum": stored.minimum - max(levels)})


def references(stored: EnergyGrid, relative: EnergyGrid, snapshots: Sequence[Snapshot]) -> list[EnergyReference]:
    """The Fermi level of each snapshot by its DFT, and the way to energies relative to it.

    Raises:
        DatasetError: a snapshot has none.
    """
    return [
        EnergyReference(_level(s), interpolation(stored, relative.energy + _level(s)).astype(np.float32))
        for s in snapshots
    ]


def interpolation(grid: EnergyGrid, energy: Float64) -> Float64:
    """Weights of a cubic spline, which take an LDOS on a grid to other energies.

    An LDOS broadened over w is smooth: on aluminium (Gaussian, w = 0.5 eV) the spline is off by 1 - R² = 0.0013 halfway
    between energies 0.5 eV apart, and by less for 0.25 eV.

    Args:
        grid: of the LDOS.
        energy: (n,) [eV].  Below the grid there are no states; above it the last energy is taken.

    Returns:
        (n_energy, n).
    """
    from scipy.interpolate import CubicSpline

    stored = grid.energy
    found = CubicSpline(stored, np.eye(grid.n_energy))(np.clip(energy, stored[0], stored[-1])).T
    found[:, energy < stored[0]] = 0
    return np.asarray(found)


def _level(snapshot: Snapshot) -> float:
    if snapshot.fermi_level is None:
        raise DatasetError(
            f"snapshot {snapshot.id}: has no Fermi level, which energies relative to it take; import it with one, or "
            "use energies = 'absolute'"
        )
    return snapshot.fermi_level


@dataclass(frozen=True, eq=False)
class _Moved(Sequence[Shard]):
    shards: Sequence[Shard]
    matrix: Float32

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, k: int) -> Shard: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[Shard]: ...
    def __getitem__(self, k: int | slice) -> Shard | Sequence[Shard]:
        if isinstance(k, slice):
            return replace(self, shards=self.shards[k])
        return CombinedShard(self.shards[k], self.matrix)
