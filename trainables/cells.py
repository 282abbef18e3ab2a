"""What a periodic cell with atoms in it must be, wherever it comes from.  Lengths in Å."""

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

LONGEST_CELL = 1000.0  # [Å]
FLATTEST_CELL = 0.1  # [Å] between the planes of a cell; the search for near atoms would see too many images
LEAST_VOLUME = 1e-3  # [Å³]
FARTHEST_ATOM = 1e6  # [Å] from the origin; a double holds such a position to 1e-10 Å


class StructureError(InputError):
    """A file holds no structure that can be read, or a structure is not one that can be predicted."""


def check_cell(cell: NDArray[np.float64], positions: NDArray[np.float64]) -> None:
    """Refuse a cell that is none, and atoms that nothing can be computed of.

    Args:
        cell: lattice vectors as rows, (3, 3) [Å].
        positions: of the atoms, (n_atoms, 3) [Å].

    Raises:
        StructureError: no atoms, not finite, too far away, or a cell too long, too flat or without a volume.
    """
    if len(positions) == 0:
        raise StructureError("the structure has no atoms")
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise StructureError("positions or cell are not finite")
    largest = np.abs(cell).max()
    if largest > LONGEST_CELL:
        raise StructureError(f"the cell is {largest:.3g} Å long, more than {LONGEST_CELL:g} Å; check its unit")
    farthest = np.abs(positions).max()
    if farthest > FARTHEST_ATOM:
        raise StructureError(f"an atom is at {farthest:.3g} Å, farther than {FARTHEST_ATOM:g} Å; check the positions")
    volume = abs(np.linalg.det(cell))
    if volume < LEAST_VOLUME:
        if not cell.any(axis=1).all():
            raise StructureError("the structure is not periodic in three dimensions; give it a cell")
        raise StructureError(f"the cell has a volume of {volume:.2g} Å³, which is none; check its vectors and unit")
    flattest = volume / np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1).max()
    if flattest < FLATTEST_CELL:
        raise StructureError(f"the cell is only {flattest:.2g} Å thick; check its vectors")
