"""Grid-point data as Arrow IPC files: record batches (shards) of fixed-size lists, mapped or read row by row.

Axes: (grid point in C order of [nx, ny, nz], energy or component).  A batch holds at most 65,536 grid points, so
batch k of two files of one snapshot is the same grid points.
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DatasetError
from ..files import HashedFile, atomic, is_known, remember
from ..files import sha256 as file_sha256

POINTS_A_SHARD = 65_536
AT_ONCE = 2**21  # bytes of rows that are written at once; some of them are what a processor's cache holds
AHEAD = 8  # of these that may wait for their checksum
BRING_BACK = "bring the file back"
CHECKSUM = "sha256"  # of the values of a shard, in the metadata of its batch


def to_batches(values: NDArray[np.floating], column: str, metadata: Mapping[str, str]) -> list[pa.RecordBatch]:
    """Cut an array into shards without copying it.

    Args:
        values: shape (n_points, n) or (n_points,), C-contiguous, float16, float32 or float64.
        column: name of the one column.
        metadata: what the values are: unit, snapshot, shape of the grid.
    """
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    array = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    schema = pa.schema([pa.field(column, array.type, nullable=False)], metadata=dict(metadata))
    batch = pa.RecordBatch.from_arrays([array], schema=schema)
    return [batch.slice(start, POINTS_A_SHARD) for start in range(0, len(values), POINTS_A_SHARD)]


def to_numpy(batch: pa.RecordBatch) -> NDArray[np.floating]:
    """The values of one shard, shape (n_points, n) or (n_points,), without a copy and read-only."""
    column = batch.column(0)
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy(zero_copy_only=True)
    return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)


def in_shards(arrays: Iterable[NDArray[np.floating]]) -> Iterator[NDArray[np.floating]]:
    """The rows of arrays of any lengths as arrays of POINTS_A_SHARD.

    A thread fills the next one meanwhile.  There are three in memory: the file that has the one before may still
    compute its checksum.
    """
    filled = _filled(arrays, POINTS_A_SHARD, held=3)
    with ThreadPoolExecutor(1) as aside:
        following = aside.submit(next, filled, None)
        while (shard := following.result()) is not None:
            following = aside.submit(next, filled, None)
            yield shard


def _filled(arrays: Iterable[NDArray[np.floating]], rows: int, held: int) -> Iterator[NDArray[np.floating]]:
    """The rows of arrays of any lengths as arrays of so many.  The last ``held`` of them are in memory."""
    pieces, filled = deque[NDArray[np.floating]](), 0
    for array in arrays:
        if not pieces:
            shape = (rows, *array.shape[1:])
            pieces.extend(np.empty(shape, dtype=array.dtype) for _ in range(held))
        while len(array):
            taken = min(len(array), rows - filled)
            pieces[0][filled : filled + taken] = array[:taken]
            array, filled = array[taken:], filled + taken
            if filled == rows:
                yield pieces[0]
                pieces.rotate(-1)
                filled = 0
    if filled:
        yield pieces[0][:filled]


def write(path: Path, batches: Iterable[pa.RecordBatch]) -> str:
    """Write shards, one at least, to an Arrow IPC file as they come, whole or not at all.

    Args:
        path: the file.
        batches: as ``to_batches`` makes them.

    Returns:
        SHA-256 of the file.
    """
    with atomic(path) as temporary, HashedFile(temporary) as file:
        _write(file, batches, checksums=False)
        return file.hexdigest()


def write_rows(
    path: Path, arrays: Iterable[NDArray[np.floating]], n_points: int, column: str, metadata: Mapping[str, str]
) -> str:
    """``write`` of rows that come in arrays of any lengths.  No shard is held: rows go on while they are in the cache.

    Args:
        path: the file.
        arrays: (n, n_numbers) or (n,), of one type, with ``n_points`` rows in all; each may overwrite the one before.
        n_points: more than none.
        column, metadata: as for ``to_batches``.

    Returns:
        SHA-256 of the file.
    """
    arrays = iter(arrays)
    first = next(arrays)
    a_row = first.dtype.itemsize * math.prod(first.shape[1:])
    rows = min(POINTS_A_SHARD, 2 ** max(0, (AT_ONCE // a_row).bit_length() - 1))  # a shard is a whole number of these
    pieces = _filled(chain([first], arrays), rows, held=AHEAD + 1)
    # Memory that is never looked at takes no room.
    nothing = np.empty((min(n_points, POINTS_A_SHARD), *first.shape[1:]), first.dtype)
    lengths = [min(POINTS_A_SHARD, n_points - start) for start in range(0, n_points, POINTS_A_SHARD)]
    with atomic(path) as temporary, HashedFile(temporary, ahead=AHEAD) as file:
        batches = (to_batches(nothing[:length], column, metadata)[0] for length in lengths)
        _write(_Instead(file, nothing, pieces), batches, checksums=False)
        assert next(pieces, None) is None, "more rows than were said"
        return file.hexdigest()


class _Instead:
    """A file for Arrow, to which its writer gives arrays of nothing; rows are written instead as they come.

    The form of a shard does not depend on its numbers, and Arrow hands over each array in one piece.
    """

    def __init__(self, file: HashedFile, nothing: NDArray[np.floating], pieces: Iterator[NDArray[np.floating]]) -> None:
        self._file, self._place, self._pieces = file, nothing.ctypes.data, pieces
        self.tell, self.flush = file.tell, file.flush

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes | memoryview) -> int:
        if len(data) == 0 or np.frombuffer(data, np.uint8).ctypes.data != self._place:
            return self._file.write(data)
        left = len(data)
        while left > 0:
            left -= self._file.write(next(self._pieces).reshape(-1).view(np.uint8).data)
        return len(data)


def write_with_checksums(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """``write`` for a file that no table has the checksum of: a SHA-256 stands beside each of its shards."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        _write(file, batches, checksums=True)


def _write(file: HashedFile | _Instead | BinaryIO, batches: Iterable[pa.RecordBatch], *, checksums: bool) -> None:
    batches = iter(batches)
    first = next(batches)
    with pa.ipc.new_file(file, first.schema) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch, custom_metadata={CHECKSUM: _digest(batch)} if checksums else None)


def _digest(batch: pa.RecordBatch) -> str:
    return hashlib.sha256(np.ascontiguousarray(to_numpy(batch)).data).hexdigest()


@dataclass(frozen=True)
class StoredShard:
    """A shard that stays in its file; the rows asked for are read into memory of their own.

    The file is read and not mapped, for two reasons.  A batch system counts every page of a mapped file that was looked
    at as memory of the process.  A disk that fails kills a process that has mapped it.  The object is small to send.

    offset: of the first value in the file [bytes].
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.floating]:
        """Consecutive rows, or those of some numbers.

        Raises:
            DatasetError: the file is gone, or shorter than it was.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self._read(start, max(start, stop))[::step]
        if len(rows) == 0:
            return self._read(0, 0)
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        with self._reading(), self.path.open("rb", buffering=0) as file:
            for row, place in zip(rows.tolist(), values.reshape(len(rows), -1).view(np.uint8), strict=True):
                file.seek(self.offset + row * len(place))
                if file.readinto(place.data) < len(place):
                    raise ValueError(f"it ends before row {row}")
        return values

    def _read(self, start: int, stop: int) -> NDArray[np.floating]:
        n = math.prod(self.shape[1:])
        offset = self.offset + start * n * np.dtype(self.dtype).itemsize
        with self._reading():
            values = np.fromfile(self.path, self.dtype, count=(stop - start) * n, offset=offset)
            return values.reshape(stop - start, *self.shape[1:])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.path}: cannot be read any more ({error}); {BRING_BACK}") from error


@dataclass(frozen=True, eq=False)
class CombinedShard:
    """Another shard times a matrix, (n, n_columns), made of the rows that are asked for; float32."""

    shard: "NDArray[np.floating] | StoredShard | CombinedShard"
    matrix: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        return self.shard[rows].astype(np.float32) @ self.matrix


Shard = NDArray[np.floating] | StoredShard | CombinedShard


def pieces_of(shard: Shard, rows: int) -> Iterator[NDArray[np.floating]]:
    """All rows of a shard, so many at once; each piece may overwrite the one before it.

    A file is read into the same memory again: new memory costs four times as much as the reading.

    Raises:
        DatasetError: as ``StoredShard``.
    """
    if not isinstance(shard, StoredShard):
        yield from (shard[start : start + rows] for start in range(0, len(shard), rows))
        return
    memory = np.empty((min(rows, len(shard)), *shard.shape[1:]), shard.dtype)
    try:
        with shard.path.open("rb", buffering=0) as stream:
            stream.seek(shard.offset)
            for start in range(0, len(shard), rows):
                piece = memory[: min(rows, len(shard) - start)]
                if stream.readinto(piece.reshape(-1).view(np.uint8).data) != piece.nbytes:
                    raise DatasetError(f"{shard.path}: cannot be read any more (it ends too early); {BRING_BACK}")
                yield piece
    except OSError as error:
        raise DatasetError(f"{shard.path}: cannot be read any more ({error}); {BRING_BACK}") from error


class ShardFile:
    """A memory-mapped Arrow file of one column of grid-point values.

    Args:
        path: the file.
        column: the name its one column must have.
        n_points, n: the shape it must have; ``n = 0`` for one number a grid point.
        remedy: what to do when it is damaged.
        sha256: checksum of the file, compared when this process first reads it, as are those beside its shards.

    Raises:
        DatasetError: missing, truncated, changed, or of another column, type or shape.
    """

    def __init__(
        self, path: Path, column: str, *, n_points: int, n: int, remedy: str, sha256: str | None = None
    ) -> None:
        self.path = path
        try:
            self._map = pa.memory_map(str(path))
            self._reader = pa.ipc.open_file(self._map)
            read = [self._reader.get_batch_with_custom_metadata(i) for i in range(self._reader.num_record_batches)]
            batches = [one.batch for one in read]
            for batch in batches:
                batch.validate()  # lengths and buffers: a flipped bit in them aborts the process further on
            schema = self._reader.schema
            names = schema.names
            self.metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
        except FileNotFoundError as error:
            raise DatasetError(f"{path}: missing; {remedy}") from error
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise DatasetError(f"{path}: not a whole Arrow file (truncated or damaged); {remedy}") from error
        if names != [column]:
            raise DatasetError(f"{path}: has columns {names} where ['{column}'] is expected; {remedy}")
        kind = schema.field(0).type
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else 0
        rows = sum(len(batch) for batch in batches)
        value_type = kind.value_type if width else kind
        if (rows, width) != (n_points, n) or not pa.types.is_floating(value_type):
            raise DatasetError(
                f"{path}: holds {rows} grid points of {kind}, "
                f"expected {n_points} grid points of {n or 1} numbers; {remedy}"
            )
        self.batches: list[pa.RecordBatch] = batches
        if not is_known(path):
            expected = [(one.custom_metadata or {}).get(CHECKSUM.encode()) for one in read]
            given = zip(batches, expected, strict=True)
            if any(digest is not None and _digest(batch).encode() != digest for batch, digest in given):
                raise DatasetError(f"{path}: has changed since it was written (another SHA-256); {remedy}")
            if sha256 is not None and file_sha256(path) != sha256:
                raise DatasetError(f"{path}: its SHA-256 differs from the table's; {remedy}")
            remember(path)

    def arrays(self) -> Iterator[NDArray[np.floating]]:
        """The shards in grid order, each (n_points_in_shard, n), read-only views of the mapped file."""
        return map(to_numpy, self.batches)

    def stored(self) -> list[StoredShard]:
        """The shards in grid order, to be read from the file whenever rows are asked for.

        Raises:
            DatasetError: they do not lie in the file as they are, because it is compressed.
        """
        self._map.seek(0)
        whole, found = self._map.read_buffer(), []
        for array in self.arrays():
            offset = array.ctypes.data - whole.address
            if not 0 <= offset <= whole.size - array.nbytes:
                raise DatasetError(f"{self.path}: is compressed, and cannot be read in parts; write it uncompressed")
            found.append(StoredShard(self.path, offset, array.shape, array.dtype.str))
        return found

    def read(self) -> Iterator[NDArray[np.floating]]:
        """The shards in grid order, each read into memory of its own, so that no more than one of them is held.

        Raises:
            DatasetError: as ``stored``.
        """
        return (shard[:] for shard in self.stored())

    def array(self) -> NDArray[np.floating]:
        """All grid points, (n_points, n); a view when the file is a single shard."""
        parts = list(self.arrays())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
