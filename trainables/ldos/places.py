"""Where a function of snapshots is computed: in this process, or on a cluster where their grid points lie."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .network import Network
    from .training_data import SnapshotData

T = TypeVar("T")
AT_ONCE = 4  # snapshots that are computed at once, as each takes memory: 0.3 GB with a hidden layer that is kept


class Places(Protocol):
    """Computes functions of snapshots.

    A function is called as ``function(network, snapshot)``, with the network on the device of whoever calls it, or
    None; it can be sent to another process, and so can what it returns.
    """

    def each(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> list[T]:
        """What the function gives for each snapshot, in their order; it raises what the function raises."""
        ...

    def total(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> T:
        """The sum over snapshots, one at least, of a function that is itself a sum over their shards."""
        ...


class Timed:
    """Other places, and the seconds that were spent there so far."""

    def __init__(self, places: Places) -> None:
        self.seconds = 0.0
        self._places = places

    def each(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> list[T]:
        started = time.perf_counter()
        found = self._places.each(function, network, snapshots)
        self.seconds += time.perf_counter() - started
        return found

    def total(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> T:
        started = time.perf_counter()
        found = self._places.total(function, network, snapshots)
        self.seconds += time.perf_counter() - started
        return found


class Here:
    """In this process: as many snapshots at once as torch has threads, or one after the other on a GPU.

    Two snapshots on a thread each take half of the time of one after the other; two threads for one of them wait for
    each other at each small step.
    """

    def each(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> list[T]:
        return list(_in_order(function, network, snapshots))

    def total(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> T:
        return reduce(add, _in_order(function, network, snapshots))


def _in_order(
    function: Callable[[Any, "SnapshotData"], T], network: "Network | None", snapshots: Sequence["SnapshotData"]
) -> Iterator[T]:
    """Results in the order of the snapshots; no more than ``AT_ONCE`` and one wait to be taken."""
    import torch

    on_cpu = network is not None and network.weights[0].device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1
    at_once = min(threads, len(snapshots), AT_ONCE)
    if at_once < 2:
        yield from (function(network, snapshot) for snapshot in snapshots)
        return
    waiting, each = deque[Future[T]](), threads // at_once
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            for snapshot in snapshots:
                # what is known in this thread alone, as the folder of ``scratch``, is known there, too
                waiting.append(pool.submit(copy_context().run, function, network, snapshot))
                if len(waiting) > at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # threads of torch that begin later have what was said last
