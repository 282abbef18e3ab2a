"""What an LDOS must agree with: the electrons and the band energy of its DFT calculation.  Energies in eV."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..physics.energies import energies
from ..physics.energies import n_electrons as count_electrons
from ..physics.local import dos
from .energy_grid import EnergyGrid
from .snapshot import Snapshot

# A right LDOS is within 1.2 meV/atom at 900 to 3200 K; one cut at the bottom of the band, or unfolded by another width
# than it was broadened with, is off by tens.
MOST_BAND_ENERGY_ERROR = 10.0  # [meV/atom]


@dataclass(frozen=True)
class SnapshotReport:
    """How the stored LDOS of one snapshot compares with its DFT reference."""

    id: str
    electrons_error: float  # electrons counted from the LDOS at the DFT's Fermi level, minus the DFT's
    band_energy_error: float | None  # least-squares quadrature minus DFT [meV/atom]


def check_ldos(ldos: NDArray[np.floating], snapshot: Snapshot, grid: EnergyGrid, *, where: str) -> SnapshotReport:
    """Check an LDOS against what the DFT said of the same snapshot.

    Args:
        ldos: shape (n_points, n_energy) [1/(eV Å³)].
        snapshot: the reference.
        grid: energies of ``ldos``.
        where: file or snapshot to name in an error.

    Raises:
        DatasetError: values not finite or of the wrong sign or unit, an electron count more than 1 % off, too few
            states in the energy grid, or a band energy more than 10 meV/atom off.
    """
    bad = np.flatnonzero(~np.isfinite(ldos).all(axis=1))
    if len(bad):
        point = tuple(int(i) for i in np.unravel_index(bad[0], snapshot.grid))
        raise DatasetError(
            f"{where}: the LDOS is not finite (NaN or infinite) at {len(bad)} grid points, first at {point}; "
            "run the DFT post-processing of this snapshot again"
        )
    total = dos(ldos, volume=snapshot.volume)
    if total.min() < -0.01 * total.max():
        raise DatasetError(f"{where}: the DOS is negative ({total.min():.3g} 1/eV); check the sign of the LDOS")
    quadrature = grid.quadrature()
    try:
        level = snapshot.fermi_level
        if level is None:
            level = energies(
                total, quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature
            ).fermi_level
        counted = count_electrons(total, quadrature, fermi_level=level, temperature=snapshot.temperature)
        if abs(counted - snapshot.n_electrons) > 0.01 * snapshot.n_electrons:
            raise DatasetError(
                f"{where}: the LDOS holds {counted:.3f} electrons below the Fermi level of {level:.3f} eV, "
                f"the DFT has {snapshot.n_electrons:g}; the energy grid is too short or the unit is not 1/(eV Å³)"
            )
        found = energies(total, quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature)
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    difference = None if snapshot.band_energy is None else 1e3 * (found.band - snapshot.band_energy) / snapshot.n_atoms
    if difference is not None and abs(difference) > MOST_BAND_ENERGY_ERROR:
        raise DatasetError(
            f"{where}: the LDOS gives a band energy {difference:+.0f} meV/atom off the DFT's; the energy grid cuts off "
            f"states at the bottom of the band, or the kernel ({grid.kernel}, {grid.width:g} eV) is not the one it had"
        )
    return SnapshotReport(where, counted - snapshot.n_electrons, difference)
