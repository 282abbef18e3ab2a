"""How the descriptors of a snapshot move with atoms and strain, ∂B(r)/∂R, in slabs; those of small cells are kept.  Å.

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
# Of a symmetric tensor the components that count, as ASE has them (Voigt): xx, yy, zz, yz, xz, xy.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
KEPT = 2**30  # bytes that a process keeps; one snapshot may take a quarter of it
STORED = 2**32  # bytes in the folder of a run


@dataclass(frozen=True, eq=False)
class Motion:
    """Derivatives by one atom, or by the strain of the cell, at some points of a slab.

    atom: its number; the strain comes after the last one.  point: numbers of the points within the slab, (n,).
    values: ∂B/∂R, (3, n, n_components) [1/Å]; of the strain ∂B/∂ε, (6, n, n_components), as ``VOIGT``.  In float32.
    """

    atom: int
    point: Int64
    values: NDArray[np.floating]

    @property
    def coordinates(self) -> slice:
        """Of all coordinates of a snapshot: three of each atom, then six of the strain."""
        return slice(3 * self.atom, 3 * self.atom + len(self.values))


@dataclass(frozen=True, eq=False)
class Slab:
    """Some grid points, numbered in C order, and what moves their descriptors, each once.

    These are atoms and, of a snapshot whose stress is known, the strain.
    """

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


def n_coordinates(snapshot: Snapshot) -> int:
    """Three of each atom and, where the stress is known, six of the strain."""
    return 3 * snapshot.n_atoms + len(VOIGT) * (snapshot.stress is not None)


def is_small(snapshot: Snapshot, settings: BispectrumSettings) -> bool:
    """Whether the derivatives of a snapshot are kept."""
    near = 4 / 3 * pi * settings.cutoff**3 * snapshot.n_atoms / snapshot.volume
    movers = min(snapshot.n_atoms, near) + 2 * (snapshot.stress is not None)  # a strain has the axes of two atoms
    return 12 * settings.n_components * snapshot.n_points * movers <= KEPT // 4


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
    cell = (s.cell.tobytes(), s.positions.tobytes(), s.numbers.tobytes(), s.grid, s.stress is not None)
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
        point = np.searchsorted(some, pairs.point[i:j])
        motions = merged(point, pairs.atom[i:j], pairs.values[i:j])
        if s.stress is not None:
            motions.append(_strain(s.n_atoms, point, pairs.displacement[i:j], pairs.values[i:j], len(some)))
        found.append(Slab(some, motions))
    return found


def _strain(
    after: int, point: Int64, displacement: NDArray[np.float64], values: NDArray[np.floating], n_points: int
) -> Motion:
    """∂B/∂ε of all points of a slab, from its pairs in the order of the points, as ``PairDerivatives`` has it."""
    first = np.searchsorted(point, np.arange(n_points + 1))
    found = np.empty((len(VOIGT), n_points, values.shape[-1]), values.dtype)
    for k, (a, b) in enumerate(VOIGT):  # symmetric, as B does not change when all is turned about the point
        times = displacement[:, b].astype(values.dtype), np.arange(len(point)), first
        found[k] = csr_array(times, shape=(n_points, len(point))) @ values[:, a]
    return Motion(after, np.arange(n_points), found)


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
