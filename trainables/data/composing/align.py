"""An LDOS brought from one energy grid and broadening to another.  Energies in eV.

d'(E'_k) = Σ_j C_jk d(E_j) with C from least squares: K'(E'_k - ε) ≈ Σ_j C_jk K(E_j - ε) for states ε wherever the grids
reach, K and K' the kernels.  It works as far as the old kernel is not wider than the new one, and its grid is fine
enough; the largest error over all ε says how far.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError
from ...physics.smearing import broadening
from ..energy_grid import EnergyGrid

RIDGE = 1e-6  # relative to the largest singular value; keeps noise from growing
REACH = 4.0  # widths that a kernel reaches
MOST_ERROR = 0.01  # of a state's peak
FINE = 8  # states are tried at so many places a spacing


@dataclass(frozen=True, eq=False)
class Alignment:
    """How to bring an LDOS to another grid.

    Attributes:
        grid: the new one.
        matrix: C, shape (n_energy of the old grid, n_energy of the new).
        error: largest error of a state's peak, as a share of the peak.
    """

    grid: EnergyGrid
    matrix: NDArray[np.float32]
    error: float

    def __call__(self, ldos: NDArray[np.floating]) -> NDArray[np.float32]:
        """The LDOS of grid points, (n_points, n_energy), on the new grid."""
        return np.asarray(ldos, dtype=np.float32) @ self.matrix


def common_grid(grids: list[EnergyGrid], width: float | None = None) -> EnergyGrid:
    """The grid that all may be brought to: the widest broadening, its spacing, and the energies that all have.

    Args:
        grids: that there are.
        width: of the broadening of the new one, if another is wanted [eV].

    Raises:
        DatasetError: they have no energies in common.
    """
    widest = max(grids, key=lambda grid: (grid.width, grid.spacing))
    low, high = max(g.energy[0] for g in grids), min(g.energy[-1] for g in grids)
    inside = (widest.energy >= low - 1e-9) & (widest.energy <= high + 1e-9)
    if inside.sum() < 2:
        raise DatasetError("the energy grids have no energies in common; import one of them again, on other energies")
    first = float(widest.energy[inside][0])
    return widest.model_copy(update={"minimum": first, "n_energy": int(inside.sum()), "width": width or widest.width})


def align(old: EnergyGrid, new: EnergyGrid) -> Alignment | None:
    """How to bring an LDOS from a grid to another; None: it need not be changed.

    Energies at the ends of the new grid that the old one cannot give are left out by ``reachable``.

    Raises:
        DatasetError: the old kernel or spacing does not allow it; says by how much.
    """
    if new.samples_as(old):
        return None
    matrix, errors = _solve(old, new)
    worst = float(errors.max())
    if worst > MOST_ERROR:
        raise DatasetError(
            f"an LDOS of {old.n_energy} energies {old.spacing:g} eV apart, broadened by a {old.kernel} of "
            f"{old.width:g} eV, cannot be brought to {new.n_energy} energies {new.spacing:g} eV apart and a "
            f"{new.kernel} of {new.width:g} eV: states would be off by {100 * worst:.2g} % of their peak, more than "
            f"{100 * MOST_ERROR:g} %; broaden all of them with --width, or compute the LDOS on one grid"
        )
    return Alignment(new, matrix.astype(np.float32), worst)


def reachable(old: list[EnergyGrid], new: EnergyGrid) -> EnergyGrid:
    """The part of a grid that all old ones can be brought to: without energies at its ends that one of them cannot."""
    good = np.ones(new.n_energy, dtype=bool)
    for grid in old:
        if not new.samples_as(grid):
            good &= _solve(grid, new)[1] <= MOST_ERROR
    if good.sum() < 2:
        return new  # and align says why
    first, last = int(np.argmax(good)), len(good) - 1 - int(np.argmax(good[::-1]))
    return new.model_copy(update={"minimum": float(new.energy[first]), "n_energy": last - first + 1})


def _solve(old: EnergyGrid, new: EnergyGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """C, and the largest error of each new energy, as a share of a peak."""
    reach = REACH * max(old.width, new.width)
    step = min(old.spacing, new.spacing, old.width, new.width) / FINE
    states = np.arange(new.energy[0] - reach, new.energy[-1] + reach + step, step)
    given = broadening(old.energy[None, :] - states[:, None], kernel=old.kernel, width=old.width)
    wanted = broadening(new.energy[None, :] - states[:, None], kernel=new.kernel, width=new.width)
    u, s, vt = np.linalg.svd(given, full_matrices=False)
    matrix = (vt.T * (s / (s**2 + (RIDGE * s[0]) ** 2))) @ (u.T @ wanted)
    # Energies that both grids have are taken as they are.
    if (old.kernel, old.width) == (new.kernel, new.width):
        same = np.abs(old.energy[:, None] - new.energy[None, :]) < 1e-9 * new.spacing
        hit = same.any(axis=0)
        matrix[:, hit] = same[:, hit]
    peak = broadening(np.zeros(1), kernel=new.kernel, width=new.width)[0]
    return matrix, np.abs(given @ matrix - wanted).max(axis=0) / peak
