"""The grid that a structure is predicted on.  Å, eV."""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, TooLarge
from ..physics.reciprocal import smallest_grid

LARGEST = 2_000_000  # grid points of one structure; 91 descriptors of them are 0.7 GB
Grid = tuple[int, int, int]


def grid_of(cell: NDArray[np.float64], *, spacing: float, density_cutoff: float | None) -> Grid:
    """No coarser than in training, and fine enough for the plane waves of the density.

    Numbers of points are products of 2, 3 and 5.

    Args:
        cell: lattice vectors as rows, (3, 3) [Å].
        spacing: largest distance of grid points in training [Å].
        density_cutoff: of the plane waves [eV], or None without any.

    Raises:
        TooLarge: the grid would be.
    """
    least = np.ceil(np.linalg.norm(cell, axis=1) / spacing - 1e-6).astype(int)
    if density_cutoff is not None:
        least = np.maximum(least, smallest_grid(cell, density_cutoff))
    nx, ny, nz = (_fft_friendly(int(n)) for n in least)
    return checked_grid((nx, ny, nz), cell)


def checked_grid(grid: Grid, cell: NDArray[np.float64]) -> Grid:
    """The grid of a cell.  Raises ModelError: it is none, or too large."""
    if len(grid) != 3 or min(grid) < 1:
        raise ModelError(f"a grid is three numbers of points, not {grid}")
    if math.prod(grid) > LARGEST:
        cell_text = " x ".join(f"{x:.1f}" for x in np.linalg.norm(cell, axis=1))
        raise TooLarge(
            f"a cell of {cell_text} Å needs a grid of {' x '.join(map(str, grid))} points, "
            f"more than {LARGEST:,}; use a smaller cell"
        )
    return grid


def _fft_friendly(n: int) -> int:
    """The smallest product of 2, 3 and 5 not below n."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
