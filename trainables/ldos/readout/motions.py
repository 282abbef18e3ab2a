"""How the descriptors of a snapshot move with its atoms, ∂B(r)/∂R, in slabs; those of small cells are kept.  Å.

They depend on no network.  So all networks of a process, and all passes over their training data, share them, and the
processes of a study by way of its ``scratch`` folder.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import pi, prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from ...data.snapshot import Snapshot
from ...descriptors.native.forward import pair_derivatives
from ...descriptors.settings import BispectrumSettings
from ...errors import InputError
from ...files import atomic
from ...scratch import scratch
from ..training_data import SnapshotData

Int64 = NDArray[np.int64]
DERIVED = 2048  # grid points whose derivatives are made at once: 15 MB for 7 neighbours and 55 components
POINTS = 256  # of them in a slab: 512 features of them and one atom, along three axes, are 1.5 MB
KEPT = 2**30  # bytes that a process keeps; one snapshot may take a quarter of it
STORED = 2**32  # bytes in the folder of a run


@dataclass(frozen=True, eq=False)
class Motion:
    """Derivatives by one atom at some points of a slab.

    point: numbers of the points within the slab, (n,).  values: ∂B/∂R, (3, n, n_components), float32 [1/Å].
    """

    atom: int
    point: Int64
    values: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Slab:
    """Some grid points, numbered in C order, and the atoms that move their descriptors, each once."""

    points: Int64
    motions: list[Motion]

    @property
    def size(self) -> int:
        """Bytes of the derivatives."""
        return sum(motion.values.nbytes for motion in self.motions)


_kept: OrderedDict[object, Sequence[Slab]] = OrderedDict()
_keeping = Lock()  # snapshots may be computed at once, each of them by one thread


def thinned(grid: tuple[int, int, int]) -> Int64:
    """Every second grid point in the way of a chessboard, in C order.

    The LDOS is smooth between grid points, so that forces are the same to 5e-4 eV/Å in aluminium: the sum over such
    points misses waves beyond 0.87 of the grid's own limit.  An axis with an odd number of points does not count; with
    two of them all points are taken.
    """
    even = [n % 2 == 0 for n in grid]
    if sum(even) < 2:
        return np.arange(prod(grid))
    odd = sum(axis for axis, counts in zip(np.ogrid[tuple(slice(n) for n in grid)], even, strict=True) if counts)
    return np.flatnonzero(np.broadcast_to(np.asarray(odd) % 2 == 0, grid))


def is_small(snapshot: Snapshot, settings: BispectrumSettings) -> bool:
    """Whether the derivatives of a snapshot are kept."""
    near = 4 / 3 * pi * settings.cutoff**3 * snapshot.n_atoms / snapshot.volume
    return 12 * settings.n_components * snapshot.n_points * min(snapshot.n_atoms, near) <= KEPT // 4


def slabs(
    data: SnapshotData, settings: BispectrumSettings, points: Int64, *, keep: bool = True
) -> Iterator[tuple[Slab, NDArray[np.floating]]]:
    """Slabs of a snapshot, and the descriptors of their points (n, n_components), in the order of the grid.

    Args:
        data: the snapshot.
        settings: of the descriptors.
        points: grid points, numbered in C order and increasing.
        keep: the derivatives of a small cell for the next time.

    Raises:
        InputError: as ``pair_derivatives``.
    """
    first = 0
    for shard in data.descriptors:
        here = points[slice(*np.searchsorted(points, (first, first + len(shard))))]
        for start in range(0, len(here), DERIVED):
            some, done = here[start : start + DERIVED], 0
            values = shard[some[0] - first : some[-1] + 1 - first][some - some[0]]
            for slab in (_slabs if keep else _made)(data.snapshot, settings, some):
                yield slab, values[done : done + len(slab.points)]
                done += len(slab.points)
        first += len(shard)


def _slabs(s: Snapshot, settings: BispectrumSettings, points: Int64) -> Sequence[Slab]:
    """Those of some points, kept where the cell is small."""
    if not is_small(s, settings):
        return _made(s, settings, points)
    cell = (s.cell.tobytes(), s.positions.tobytes(), s.numbers.tobytes(), s.grid)
    key = (*cell, settings.model_dump_json(), points.tobytes())
    with _keeping:
        if key in _kept:
            _kept.move_to_end(key)  # the last one goes last
            return _kept[key]
    found = _stored(key, lambda: _made(s, settings, points))
    with _keeping:
        _kept[key] = found
        while sum(slab.size for some in _kept.values() for slab in some) > KEPT:
            _kept.popitem(last=False)
    return found


def _stored(key: object, make: Callable[[], list[Slab]]) -> list[Slab]:
    """What a process before has made and written, else made and, where there is room, written."""
    folder = scratch()
    if folder is None:
        return make()
    path = folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.safetensors"
    if path.exists():
        return _slabs_of(load_file(path))
    found = make()
    if _size(folder) + sum(slab.size for slab in found) <= STORED:
        with suppress(InputError, SafetensorError), atomic(path) as part:  # a full disk costs time only
            save_file(_arrays_of(found), part)
    return found


def _size(folder: Path) -> int:
    """Of all its files [bytes]; others may be writing there, and what they write takes another name in the end."""
    size = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def _arrays_of(found: Sequence[Slab]) -> dict[str, NDArray[Any]]:
    """All of some slabs by name, for a file."""
    arrays: dict[str, NDArray[Any]] = {}
    for k, slab in enumerate(found):
        arrays[f"{k}.points"] = np.ascontiguousarray(slab.points)
        for motion in slab.motions:
            arrays |= {f"{k}.{motion.atom}.point": motion.point, f"{k}.{motion.atom}.values": motion.values}
    return arrays


def _slabs_of(arrays: Mapping[str, NDArray[Any]]) -> list[Slab]:
    """The slabs that ``_arrays_of`` gave."""
    motions: dict[int, list[Motion]] = {int(name.split(".")[0]): [] for name in arrays}
    for name in (name for name in arrays if name.endswith(".values")):
        k, atom, _ = name.split(".")
        motions[int(k)].append(Motion(int(atom), arrays[f"{k}.{atom}.point"], arrays[name]))
    return [Slab(arrays[f"{k}.points"], sorted(motions[k], key=lambda m: m.atom)) for k in sorted(motions)]


def _made(s: Snapshot, settings: BispectrumSettings, points: Int64) -> list[Slab]:
    threads = torch.get_num_threads()
    pairs = pair_derivatives(s.cell, s.positions, s.numbers, s.grid, settings, points=points, threads=threads)
    starts = range(0, len(points), POINTS)
    ends = [*np.searchsorted(pairs.point, points[starts]), len(pairs.point)]
    found = []
    for start, (i, j) in zip(starts, pairwise(ends), strict=True):
        some = points[start : start + POINTS]
        found.append(Slab(some, merged(np.searchsorted(some, pairs.point[i:j]), pairs.atom[i:j], pairs.values[i:j])))
    return found


def merged(point: NDArray[np.integer], atom: NDArray[np.integer], values: NDArray[np.floating]) -> list[Motion]:
    """Motions from pairs; several images of an atom may be near a point, and their sum is one pair.

    Args:
        point, atom: of each pair, (n,).
        values: ∂B/∂R of it, (n, 3, n_components).
    """
    order = np.lexsort((point, atom))
    point, atom = point[order], atom[order]
    first = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(atom, prepend=-1) != 0))
    images = csr_array(
        (np.ones(len(order), values.dtype), order, np.append(first, len(order))), shape=(len(first), len(order))
    )
    point, atom = point[first], atom[first]
    summed = (images @ values.reshape(len(order), -1)).reshape(len(first), *values.shape[1:])
    edges = np.flatnonzero(np.diff(atom, prepend=-1, append=-1))
    return [
        Motion(int(atom[i]), point[i:j].astype(np.int64), np.ascontiguousarray(summed[i:j].swapaxes(0, 1)))
        for i, j in pairwise(edges)
    ]
