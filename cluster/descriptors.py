"""Descriptors of a dataset by Ray actors, one a CPU slot: Arrow shards in the dataset and in the object store."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..trainables.bispectrum import BispectrumSettings, bispectrum
from ..trainables.dataset import Dataset, Snapshot, one_line
from ..trainables.errors import DatasetError, InputError
from ..trainables.mirror import cache
from ..trainables.shards import POINTS_A_SHARD
from .resources import slots

Progress = Callable[[int, int, str], None]  # done, total, what was done last; also called once a second meanwhile
IN_FLIGHT = 2  # snapshots an actor has before it: one being computed, one waiting


@ray.remote(max_restarts=3, max_task_retries=3)
class DescriptorActor:
    """Computes descriptors of one snapshot after another, and writes them to the dataset."""

    def __init__(self, dataset: str, settings: BispectrumSettings) -> None:
        self._dataset = Dataset.open(dataset)
        self._settings = settings

    def compute(self, snapshot_id: str) -> None:
        """Bring the descriptors of one snapshot into the dataset, unless it has them."""
        snapshot = self._dataset[snapshot_id]
        try:
            self._dataset.descriptors(snapshot, self._settings)
        except DatasetError:
            values = bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, self._settings)
            self._dataset.write_descriptors(snapshot, self._settings, values)

    def shards(self, snapshot_id: str) -> Any:
        """As ``compute``, and return its shards, one return value each."""
        self.compute(snapshot_id)
        # From the file: a batch cut from the array would carry the whole array into the object store.
        file = self._dataset.descriptors(self._dataset[snapshot_id], self._settings)
        return file.batches[0] if len(file.batches) == 1 else tuple(file.batches)


@ray.remote(num_cpus=0)
class ShardRegistry:
    """Submits the calls and so owns the shards: they outlive the actors that made them."""

    def __init__(
        self, dataset: str, settings: BispectrumSettings, snapshots: Sequence[Snapshot], n_actors: int, keep: bool
    ) -> None:
        make = DescriptorActor.options(num_cpus=1, scheduling_strategy="SPREAD")  # type: ignore[attr-defined]
        self._actors: list[ActorHandle] = [make.remote(dataset, settings) for _ in range(n_actors)]
        self._idle = self._actors * IN_FLIGHT  # an actor stands here once for each snapshot it may still take
        self._waiting, self._keep = list(snapshots), keep
        self._running: dict[ray.ObjectRef, tuple[str, ActorHandle]] = {}
        self._shards: dict[str, list[ray.ObjectRef]] = {}

    def step(self) -> str | None:
        """Keep every actor fed, wait until one snapshot is done, and name it; None when all are."""
        while self._waiting and self._idle:
            snapshot, actor = self._waiting.pop(0), self._idle.pop(0)
            if self._keep:
                n_shards = ceil(snapshot.n_points / POINTS_A_SHARD)
                refs = actor.shards.options(num_returns=n_shards).remote(snapshot.id)
                refs = self._shards[snapshot.id] = refs if isinstance(refs, list) else [refs]
            else:
                refs = [actor.compute.remote(snapshot.id)]
            self._running[refs[0]] = (snapshot.id, actor)
        if not self._running:
            for actor in self._actors:
                ray.kill(actor)
            self._actors = []
            return None
        (done,), _ = ray.wait(list(self._running), num_returns=1, fetch_local=False)
        name, actor = self._running.pop(done)
        self._idle.append(actor)
        ray.get(done)  # raises what the actor raised
        return name

    def shards(self) -> dict[str, list[ray.ObjectRef]]:
        """Snapshot -> references to its shards, in grid order."""
        return self._shards


class DescriptorShards:
    """Descriptors in the object store, if they were to be kept, held by a registry for as long as this object lives."""

    def __init__(self, registry: ActorHandle, shards: dict[str, list[ray.ObjectRef]]) -> None:
        self._registry = registry
        self.shards = shards

    def close(self) -> None:
        """Free the object store."""
        self.shards = {}
        ray.kill(self._registry)


def describe_here(dataset: Dataset, settings: BispectrumSettings) -> None:
    """Have descriptors on this machine that no other could give it: those of storage to which nobody may write.

    In a process of its own, as LAMMPS would take this one's threads.
    """
    if not (missing := dataset.without_descriptors(settings)):
        return
    actor = DescriptorActor.options(  # type: ignore[attr-defined]
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
        runtime_env={"env_vars": {"DFTUNE_CACHE": str(cache())}},  # which Ray may have been started without
    ).remote(dataset.location, settings)
    try:
        for snapshot in missing:
            ray.get(actor.compute.remote(snapshot.id))
    finally:
        ray.kill(actor)


def compute_descriptors(
    dataset: Dataset,
    settings: BispectrumSettings,
    *,
    actors: int | None = None,
    keep: bool = False,
    progress: Progress = lambda done, total, text: None,
) -> DescriptorShards:
    """Compute the descriptors of every snapshot that does not have them, and write them to the dataset.

    Args:
        dataset: its folder must be visible to the nodes under the same path, or its URL be read by them.
        settings: of the descriptors.
        actors: number of actors; by default one a CPU slot, no more than there are snapshots to compute.
        keep: bring all descriptors into the object store, too.
        progress: called after each snapshot, and once a second meanwhile; what it raises ends the computation.

    Raises:
        InputError: a snapshot cannot be computed or the folder not be written; finished snapshots stay.
        ClusterError: no node has a CPU.
    """
    missing = dataset.without_descriptors(settings)
    n_actors = slots(1, at_most=actors or max(len(missing), 1))
    registry = ShardRegistry.remote(dataset.location, settings, dataset.snapshots, n_actors, keep)  # type: ignore[attr-defined]
    progress(0, len(dataset.snapshots), f"{len(missing)} to compute")
    done = 0
    try:
        while True:
            step = registry.step.remote()
            while not ray.wait([step], timeout=1.0)[0]:
                progress(done, len(dataset.snapshots), "")
            if (name := ray.get(step)) is None:
                return DescriptorShards(registry, ray.get(registry.shards.remote()))
            done += 1
            progress(done, len(dataset.snapshots), f"snapshot {name}")
    except BaseException as error:
        ray.kill(registry)  # and with it its actors, whose CPUs it held
        if isinstance(error, RayTaskError):
            cause = error.cause
            while isinstance(cause, RayTaskError):
                cause = cause.cause
            if isinstance(cause, InputError):
                raise type(cause)(str(cause)) from error
            raise InputError(
                f"{dataset.location}: descriptors failed after {done} snapshots: {one_line(cause)}"
            ) from error
        if isinstance(error, RayActorError):
            raise InputError(
                f"{dataset.location}: a descriptor actor died ({one_line(error)}); run it again"
            ) from error
        raise
