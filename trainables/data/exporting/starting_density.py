"""A density that pw.x starts from (startingpot = 'file').  Å; 1/bohr³ in the file.

pw.x reads charge-density.dat in its own order of the plane waves, so the file of a run in the same cell, with the same
cutoff of the density, is the pattern: one step of an SCF will do, or a run with the atoms elsewhere.

Source: read_rhog of Quantum ESPRESSO 6.7 (Modules/io_base.f90).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ...errors import DatasetError
from ...physics.units import BOHR
from ..importing.quantum_espresso.wavefunctions import DensityWaves, is_of_cell


class StartingDensity:
    """The charge-density.dat of a run, in which a density can be put.

    Args:
        folder: outdir/prefix.save of a run in the same cell.
        cell: of the structure, rows [Å].

    Raises:
        DatasetError: the file is missing, damaged, of two spins, or of another cell.
    """

    def __init__(self, folder: Path, cell: NDArray[np.float64]) -> None:
        self.path, self._volume = folder / "charge-density.dat", abs(float(np.linalg.det(cell)))
        if not self.path.exists() and self.path.with_suffix(".hdf5").exists():
            raise DatasetError(
                f"{self.path.with_suffix('.hdf5')}: a density in HDF5 is not written; use a pw.x without HDF5, as that "
                "of Debian"
            )
        self._pattern = DensityWaves.read(self.path)
        if not is_of_cell(self._pattern.axes, cell):
            raise DatasetError(
                f"{self.path}: of another cell than the structure; give the folder of a run in its cell, of one step "
                "for instance (electron_maxstep = 1)"
            )

    def put(self, density: NDArray[np.float64]) -> None:
        """Replace the density of the file.

        Args:
            density: n on any grid of the cell, (nx, ny, nz) [1/Å³]; waves that the grid cannot hold become 0.

        Raises:
            DatasetError: the run has other numbers of electrons.
            InputError: the file cannot be written.
        """
        shape = np.array(density.shape)
        orders = self._pattern.orders
        found = fft.fftn(density * BOHR**3, norm="forward")[tuple((orders % shape).T)]
        found[(2 * np.abs(orders) >= shape).any(axis=1)] = 0
        (origin,) = np.flatnonzero(~orders.any(axis=1))
        ours, theirs = (float(c[origin].real) * self._volume / BOHR**3 for c in (found, self._pattern.coefficients))
        if not abs(ours - theirs) <= 0.01 * theirs:
            raise DatasetError(
                f"{self.path}: of {theirs:.2f} electrons, and the density has {ours:.2f}; give a run with the same "
                "atoms and pseudopotentials as the model's"
            )
        replace(self._pattern, coefficients=found).write(self.path)
