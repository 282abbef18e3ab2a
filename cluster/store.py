"""Shards in the object stores of the nodes: which node reads which, and where they lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..trainables.data.shards import StoredShard, to_batches, to_numpy
from .resources import alive_nodes

READS_A_NODE = 2  # shards that a node reads into the object store at once


class SharedShards(Sequence[NDArray[np.floating]]):
    """Shards in the object store; one comes to this node when it is asked for, as a read-only array in shared memory.

    refs: their references.
    """

    def __init__(self, refs: Sequence[ray.ObjectRef]) -> None:
        self.refs = list(refs)

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return SharedShards(self.refs[k])
        return to_numpy(ray.get(self.refs[k]))


@ray.remote(num_cpus=0, max_retries=-1)
def _read(shard: StoredShard, column: str, metadata: dict[str, str]) -> pa.RecordBatch:
    """A shard as a value in the object store.  Ray reads it again, anywhere, where it is lost with a node."""
    (batch,) = to_batches(shard[:], column, metadata)
    return batch


class Reader:
    """Has nodes read shards into their object stores, a few at a time.

    Args:
        column: of the shards.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._running: list[ray.ObjectRef] = []

    def read(self, shard: StoredShard, metadata: Mapping[str, str], node: str) -> ray.ObjectRef:
        """A reference to the shard, read by that node, or by another one if it has died."""
        if len(self._running) >= READS_A_NODE * len(alive_nodes()):
            _, self._running = ray.wait(self._running, num_returns=1, fetch_local=False)
        there = NodeAffinitySchedulingStrategy(node, soft=True)
        self._running.append(_read.options(scheduling_strategy=there).remote(shard, self._column, dict(metadata)))
        return self._running[-1]

    def wait(self) -> None:
        """Until all are read."""
        ray.wait(self._running, num_returns=len(self._running), fetch_local=False)


def nodes_that_compute(gpus: int = 0) -> dict[str, int]:
    """Node -> how many processes of one CPU, and of so many GPUs, it has room for; all that are alive, in one order."""
    resources = {node["NodeID"]: node["Resources"] for node in alive_nodes()}
    rooms = {
        name: int(min(some.get("CPU", 0), some.get("GPU", 0) // gpus if gpus else np.inf))
        for name, some in sorted(resources.items())
    }
    return {name: room for name, room in rooms.items() if room > 0}


def assign(sizes: Sequence[Sequence[int]], nodes: Sequence[str]) -> list[list[str]]:
    """A node for each shard of each snapshot, so that all have about as much.

    The shards of a snapshot stay together, where its electrons are summed up; but one of more than a node's share is
    spread.

    Args:
        sizes: grid points of the shards of each snapshot.
        nodes: that there are, one at least.
    """
    load, found = dict.fromkeys(nodes, 0), [[""] * len(some) for some in sizes]
    share = sum(map(sum, sizes)) / len(nodes)
    for k in sorted(range(len(sizes)), key=lambda k: -sum(sizes[k])):
        together = sum(sizes[k]) <= share
        node = min(nodes, key=load.__getitem__)
        for i, size in enumerate(sizes[k]):
            node = node if together else min(nodes, key=load.__getitem__)
            load[node] += size
            found[k][i] = node
    return found


def locations(refs: Sequence[ray.ObjectRef]) -> list[list[str]]:
    """The nodes that have a copy of each object in their stores."""
    found = ray.experimental.get_object_locations(list(refs)) if refs else {}
    return [list(found[ref]["node_ids"]) if ref in found else [] for ref in refs]
