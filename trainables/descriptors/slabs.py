"""Parts of a real-space grid, computed one after another or as tasks of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

LARGEST_PLANE = 65_536  # grid points of one piece; 91 doubles and LAMMPS' own 6 each are 51 MB
SLAB = 16_384  # grid points whose descriptors are held at once; 91 float32 each are 6 MB
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Slab:
    """Every p-th point of a grid along each cell vector: a coarser grid of the same cell, with another origin.

    Attributes:
        index: where its points lie in an array (nx, ny, nz).
        grid: its own numbers of points.
        origin: in fractions of the cell vectors.
    """

    index: tuple[slice, slice, slice]
    grid: tuple[int, int, int]
    origin: tuple[float, float, float]

    def shifted(self, cell: Float64, positions: Float64) -> Float64:
        """Positions as seen from the slab's origin, (n_atoms, 3) [Å]."""
        return positions - np.array(self.origin) @ cell


def slabs(grid: tuple[int, int, int], largest: int = SLAB) -> Iterator[Slab]:
    """Cut a grid into slabs of at most ``largest`` points (more where the numbers of points are primes)."""
    strides = [1, 1, 1]
    for axis in range(3):
        n = grid[axis]
        needed = np.prod(grid) / np.prod(strides) / largest
        strides[axis] = next((p for p in range(1, n + 1) if n % p == 0 and p >= needed), n)
    for offset in product(*(range(p) for p in strides)):
        yield Slab(
            index=tuple(slice(o, None, p) for o, p in zip(offset, strides, strict=True)),  # type: ignore[arg-type]
            grid=tuple(n // p for n, p in zip(grid, strides, strict=True)),  # type: ignore[arg-type]
            origin=tuple(o / n for o, n in zip(offset, grid, strict=True)),  # type: ignore[arg-type]
        )


def pieces(grid: tuple[int, int, int]) -> list[range]:
    """Cut a grid into runs of consecutive points, in C order, each a task of its own: ``points`` of ``bispectrum``.

    A piece of about SLAB points is the whole of a small grid, or planes of the first axis (at least one), or rows of a
    plane that is larger than LARGEST_PLANE.  No piece is larger than LARGEST_PLANE or a row.
    """
    nx, ny, nz = grid
    if nx * ny * nz <= SLAB:
        return [range(nx * ny * nz)]
    unit, whole = (ny * nz, nx * ny * nz) if ny * nz <= LARGEST_PLANE else (nz, ny * nz)
    step = unit * max(1, SLAB // unit)
    return [
        range(start, min(start + step, block + whole))
        for block in range(0, nx * ny * nz, whole)
        for start in range(block, block + whole, step)
    ]
