"""What the shape of a DOS says of the kernel that broadened it, without any other reference.  Energies in eV."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ..physics.smearing import broadening
from .energy_grid import EnergyGrid

# Of right data of Al and Be it is 7e-8, of states far apart 0.002, as states lie between those of the fit; where the
# told width is twice the true one, 0.01 to 0.06.
MOST_UNSMOOTHED = 0.005
AT_ONCE = 250  # energies of one fit: its time grows with their third power
REACH = {"gaussian": 4.0, "fermi-dirac": 12.0}  # widths after which nothing is left of a kernel
# A kernel 1.1 times as wide as the true one leaves 1e-6 to 1e-4 of right data of Al and Be, one 1.4 times as wide 3e-4
# to 8e-3, as long as it is wider than the distance of the energies.  Below the bands a DOS falls off as its kernel, so
# right data allow 1.0 to 1.22 times their width, and 1.29 times where the energies are 1.1 widths apart.
SMOOTH = 3e-5
MOST_WIDER = 1.3
# Right data allow 0.98 times their width or more, whatever their states.  Where the told width is 1.2 times the true
# one, the DOS allows 0.89 to 0.94 times that.
LEAST_WIDER = 0.95
RESOLVED = 1.15  # spacings: on a sparser grid nearly any DOS could be one of this kernel
WIDEST = 100.0
AGAIN = "import it with the kernel and width that it had"
STEP, SMALL_STEP = 1.05, 1.03  # to larger and to smaller widths
MOST_AT_BEGINNING = 1e-3  # of the largest DOS, at the lowest energy, where the bands begin inside the grid


def check_width(dos: NDArray[np.float64], grid: EnergyGrid, *, where: str, fail: Callable[[str], None]) -> float | None:
    """How much wider than its grid says the kernel of a DOS may have been at most, a share of that; negative: narrower.

    Right data have 0 to 0.2.

    Args:
        dos: from the LDOS, (n_energy,) [1/eV].
        grid: energies, kernel and width.
        where: of the LDOS, to name.
        fail: called if the width is more than 10 to 20 % too large, or 10 to 25 % too small.

    Returns:
        None where that cannot be known: the grid does not begin below the bands, or the width is smaller than its
        spacing.
    """
    found = unsmoothed(dos, grid)
    if found > MOST_UNSMOOTHED:
        narrower = (_with_width(grid, grid.width / STEP**n) for n in range(1, 50))
        enough = next((other.width for other in narrower if unsmoothed(dos, other) <= 0.01 * MOST_UNSMOOTHED), None)
        hint = "" if enough is None else f" (widths up to {enough:.2g} eV would do)"
        fail(
            f"{where}: the DOS has structure that a {grid.kernel} kernel of {grid.width:g} eV would have smoothed away "
            f"({100 * found:.2g} % of it), so that it had a smaller width or another kernel{hint}; {AGAIN}"
        )
    if not 0 <= dos[0] <= MOST_AT_BEGINNING * dos.max():
        return None
    widest = _widest(dos, grid, found)
    if widest is None:
        return None
    if widest < LEAST_WIDER and found <= MOST_UNSMOOTHED:
        fail(
            f"{where}: the DOS falls off below its bands as with a {grid.kernel} kernel of "
            f"{grid.width * widest:.2g} eV at most, so that its width was smaller than {grid.width:g} eV, or its "
            f"kernel another; {AGAIN}"
        )
    if widest > MOST_WIDER:
        fail(
            f"{where}: the DOS is as smooth as with a {grid.kernel} kernel of {grid.width * widest:.2g} eV, so that "
            f"its width was larger than {grid.width:g} eV, or its kernel another; {AGAIN}"
        )
    return widest - 1


def _widest(dos: NDArray[np.float64], grid: EnergyGrid, found: float) -> float | None:
    """The largest width that the DOS allows, in widths of its grid; None where its energies are too far apart.

    ``found`` is what the width of its grid leaves unsmoothed.
    """
    least = RESOLVED * grid.spacing / grid.width

    def allows(factor: float) -> bool:
        left = found if factor == 1 else unsmoothed(dos, _with_width(grid, factor * grid.width))
        return left <= SMOOTH

    factor = max(1.0, least)
    if allows(factor):
        while factor < WIDEST * max(1.0, least) and allows(factor * STEP):
            factor *= STEP
        return factor
    while factor > least:
        factor /= SMALL_STEP
        if allows(factor):
            return factor
    return None


def _with_width(grid: EnergyGrid, width: float) -> EnergyGrid:
    return grid.model_copy(update={"width": width})


def unsmoothed(dos: NDArray[np.float64], grid: EnergyGrid) -> float:
    """Share of a DOS that no states broadened by the kernel of its grid can give: min_c |D - K c| / |D|, c >= 0.

    It is 0 for a kernel narrower than the spacing, which allows everything.

    Args:
        dos: D, (n_energy,), of one sign [1/eV].
        grid: energies, kernel and width; the states of c lie an eighth of the width apart, beyond the grid too.

    Source: own derivation; Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23, for c >= 0.
    """
    from scipy.optimize import nnls  # as in ``physics.energies``: a tenth of what every trial imports

    if grid.width < grid.spacing or dos.max() <= 0:
        return 0.0
    beyond, left = REACH[grid.kernel] * grid.width, 0.0
    for start in range(0, grid.n_energy, AT_ONCE):
        energy = grid.energy[start : start + AT_ONCE]
        states = np.arange(energy[0] - beyond, energy[-1] + beyond, grid.width / 8)
        kernel = broadening(energy[:, None] - states, kernel=grid.kernel, width=grid.width)
        with suppress(RuntimeError):  # too many steps: nothing is known of this piece
            left += nnls(kernel, dos[start : start + AT_ONCE])[1] ** 2
    return float(np.sqrt(left) / np.linalg.norm(dos))
