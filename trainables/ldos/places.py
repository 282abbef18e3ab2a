"""Where a function of snapshots is computed: in this process, or on a cluster where their grid points lie."""

import time
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .network import Network
    from .training_data import SnapshotData

T = TypeVar("T")


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
    """One snapshot after the other, in this process."""

    def each(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> list[T]:
        return [function(network, snapshot) for snapshot in snapshots]

    def total(
        self,
        function: Callable[[Any, "SnapshotData"], T],
        network: "Network | None",
        snapshots: Sequence["SnapshotData"],
    ) -> T:
        return reduce(add, (function(network, snapshot) for snapshot in snapshots))
