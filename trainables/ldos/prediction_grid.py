"""The grid that a structure is predicted on.  Å, eV."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..physics.reciprocal import smallest_grid

Grid = tuple[int, int, int]


def grid_of(cell: NDArray[np.float64], *, spacing: float, density_cutoff: float | None) -> Grid:
    """No coarser than in training, and fine enough for the plane waves of the density.

    Numbers of points are products of 2, 3 and 5.

    Args:
        cell: lattice vectors as rows, (3, 3) [Å].
        spacing: largest distance of grid points in training [Å].
        density_cutoff: of the plane waves [eV], or None without any.
    """
    least = np.ceil(np.linalg.norm(cell, axis=1) / spacing - 1e-6).astype(int)
    if density_cutoff is not None:
        least = np.maximum(least, smallest_grid(cell, density_cutoff))
    nx, ny, nz = (_fft_friendly(int(n)) for n in least)
    return nx, ny, nz


def grid_points(grid: Any) -> Grid:
    """A grid that is asked for.  Raises ModelError: it is not three numbers of points."""
    try:
        nx, ny, nz = (operator.index(n) for n in grid)
    except (TypeError, ValueError):
        nx = ny = nz = 0
    if min(nx, ny, nz) < 1:
        raise ModelError(f"a grid is three numbers of points, not {grid!r}")
    return nx, ny, nz


def check_grid(grid: Grid, cell: NDArray[np.float64], *, density_cutoff: float | None) -> None:
    """Refuse a grid that a cell cannot be predicted on; arguments as in ``grid_of``.

    Raises:
        ModelError: it cannot hold the plane waves of the density.
    """
    least = grid if density_cutoff is None else smallest_grid(cell, density_cutoff)
    if any(n < m for n, m in zip(grid, least, strict=True)):
        raise ModelError(
            f"a grid of {_text(grid)} points cannot hold the plane waves of the density in this cell; "
            f"it takes {_text(least)} or more"
        )


def spacing_of(grid: Grid, cell: NDArray[np.float64]) -> float:
    """The largest distance of neighbouring grid points along a cell vector [Å]."""
    return float((np.linalg.norm(cell, axis=1) / grid).max())


def _text(grid: Grid) -> str:
    return " x ".join(map(str, grid))


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
