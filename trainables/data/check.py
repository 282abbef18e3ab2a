"""Check that an LDOS agrees with its DFT calculation: number of electrons, band energy.  Energies in eV."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..physics.energies import Energies, energies
from ..physics.energies import n_electrons as count_electrons
from ..physics.smearing import Kernel
from .energy_grid import EnergyGrid
from .snapshot import Snapshot
from .width_check import check_width

# A correct LDOS is within 1.2 meV/atom at 900 to 3200 K.  One that is cut off at the bottom of the band, or that is
# unfolded with another width than it was broadened with, is off by tens.
MOST_BAND_ENERGY_ERROR = 10.0  # [meV/atom]
MOST_ELECTRONS_ERROR = 0.003  # of all electrons, 0.02 eV of the Fermi level of Al; a correct LDOS is within 2e-5
# A coarse energy grid says less: a difference counts from so many times the error of the rule on model metals, and at
# the latest from 30 % of the electrons and 0.3 eV an electron on.
SURE = 3.0
ENTROPY_RATIO = 3.5

Fail = Callable[[str], None]  # called with what does not agree


def refuse(problem: str) -> None:
    """Raise DatasetError: what does not agree is not imported."""
    raise DatasetError(problem)


@dataclass(frozen=True)
class SnapshotReport:
    """How one snapshot compares with its DFT; None where something could not be compared."""

    id: str
    electrons_error: float | None  # electrons counted from the LDOS at the DFT's Fermi level, minus the DFT's
    band_energy_error: float | None  # by the dataset's rule of integration, minus the DFT's [meV/atom]
    zero_error: float | None = None  # how far the energies lie from the DFT's, by its Fermi level or band energy [eV]
    entropy_error: float | None = None  # entropy term -τS by that rule, minus the DFT's [meV/atom]
    width_error: float | None = None  # as in ``check_width``, a share of the width
    dos_error: float | None = None  # of the DOS from the broadened eigenvalues, a share of its largest value
    density_correlation: float | None = None  # this and the next three as in ``geometry_check.Geometry``
    density_difference: float | None = None
    unexplained_by_atoms: float | None = None
    ewald_error: float | None = None  # [meV/atom]
    hartree_error: float | None = None  # this and the next two as in ``energy_check.EnergyErrors`` [meV/atom]
    xc_error: float | None = None
    total_error: float | None = None
    forces_error: float | None = None  # as in ``forces_check``, a share of the work of the forces
    terms_error: float | None = None  # sum of the DFT's terms minus its total energy, known to an import [meV/atom]


class LdosCheck:
    """Check of an LDOS against what the DFT said of the same snapshot, in shards that come one after another.

    Args:
        snapshot: the reference.
        grid: energies of the LDOS.
        where: file or snapshot to name in an error.
        fail: called with what does not agree with the DFT; by default that is refused.
    """

    def __init__(self, snapshot: Snapshot, grid: EnergyGrid, *, where: str, fail: Fail = refuse) -> None:
        self._snapshot, self._grid, self._where, self._fail = snapshot, grid, where, fail
        self._sum = np.zeros(grid.n_energy)
        self._n_points = self._n_bad = 0
        self._first_bad: int | None = None

    def add(self, ldos: NDArray[np.floating]) -> NDArray[np.floating]:
        """Take in the next grid points, and pass them on.

        Args:
            ldos: shape (n_points_in_shard, n_energy), in C order of the grid [1/(eV Å³)].
        """
        part = _sum(ldos)
        if not np.isfinite(part).all():  # the search costs as much as the sum
            bad = np.flatnonzero(~np.isfinite(ldos).all(axis=1))
            if len(bad) and self._first_bad is None:
                self._first_bad = self._n_points + int(bad[0])
            self._n_bad += len(bad)
            part = ldos.sum(axis=0, dtype=np.float64)  # of float32 it can be infinite where all numbers are finite
        self._n_points += len(ldos)
        self._sum += part
        return ldos

    def report(self) -> SnapshotReport:
        """What all shards together say.

        Raises:
            DatasetError: values that are not finite, or too few states in the energy grid.  And as ``fail`` does: a
                wrong sign, an electron count more than 0.3 % off, a band energy more than 10 meV/atom off.
        """
        if self._first_bad is not None:
            point = tuple(int(i) for i in np.unravel_index(self._first_bad, self._snapshot.grid))
            raise DatasetError(
                f"{self._where}: the LDOS is not finite (NaN or infinite) at {self._n_bad} grid points, first at "
                f"{point}; run the DFT post-processing of this snapshot again"
            )
        return _check_dos(self.dos, self._snapshot, self._grid, where=self._where, fail=self._fail)

    @property
    def dos(self) -> NDArray[np.float64]:
        """DOS of all shards, (n_energy,) [1/eV]."""
        return self._snapshot.volume * (self._sum / self._n_points)


def _sum(ldos: NDArray[np.floating]) -> NDArray[np.float64]:
    """Over the points.  Sixteen numbers each are summed in float32, and their sums in float64: in half the time."""
    whole = len(ldos) // 16 * 16
    with np.errstate(over="ignore"):
        sums = ldos[:whole].reshape(16, -1, ldos.shape[1]).sum(axis=0, dtype=np.float32)
    return sums.sum(axis=0, dtype=np.float64) + ldos[whole:].sum(axis=0, dtype=np.float64)


def _check_dos(
    total: NDArray[np.float64], snapshot: Snapshot, grid: EnergyGrid, *, where: str, fail: Fail
) -> SnapshotReport:
    """Judge by the better rule on the grid, as far as that can tell; report the band energy by the grid's own."""
    if total.min() < -0.01 * total.max():
        fail(f"{where}: the DOS is negative ({total.min():.3g} 1/eV); check the sign of the LDOS")
    if snapshot.fermi_level is not None and not grid.energy[0] < snapshot.fermi_level < grid.energy[-1]:
        raise DatasetError(
            f"{where}: the energies from {grid.energy[0]:g} to {grid.energy[-1]:g} eV do not hold the Fermi level of "
            f"{snapshot.fermi_level:.3f} eV; compute the LDOS from below the bands to some k_B τ above it"
        )
    s, rule = snapshot, grid.better_rule
    known, quadrature = grid.rule_error(rule), grid.quadrature(rule)
    try:
        counted = None
        if s.fermi_level is not None:
            counted = count_electrons(total, quadrature, fermi_level=s.fermi_level, temperature=s.temperature)
            _check_electrons(total, counted, s, grid, min(max(0.01, SURE * known.electrons), 0.3), where, fail)
        found = energies(total, quadrature, electrons=s.n_electrons, temperature=s.temperature)
        ours = energies(total, grid.quadrature(), electrons=s.n_electrons, temperature=s.temperature)
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    if s.fermi_level is None and s.band_energy is None:
        _check_bottom(total, s, grid, where, fail)
    if s.entropy_term is not None:
        _check_temperature(1e3 * found.entropy / s.n_atoms, 1e3 * s.entropy_term / s.n_atoms, s, where, fail)
    if s.band_energy is not None:
        difference, unsure = 1e3 * (found.band - s.band_energy) / s.n_atoms, min(SURE * known.band_energy, 0.3)
        if abs(difference) > max(MOST_BAND_ENERGY_ERROR, 1e3 * unsure * s.n_electrons / s.n_atoms):
            fail(
                f"{where}: the LDOS gives a band energy {difference:+.0f} meV/atom off the DFT's; it is of another "
                "snapshot, the energy grid cuts off states at the bottom of the band, files of its lowest or highest "
                f"energies are missing (it has {grid.n_energy}, from {grid.energy[0]:g} to {grid.energy[-1]:g} eV), or "
                f"the kernel ({grid.kernel}, {grid.width:g} eV) is not the one it had{_other_kernel(total, s, grid)}"
            )
    if counted is not None:  # last, as what else is wrong has better words
        _check_level(counted, found, s, max(MOST_ELECTRONS_ERROR, SURE * known.electrons), where, fail)
    width_error = check_width(total, grid, where=where, fail=fail)
    return SnapshotReport(
        where,
        None if counted is None else counted - s.n_electrons,
        None if s.band_energy is None else 1e3 * (ours.band - s.band_energy) / s.n_atoms,
        _moved(found, s),
        None if s.entropy_term is None else 1e3 * (ours.entropy - s.entropy_term) / s.n_atoms,
        width_error,
    )


def _moved(found: Energies, s: Snapshot) -> float | None:
    """How far an LDOS lies from the DFT's energies [eV]; nothing else notices where all energies are moved."""
    if s.band_energy is not None:
        return (found.band - s.band_energy) / s.n_electrons
    return None if s.fermi_level is None else found.fermi_level - s.fermi_level


def _check_level(counted: float, found: Energies, s: Snapshot, most: float, where: str, fail: Fail) -> None:
    """Fail if the Fermi level is off by what a share ``most`` of the electrons tells."""
    if s.fermi_level is not None and most * s.n_electrons < abs(counted - s.n_electrons) <= 0.01 * s.n_electrons:
        fail(
            f"{where}: the Fermi level of the LDOS is {found.fermi_level:.3f} eV, the DFT's is {s.fermi_level:.3f}; "
            "the Fermi level is of another calculation, or the energies of the LDOS are moved"
        )


def _check_bottom(total: NDArray[np.float64], s: Snapshot, grid: EnergyGrid, where: str, fail: Fail) -> None:
    """Fail if states are cut off below the lowest energy; without the DFT's energies nothing counts them."""
    if total[0] * grid.width > MOST_ELECTRONS_ERROR * s.n_electrons:
        fail(
            f"{where}: the DOS is {total[0]:.3g} 1/eV at the lowest energy, {grid.energy[0]:g} eV, so that states "
            "below it are missing; compute the LDOS from below the bands"
        )


def _check_temperature(found: float, known: float, s: Snapshot, where: str, fail: Fail) -> None:
    """Fail if the entropy term [meV/atom] is that of another temperature: it goes with its square.

    Right data are 0.5 to 5 % off.  Where the DOS has a gap or a peak narrower than the broadening it is more.
    """
    if known > 1.0:
        return fail(
            f"{where}: the DFT's entropy term is {known:+.3g} meV/atom; it is -TS, which is never positive: give it "
            "with its sign"
        )
    low, high = sorted((abs(found), abs(known)))
    if high > ENTROPY_RATIO * low + (MOST_BAND_ENERGY_ERROR if high == abs(found) else 0.05):
        fail(
            f"{where}: at {s.temperature:.1f} K the LDOS has an entropy term of {found:.3g} meV/atom, the DFT has "
            f"{known:.3g}; the temperature is not that of the DFT, or not in the unit that the importer takes"
        )


def _check_electrons(
    total: NDArray[np.float64], counted: float, s: Snapshot, grid: EnergyGrid, most: float, where: str, fail: Fail
) -> None:
    """Fail if more than a share ``most`` of the electrons is missing or too much."""
    if abs(counted - s.n_electrons) > most * s.n_electrons:
        fail(
            f"{where}: the LDOS holds {counted:.3f} electrons below the Fermi level of {s.fermi_level:.3f} eV, "
            f"the DFT has {s.n_electrons:g}; the energy grid is too short or the unit is not 1/(eV Å³)"
            f"{_other_kernel(total, s, grid)}"
        )


def _other_kernel(total: NDArray[np.float64], s: Snapshot, grid: EnergyGrid) -> str:
    """The remedy, where the band energy would be right with the other kernel."""
    if s.band_energy is None:
        return ""
    for kernel in get_args(Kernel):
        other = grid.model_copy(update={"kernel": kernel, "rule": "least-squares"})
        try:
            found = energies(total, other.quadrature(), electrons=s.n_electrons, temperature=s.temperature)
        except ValueError:
            continue
        if kernel != grid.kernel and 1e3 * abs(found.band - s.band_energy) / s.n_atoms < MOST_BAND_ENERGY_ERROR:
            return f"; with a {kernel} kernel the band energy would be right (--kernel {kernel})"
    return ""
