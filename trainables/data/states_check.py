"""Check that an LDOS is that of the DFT's own eigenvalues, and how they were broadened.  Energies in eV."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..physics.smearing import Kernel, broadening
from .check import Fail
from .energy_grid import EnergyGrid

# Right data, with cubes of five digits: 1e-5.  Another kernel, or a width that is off by 10 %: 0.05 to 0.5.
MOST_DOS_DIFFERENCE = 0.01
STATES_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class States:
    """Eigenvalues of the calculation that an LDOS is of.

    Attributes:
        where: file to name in an error.
        energy: of all bands and k-points, (n,) [eV].
        weight: electrons that each can hold, (n,).
    """

    where: Path
    energy: NDArray[np.float64]
    weight: NDArray[np.float64]

    def dos(self, grid: EnergyGrid, kernel: Kernel) -> NDArray[np.float64]:
        """D(E) = Σ_i w_i K(E - ε_i) on an energy grid, with its width, (n_energy,) [1/eV]."""
        found = np.zeros(grid.n_energy)
        for start in range(0, len(self.energy), STATES_AT_ONCE):
            part = slice(start, start + STATES_AT_ONCE)
            for j, energy in enumerate(grid.energy):
                found[j] += broadening(energy - self.energy[part], kernel=kernel, width=grid.width) @ self.weight[part]
        return found


def check_states(dos: NDArray[np.float64], states: States, grid: EnergyGrid, *, where: str, fail: Fail) -> float:
    """Largest difference of a DOS from the broadened eigenvalues, a share of its largest value.

    It needs no reference but the eigenvalues, so it tells kernels and widths apart on any energy grid.

    Args:
        dos: from the LDOS, (n_energy,) [1/eV].
        states: eigenvalues.
        grid: energies, kernel and width.
        where: of the LDOS, to name.
        fail: called if they differ by more than 1 %.
    """
    off = {kernel: float(np.abs(states.dos(grid, kernel) - dos).max() / dos.max()) for kernel in get_args(Kernel)}
    found = off[grid.kernel]
    if found > MOST_DOS_DIFFERENCE:
        better = [f"; a {name} kernel fits to {x:.2g} (--kernel {name})" for name, x in off.items() if x < 0.1 * found]
        fail(
            f"{where}: the DOS of the LDOS is up to {100 * found:.2g} % off the eigenvalues in {states.where}, "
            f"broadened by a {grid.kernel} kernel of {grid.width:g} eV; they are of another calculation, or were "
            f"broadened otherwise{better[0] if better else ''}"
        )
    return found
