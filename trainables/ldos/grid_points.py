"""Scaled grid points as tensors on a device: all of them where they fit, else streamed from their shards.

Axes: descriptors (point, component) without unit, LDOS (point, energy) in its scale; float32.  Points are counted in
the order of snapshots, shards and grid.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .training_data import Scaling, SnapshotData, TrainingData

Batch = tuple[Tensor, Tensor]  # descriptors and LDOS of the same points
Piece = tuple[int, int]  # the points from one number to before another
SEED = 0x5F5  # of the order of the points, which is a function of the epoch alone
PLACES = 64  # a buffer has grid points from so many places or more ...
BLOCK = 4096  # ... and no more than so many from one: 1.5 MB of 91 descriptors, which a disk reads at its full speed


class Resident:
    """Grid points that are all on the device.

    Args:
        snapshots: their points, one after the other.
        scaling: of descriptors and LDOS.
        device: as torch names it.
    """

    def __init__(self, snapshots: Sequence[SnapshotData], scaling: Scaling, device: str) -> None:
        source = _Source(snapshots, scaling)
        self._all = _room(len(source), scaling, device)
        source.read([(0, len(source))], self._all)
        self._shuffled: Batch | None = None

    def __len__(self) -> int:
        return len(self._all[0])

    @property
    def share(self) -> float:
        """How much of them is shuffled at once."""
        return 1.0

    def chunks(self, size: int) -> Iterator[Batch]:
        """All points in their order, ``size`` at once."""
        x, y = self._all
        return zip(x.split(size), y.split(size), strict=True)

    def shuffled(self, epoch: int, size: int) -> Iterator[Batch]:
        """Each point once, in mini-batches of ``size``, in the random order of this epoch."""
        if self._shuffled is None:
            self._shuffled = torch.empty_like(self._all[0]), torch.empty_like(self._all[1])
        device = self._all[0].device
        order = _at_hand(torch.randperm(len(self), generator=_generator(epoch)), device).to(device, non_blocking=True)
        for values, out in zip(self._all, self._shuffled, strict=True):
            torch.index_select(values, 0, order, out=out)
        x, y = self._shuffled
        return zip(x.split(size), y.split(size), strict=True)


class Streamed:
    """Grid points that are read from their shards whenever they are needed, by way of two buffers on the device.

    The points of a buffer come in blocks from random places of all snapshots and are shuffled in it, so that a
    mini-batch is as mixed as the buffer.  One buffer is filled in a thread while the other is used.

    Args:
        snapshots, scaling: as ``Resident``.
        buffers: two of one size, which other ``Streamed`` may use at other times.
    """

    def __init__(self, snapshots: Sequence[SnapshotData], scaling: Scaling, buffers: tuple[Batch, Batch]) -> None:
        self._source, self._buffers = _Source(snapshots, scaling), buffers

    def __len__(self) -> int:
        return len(self._source)

    @property
    def share(self) -> float:
        """How much of them is shuffled at once."""
        return min(1.0, self._room / len(self))

    @property
    def _room(self) -> int:
        return len(self._buffers[0][0])

    def chunks(self, size: int) -> Iterator[Batch]:
        """All points in their order, ``size`` at once, or as many as a buffer holds."""
        size, n = min(size, self._room), len(self)
        return self._filled([(start, min(start + size, n))] for start in range(0, n, size))

    def shuffled(self, epoch: int, size: int) -> Iterator[Batch]:
        """Each point once, in mini-batches of ``size``, in the random order of this epoch.

        With buffers for all points it is the order of ``Resident``.
        """
        generator, rng = _generator(epoch), np.random.default_rng([SEED, epoch])
        room = len(self) if self._room >= len(self) else self._room // size * size  # of whole mini-batches
        for x, y in self._filled(pieces(len(self), room, rng)):
            order = _at_hand(torch.randperm(len(x), generator=generator), x.device).to(x.device, non_blocking=True)
            for rows in order.split(size):
                yield x.index_select(0, rows), y.index_select(0, rows)

    def _filled(self, parts: Iterable[Sequence[Piece]]) -> Iterator[Batch]:
        """Buffers with the points of each part; the next is being filled while one is used."""
        with ThreadPoolExecutor(max_workers=1) as thread:
            under_way: deque[Future[Batch]] = deque()
            for part, buffer in zip(parts, cycle(self._buffers)):
                under_way.append(thread.submit(self._source.read, part, buffer))
                if len(under_way) == 2:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()


Points = Resident | Streamed


def place(data: TrainingData, batch_size: int, device: str, memory: float) -> tuple[Points, list[Points]]:
    """The training points, and those of each validation snapshot: all on the device, or all streamed.

    Args:
        data: with its scaling.
        batch_size: points in a mini-batch.
        device: as torch names it.
        memory: that the points may take there [bytes].

    Raises:
        InputError: it holds less than two mini-batches.
    """
    scaling = data.scaling
    n_train, n_validation = (sum(len(t) for d in part for t in d.ldos) for part in (data.train, data.validation))
    row = 4 * (len(scaling.descriptor_mean) + len(scaling.ldos_mean))
    if (2 * n_train + n_validation) * row <= memory:
        resident = [Resident(part, scaling, device) for part in (data.train, *([d] for d in data.validation))]
        return resident[0], list(resident[1:])
    room = int(memory // (2 * row))
    if room < batch_size:
        raise InputError(
            f"{memory / 1e9:.3g} GB hold {2 * room} grid points of {row} bytes, less than two mini-batches of "
            f"{batch_size}; raise memory in [resources] or lower batch_size"
        )
    buffers = _room(room, scaling, device), _room(room, scaling, device)
    streamed = [Streamed(part, scaling, buffers) for part in (data.train, *([d] for d in data.validation))]
    return streamed[0], list(streamed[1:])


def pieces(n: int, room: int, rng: np.random.Generator) -> Iterator[list[Piece]]:
    """Cut the points 0 to n into parts of ``room``, the last of the rest, each of blocks from random places, sorted."""
    block = min(BLOCK, max(1, room // PLACES))
    part, free = list[Piece](), room
    for start in rng.permutation(np.arange(0, n, block)).tolist():
        stop = min(start + block, n)
        while start < stop:  # a second time where a block does not fit into what is left of a part
            end = min(stop, start + free)
            part.append((start, end))
            start, free = end, free - (end - start)
            if free == 0:
                yield sorted(part)
                part, free = [], room
    if part:
        yield sorted(part)


class _Source:
    """The shards of some snapshots one after the other."""

    def __init__(self, snapshots: Sequence[SnapshotData], scaling: Scaling) -> None:
        self._shards = [pair for s in snapshots for pair in zip(s.descriptors, s.learnt, strict=True)]
        self._starts = np.cumsum([0, *(len(ldos) for _, ldos in self._shards)])
        self._scaling = scaling

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, part: Sequence[Piece], room: Batch) -> Batch:
        """Scale the points of a part into ``room``, block by block, and return what they fill of it."""
        (x, y), done = room, 0
        for start, stop in part:
            while start < stop:
                k = int(np.searchsorted(self._starts, start, side="right")) - 1
                first, end = (int(i) for i in self._starts[k : k + 2])
                rows = slice(start - first, min(stop, end, start + BLOCK) - first)
                n = rows.stop - rows.start
                descriptors, ldos = self._shards[k]
                scaled = self._scaling.descriptors(descriptors[rows]), self._scaling.ldos(ldos[rows])
                for out, values in zip(room, scaled, strict=True):
                    out[done : done + n].copy_(_at_hand(torch.from_numpy(values), out.device), non_blocking=True)
                start, done = start + n, done + n
        return x[:done], y[:done]


def _at_hand(values: Tensor, device: torch.device) -> Tensor:
    """The values where a device takes them by itself: a GPU from pinned memory, which torch keeps until it has.

    Neither side then waits for the other, and whatever the GPU is told to do next finds them there.
    """
    return values.pin_memory() if device.type == "cuda" else values


def _room(n: int, scaling: Scaling, device: str) -> Batch:
    x, y = (torch.empty(n, len(mean), device=device) for mean in (scaling.descriptor_mean, scaling.ldos_mean))
    return x, y


def _generator(epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(SEED + epoch)
