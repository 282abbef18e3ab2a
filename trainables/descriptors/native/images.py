"""Periodic images of the atoms around a cell, sorted into boxes: a grid point looks at its neighbourhood only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

MOST_IMAGES = 20_000_000  # 32 bytes each
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """All atoms that may be within the cutoff of a point of the cell.

    positions: (n_images, 3) [Å], box after box.
    owner: the atom that each is an image of, (n_images,).
    first: of each box its first image, and the end of the last box, (n_boxes + 1,); z runs fastest.
    n_boxes: along x, y, z, (3,).
    origin: corner of the first box, (3,) [Å].
    width: of a box, the same along x, y and z [Å].
    """

    positions: Float64
    owner: Int64
    first: Int64
    n_boxes: Int64
    origin: Float64
    width: float


def images_of(cell: Float64, positions: Float64, cutoff: float) -> Images:
    """The images around a periodic cell.

    Args:
        cell: lattice vectors as rows, (3, 3) [Å]; triclinic, left-handed or thinner than the cutoff as well.
        positions: (n_atoms, 3) [Å]; outside of the cell as well.
        cutoff: [Å].

    Raises:
        InputError: there would be more than MOST_IMAGES.
    """
    inverse = np.linalg.inv(cell)
    reach = cutoff * np.linalg.norm(inverse, axis=0)  # the cutoff in fractions of the heights of the cell
    expected = len(positions) * float(np.prod(1 + 2 * reach))
    if expected > MOST_IMAGES:
        raise InputError(
            f"{expected:,.0f} periodic images lie within the cutoff of {cutoff:g} Å around this cell, more than "
            f"{MOST_IMAGES:,}; give the cell more volume or lower the cutoff"
        )
    fractions = positions @ inverse % 1.0 % 1.0
    found, owner = fractions, np.arange(len(positions))
    for axis in range(3):
        n = int(np.ceil(reach[axis]))
        shifts = np.arange(-n, n + 1)
        along = (found[:, axis, None] + shifts).ravel()
        found, owner = np.repeat(found, len(shifts), axis=0), np.repeat(owner, len(shifts))
        found[:, axis] = along
        near = (along > -reach[axis]) & (along < 1 + reach[axis])
        found, owner = found[near], owner[near]
    return _boxed(found @ cell, owner, cutoff / 2)


def _boxed(positions: Float64, owner: Int64, width: float) -> Images:
    origin = positions.min(axis=0)
    # Thin cells in a wide vacuum would have more boxes than atoms.
    extent = positions.max(axis=0) - origin
    width = max(width, float(np.cbrt(np.prod(extent + width) / (8 * len(positions) + 64))))
    n_boxes = (extent / width).astype(np.int64) + 1
    x, y, z = ((positions - origin) / width).astype(np.int64).T
    box = (x * n_boxes[1] + y) * n_boxes[2] + z
    order = np.argsort(box, kind="stable")
    first = np.zeros(int(np.prod(n_boxes)) + 1, dtype=np.int64)
    np.cumsum(np.bincount(box, minlength=len(first) - 1), out=first[1:])
    return Images(np.ascontiguousarray(positions[order]), owner[order].astype(np.int64), first, n_boxes, origin, width)
