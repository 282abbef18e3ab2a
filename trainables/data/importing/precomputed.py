"""Descriptors that came with the data: which settings they have, and whether they are those of their structure."""

from collections.abc import Iterator
from itertools import islice
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...descriptors.bispectrum import bispectrum
from ...descriptors.settings import BispectrumSettings
from ...errors import DatasetError
from ..snapshot import Snapshot
from .importer import FoundDescriptors, GridValues

# MALA's own are equal to the last bit.  Those of a cutoff 1e-4 Å off differ by 4e-4, those of other atoms by 0.1.
MOST_DIFFERENCE = 1e-5
POINTS, PLACES = 32, 8  # grid points that are compared, at so many places of the grid


def two_j_max_of(n_components: int) -> int | None:
    """2 J_max of a bispectrum of so many components; None: none has so many."""
    settings = (BispectrumSettings(two_j_max=two_j_max) for two_j_max in range(2, 15, 2))
    return next((one.two_j_max for one in settings if one.n_components == n_components), None)


def difference(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """The largest |ours - theirs| of each component, divided by its largest |ours|; the largest of all."""
    scale = np.maximum(np.abs(ours).max(axis=0), 1e-12)
    return float((np.abs(ours - theirs.astype(np.float64)).max(axis=0) / scale).max())


def fits(snapshot: Snapshot, values: GridValues, settings: BispectrumSettings) -> bool:
    """Whether descriptors have these settings, by their first grid points."""
    first = np.concatenate(list(islice(values.blocks(), 1)))[:POINTS]
    return difference(_ours(snapshot, settings, range(len(first))), first) < MOST_DIFFERENCE


class DescriptorCheck:
    """Compares descriptors that come in shards with our own, at some grid points all over the grid.

    Args:
        snapshot: whose they are.
        found: with their settings.
    """

    def __init__(self, snapshot: Snapshot, found: FoundDescriptors) -> None:
        self._snapshot, self._settings, self._where = snapshot, found.settings, found.values.where
        n = prod(snapshot.grid)
        starts = np.linspace(0, max(0, n - POINTS), PLACES).astype(int)
        self._waiting = [range(start, min(start + POINTS, n)) for start in dict.fromkeys(starts.tolist())]
        self._n = 0

    def add(self, shard: NDArray[np.floating]) -> NDArray[np.floating]:
        """Take in the next grid points, and pass them on.  Raises DatasetError: they are of something else."""
        if not np.isfinite(shard).all():
            raise DatasetError(
                f"{self._where}: descriptors are not finite; remove the file to have them computed again"
            )
        for points in self._waiting:
            inside = range(max(points.start, self._n), min(points.stop, self._n + len(shard)))
            if len(inside):
                theirs = shard[inside.start - self._n : inside.stop - self._n]
                off = difference(_ours(self._snapshot, self._settings, inside), theirs)
                if not off < MOST_DIFFERENCE:
                    raise DatasetError(
                        f"{self._where}: at points {inside.start} to {inside.stop - 1} these descriptors differ by "
                        f"{100 * off:.2g} % from those of snapshot '{self._snapshot.id}' with {self._settings}; they "
                        "are of another structure or setting: give its --cutoff, or remove the file to have them "
                        "computed again"
                    )
        self._n += len(shard)
        return shard


def _ours(snapshot: Snapshot, settings: BispectrumSettings, points: range) -> NDArray[np.float64]:
    s = snapshot
    return bispectrum(s.cell, s.positions, s.numbers, s.grid, settings, points=points, dtype=np.float64)


def coordinates(cell: NDArray[np.float64], grid: tuple[int, int, int], points: range) -> NDArray[np.float64]:
    """Places of some grid points, numbered in C order: i/nx a₁ + j/ny a₂ + k/nz a₃, shape (len(points), 3) [Å]."""
    indices = np.unravel_index(np.arange(points.start, points.stop), grid)
    # Summed in this order, as LAMMPS does: to the last bit MALA's.
    x, y, z = (np.outer(index / n, vector) for index, n, vector in zip(indices, grid, cell, strict=True))
    return x + y + z


def without_coordinates(snapshot: Snapshot, values: GridValues) -> GridValues:
    """Descriptors that begin with the coordinates of their points [Å], without these.

    Reading them raises DatasetError if the coordinates are not those of the snapshot's grid.
    """

    def blocks() -> Iterator[NDArray[np.floating]]:
        n = 0
        for block in values.blocks():
            off = np.abs(block[:, :3] - coordinates(snapshot.cell, snapshot.grid, range(n, n + len(block)))).max()
            if not off < 1e-4:
                how = f"up to {off:.3g} Å off the grid {snapshot.grid} of the cell" if off < np.inf else "not finite"
                raise DatasetError(f"{values.where}: its coordinates are {how}; it is of another snapshot, or damaged")
            n += len(block)
            yield block[:, 3:]

    return GridValues(values.where, blocks)
