"""How the descriptors of a snapshot move with its atoms, ∂B(r)/∂R, in batches; those of small cells are kept.  Å.

They depend on no network.  So all networks of a process, and all passes over their training data, share them.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...data.snapshot import Snapshot
from ...descriptors.native.forward import pair_derivatives
from ...descriptors.settings import BispectrumSettings

DERIVED = 1024  # grid points whose derivatives are made at once: 5 MB of 7 neighbours, 3 axes and 55 components
POINTS = 64  # of them in a batch: 1,024 features of them are 5 MB
KEPT = 2**30  # bytes that a process keeps; one snapshot may take a quarter of it


@dataclass(frozen=True, eq=False)
class Motion:
    """Derivatives at some grid points, ordered by atoms; a point and an atom stand together once.

    point: number of the grid point; atom: that moves; (n,).  values: ∂B/∂R, (n, 3, n_components), float32 [1/Å].
    """

    point: NDArray[np.integer]
    atom: NDArray[np.integer]
    values: NDArray[np.floating]

    @property
    def of_atoms(self) -> list[tuple[int, slice]]:
        """Each atom that moves a point here, and where it stands."""
        edges = np.flatnonzero(np.diff(self.atom, prepend=-1, append=-1))
        return [(int(self.atom[i]), slice(i, j)) for i, j in pairwise(edges)]


_kept: OrderedDict[object, Sequence[Motion]] = OrderedDict()


def is_small(snapshot: Snapshot, settings: BispectrumSettings) -> bool:
    """Whether the derivatives of a snapshot are kept: at most all of its atoms are near each point."""
    return 12 * settings.n_components * snapshot.n_points * snapshot.n_atoms <= KEPT // 4


def motions(snapshot: Snapshot, settings: BispectrumSettings, start: int, stop: int) -> Sequence[Motion]:
    """The derivatives at some grid points of a snapshot, in batches in the order of the grid.

    Args:
        snapshot: cell, atoms and grid.
        settings: of the descriptors.
        start, stop: grid points, numbered in C order.

    Raises:
        InputError: as ``pair_derivatives``.
    """
    s = snapshot
    if not is_small(s, settings):
        return _made(s, settings, start, stop)
    cell = (s.cell.tobytes(), s.positions.tobytes(), s.numbers.tobytes(), s.grid)
    key = (*cell, settings.model_dump_json(), start, stop)
    found = _kept.pop(key, None) or _made(s, settings, start, stop)
    _kept[key] = found  # as the last one, which goes last
    while sum(motion.values.nbytes for batches in _kept.values() for motion in batches) > KEPT:
        _kept.popitem(last=False)
    return found


def _made(s: Snapshot, settings: BispectrumSettings, start: int, stop: int) -> list[Motion]:
    pairs = pair_derivatives(s.cell, s.positions, s.numbers, s.grid, settings, start=start, stop=stop)
    ends = np.searchsorted(pairs.point, np.arange(start, stop + POINTS, POINTS))
    return [merged(pairs.point[i:j], pairs.atom[i:j], pairs.values[i:j]) for i, j in pairwise(ends) if j > i]


def merged(point: NDArray[np.integer], atom: NDArray[np.integer], values: NDArray[np.floating]) -> Motion:
    """Pairs of one point and one atom as their sum, ordered by atoms; several images of an atom may be near a point."""
    order = np.lexsort((point, atom))
    point, atom, values = point[order], atom[order], values[order]
    new = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(atom, prepend=-1) != 0))
    if len(new) < len(point):
        point, atom, values = point[new], atom[new], np.add.reduceat(values, new, axis=0)
    return Motion(point, atom, values)
