"""Functions of snapshots computed on the nodes whose object stores hold the shards, and sums of them in a tree.

A node computes on its own shards with one process for each of its CPUs, or for each of its GPUs, at most; the node that
asks does its own share in the process that asks.  What comes back is what the function returns: a Gram matrix of 1,024
features is 8 MB, whatever the number of grid points.  Where all shards lie on the node that asks, this is a plain loop.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayTaskError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ...trainables.errors import DftuneError
from ...trainables.ldos.places import Here
from ...trainables.ldos.training_data import SnapshotData
from ..resources import device_of_worker, use_cpus
from ..store import SharedShards, locations, nodes_that_compute

if TYPE_CHECKING:
    from ...trainables.ldos.network import Network

# Of a task whose node is lost.  It is not begun elsewhere: who asks may hold the last CPUs, and it would wait for ever.
LOST = (NodeDiedError, ObjectLostError, TaskUnschedulableError)

T = TypeVar("T")
Function = Callable[[Any, SnapshotData], T]


class WhereTheyLie:
    """A ``trainables.ldos.places.Places`` over the nodes of the cluster.

    The process that asks computes what a node was to do that is lost.
    """

    def each(self, function: Function[T], network: "Network | None", snapshots: Sequence[SnapshotData]) -> list[T]:
        groups, own = _grouped(snapshots)
        found: list[Any] = [None] * len(snapshots)
        with _Tasks(function, network, groups, snapshots, summed=False) as tasks:
            for k, result in zip(own, Here().each(function, network, [snapshots[k] for k in own]), strict=True):
                found[k] = result
            for (_, group), ref in zip(groups, tasks.refs, strict=True):
                try:
                    results = tasks.get(ref)
                except LOST:
                    results = Here().each(function, network, [snapshots[k] for k in group])
                for k, result in zip(group, results, strict=True):
                    found[k] = result
        return found

    def total(self, function: Function[T], network: "Network | None", snapshots: Sequence[SnapshotData]) -> T:
        parts = [part for snapshot in snapshots for part in _shards(snapshot)]
        groups, own = _grouped(parts)
        with _Tasks(function, network, groups, parts, summed=True) as tasks:
            found = [Here().total(function, network, [parts[k] for k in own])] if own else []
            if groups:
                try:
                    found.append(tasks.get(_sum(tasks.refs)))
                except LOST:  # no sum says whose part it lacks
                    found.append(Here().total(function, network, [parts[k] for _, group in groups for k in group]))
        return reduce(add, found)


class _Tasks:
    """Tasks of the groups, one each; what is left of them is cancelled at the end of the block."""

    def __init__(
        self,
        function: Function[Any],
        network: "Network | None",
        groups: Sequence[tuple[str, list[int]]],
        snapshots: Sequence[SnapshotData],
        *,
        summed: bool,
    ) -> None:
        self.refs: list[ray.ObjectRef] = []
        if groups:
            sent = ray.put((function, None if network is None else deepcopy(network).cpu()))
            gpus = len(ray.get_gpu_ids()) > 0
            self.refs = [
                _compute.options(
                    num_cpus=1, num_gpus=int(gpus), scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
                ).remote(sent, [snapshots[k] for k in group], summed)
                for node, group in groups
            ]

    def __enter__(self) -> "_Tasks":
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            for ref in self.refs:
                ray.cancel(ref)

    @staticmethod
    def get(ref: ray.ObjectRef) -> Any:
        """A result.  Raises what the function raised, if it was raised on purpose."""
        try:
            return ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            while isinstance(cause, RayTaskError):
                cause = cause.cause
            if isinstance(cause, DftuneError):
                raise cause from error
            raise


@ray.remote
def _compute(sent: tuple[Function[Any], "Network | None"], snapshots: list[SnapshotData], summed: bool) -> Any:
    use_cpus(1)
    function, network = sent
    if network is not None:
        network = deepcopy(network).to(device_of_worker())  # what is in the object store must not be changed
    here = Here()
    return here.total(function, network, snapshots) if summed else here.each(function, network, snapshots)


@ray.remote(num_cpus=0)
def _add(a: Any, b: Any) -> Any:
    return a + b


def _sum(refs: Sequence[ray.ObjectRef]) -> ray.ObjectRef:
    """Two by two, each pair on the node of one of them, until one is left."""
    while len(refs) > 1:
        rest = [refs[-1]] if len(refs) % 2 else []
        refs = [_add.remote(a, b) for a, b in zip(refs[::2], refs[1::2], strict=False)] + rest
    return refs[0]


def _shards(snapshot: SnapshotData) -> list[SnapshotData]:
    """One piece a shard."""
    return [
        replace(snapshot, descriptors=snapshot.descriptors[k : k + 1], ldos=snapshot.ldos[k : k + 1])
        for k in range(len(snapshot.ldos))
    ]


def _grouped(snapshots: Sequence[SnapshotData]) -> tuple[list[tuple[str, list[int]]], list[int]]:
    """(node, numbers of some snapshots) for each process on other nodes, and the numbers of those of this process."""
    me, rooms = ray.get_runtime_context().get_node_id(), nodes_that_compute(int(len(ray.get_gpu_ids()) > 0))
    where, files = list[str](), Counter[str]()
    for snapshot in snapshots:
        copies = _copies(snapshot, me)
        near = [node for node in copies if node in rooms or node == me]
        if near:
            node = max(near, key=lambda name: (copies[name], name == me))
        else:  # in files, or on nodes that are gone or have no GPU
            node = min([me, *rooms], key=lambda name: files[name])
            files[node] += snapshot.snapshot.n_points
        where.append(node)
    groups = list[tuple[str, list[int]]]()
    for name, room in rooms.items():
        mine = [k for k, node in enumerate(where) if node == name != me]
        groups += [(name, mine[i::room]) for i in range(min(room, len(mine)))]
    return groups, [k for k, node in enumerate(where) if node == me]


def _copies(snapshot: SnapshotData, me: str) -> Counter[str]:
    """How many shards of a snapshot each node has in its memory; none of those in files."""
    found = Counter[str]()
    for shards in (snapshot.descriptors, snapshot.ldos):
        if isinstance(shards, SharedShards):
            found.update(node for nodes in locations(shards.refs) for node in nodes)
        else:
            found[me] += sum(isinstance(shard, np.ndarray) for shard in shards)
    return +found
