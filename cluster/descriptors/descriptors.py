"""Descriptors of a dataset by Ray actors, one a CPU slot, and their shards in the object store.

A snapshot is a row of pieces, consecutive grid points of it, and a task of an actor is one piece: neither its memory
nor its time grows with the grid.  An actor writes what it has computed to the dataset before it says so; the pieces of
a snapshot are then joined, in grid order.  What was written is never computed again, whoever dies.

Of a dataset behind a URL each machine has a mirror of its own, so there one actor computes all pieces of a snapshot.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ...trainables.data.dataset import Dataset
from ...trainables.data.mirror import cache
from ...trainables.data.snapshot import Snapshot
from ...trainables.descriptors.bispectrum import bispectrum
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.descriptors.slabs import pieces
from ...trainables.errors import DatasetError, InputError, one_line
from ..resources import slots
from ..store import Reader, assign, nodes_that_compute
from .mpi_group import MpiGroup

Update = Callable[[str, int, int, str], None]  # as Progress.update
STAGE = "descriptors"
IN_FLIGHT = 2  # pieces an actor has before it: one being computed, one waiting
DEATHS = 3  # as many processes may die over one piece, or in a row before they have begun


@ray.remote  # not restarted by Ray, which would wait for a CPU on nodes that are gone: the registry hands its work on
class DescriptorActor:
    """Computes descriptors of one piece of a snapshot after another, and writes them to the dataset."""

    def __init__(self, dataset: str, settings: BispectrumSettings, cpus: int = 1) -> None:
        self._location, self._settings = dataset, settings
        if settings.engine == "lammps" and cpus > 1:
            self._compute = MpiGroup(cpus).bispectrum
        else:
            self._compute = partial(bispectrum, threads=cpus)

    def ready(self) -> None:
        """Open the dataset, which a node may not see."""
        self._dataset = Dataset.open(self._location)

    def compute(self, snapshot_id: str, points: range) -> bool:
        """Bring the descriptors of some grid points into the dataset; False where it has them."""
        snapshot = self._dataset[snapshot_id]
        whole = len(points) == snapshot.n_points
        try:
            if whole:
                self._dataset.descriptors(snapshot, self._settings)
            else:
                self._dataset.piece_of_descriptors(snapshot, self._settings, points)
            return False
        except DatasetError:
            values = self._compute(
                snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, self._settings, points=points
            )
        if whole:
            self._dataset.write_descriptors(snapshot, self._settings, values)
        else:
            self._dataset.write_piece_of_descriptors(snapshot, self._settings, points, values)
        return True

    def join(self, snapshot_id: str) -> int:
        """Make one file of the pieces of a snapshot, unless that was done; the number of those that were missing."""
        snapshot = self._dataset[snapshot_id]
        computed, parts = 0, pieces(snapshot.grid)
        try:
            self._dataset.descriptors(snapshot, self._settings)
        except DatasetError:
            computed = sum(self.compute(snapshot_id, points) for points in parts)
            if len(parts) > 1:
                self._dataset.join_descriptors(snapshot, self._settings, parts)
        return computed


@dataclass(frozen=True)
class _Task:
    """A piece of a snapshot to compute; without points: all its pieces to join, the missing ones computed before."""

    snapshot: str
    points: range | None

    def submit(self, actor: ActorHandle) -> ray.ObjectRef:
        if self.points is None:
            return actor.join.remote(self.snapshot)
        return actor.compute.remote(self.snapshot, self.points)

    def __str__(self) -> str:
        points = "" if self.points is None else f", grid points {self.points.start} to {self.points.stop - 1}"
        return f"snapshot {self.snapshot}{points}"


@dataclass(frozen=True)
class Counts:
    """What it took.

    computed: pieces that were computed to their end.
    lost: pieces that lay before an actor when it died, one of them half done, and were given to others.
    """

    computed: int = 0
    lost: int = 0


@ray.remote(num_cpus=0)
class ShardRegistry:
    """Submits all calls and owns the shards, which so outlive the processes that made them, and their nodes."""

    def __init__(
        self, dataset: str, settings: BispectrumSettings, missing: list[str], n_actors: int, cpus: int
    ) -> None:
        self._dataset, self._settings = Dataset.open(dataset), settings
        self._n_actors, self._cpus = n_actors, cpus
        self._queue = deque(task for name in missing for task in _tasks(self._dataset, self._dataset[name]))
        self._n_pieces = Counter(task.snapshot for task in self._queue)
        self._left = self._n_pieces.copy()  # to be computed
        self._starting: dict[ray.ObjectRef, ActorHandle] = {}
        self._loads: dict[ActorHandle, dict[ray.ObjectRef, _Task]] = {}  # of actors that have started, the oldest first
        self._deaths: Counter[_Task | None] = Counter()  # over a task, or (None) of actors that had not begun
        self._computed, self._lost, self._done = 0, 0, 0
        self._shards: dict[str, list[ray.ObjectRef]] = {}

    def step(self) -> tuple[int, str] | None:
        """Keep every actor fed until something is done; how many snapshots are, and what was last.  None when all are.

        Raises:
            InputError: a piece cannot be computed or written, or several processes died over it.
            ClusterError: no node is left on which an actor fits.
        """
        while self._queue or any(self._loads.values()):
            self._start()
            self._feed()
            calls = {ref: actor for actor, load in self._loads.items() for ref in load} | self._starting
            done, _ = ray.wait(list(calls), num_returns=1, timeout=2.0, fetch_local=False)
            if done and (text := self._finish(done[0], calls[done[0]])):
                return self._done, text
        for actor in (*self._loads, *self._starting.values()):
            ray.kill(actor)
        self._loads, self._starting = {}, {}
        return None

    def _start(self) -> None:
        """As many actors as fit on the nodes that are left.  An actor gets work once it has started, not before."""
        wanted = _slots(self._cpus, self._n_actors)
        while len(self._loads) + len(self._starting) < wanted:
            actor = DescriptorActor.options(num_cpus=self._cpus, scheduling_strategy="SPREAD").remote(  # type: ignore[attr-defined]
                self._dataset.location, self._settings, self._cpus
            )
            self._starting[actor.ready.remote()] = actor

    def _feed(self) -> None:
        while self._queue and self._loads:
            actor, load = min(self._loads.items(), key=lambda item: len(item[1]))
            if len(load) >= IN_FLIGHT or (load and len(self._queue) <= len(self._starting)):
                return
            task = self._queue.popleft()
            load[task.submit(actor)] = task

    def _finish(self, ref: ray.ObjectRef, actor: ActorHandle) -> str:
        """What has become of a call, in a few words; nothing where an actor has started."""
        try:
            result = ray.get(ref)
        except RayTaskError:
            raise  # what the actor raised
        except RayError as error:
            return self._bury(ref, actor, error)
        if self._starting.pop(ref, None) is not None:
            self._loads[actor] = {}
            del self._deaths[None]
            return ""
        task = self._loads[actor].pop(ref)
        name, total = task.snapshot, self._n_pieces[task.snapshot]
        self._computed += result
        if task.points is not None:
            self._left[name] -= 1
            if self._left[name] == 0 and total > 1:
                self._queue.appendleft(_Task(name, None))
            if total > 1:
                return f"snapshot {name}: {total - self._left[name]} of {total} pieces"
        self._done += 1
        return f"snapshot {name}"

    def _bury(self, ref: ray.ObjectRef, actor: ActorHandle, error: RayError) -> str:
        """Give the work of a dead actor to others, unless it seems to be the work that kills."""
        ray.kill(actor)  # where it only cannot be reached
        self._starting.pop(ref, None)
        tasks = list(self._loads.pop(actor, {}).values())
        self._queue.extendleft(reversed(tasks))
        self._lost += sum(task.points is not None for task in tasks)
        struck = tasks[0] if tasks else None
        self._deaths[struck] += 1
        if self._deaths[struck] >= DEATHS:
            over = f"{struck}: processes died over it" if struck else "processes died before they began"
            raise InputError(f"{self._dataset.location}: {over}, {DEATHS} in a row ({one_line(error)[:300]})")
        return f"a process died; what lay before it ({len(tasks)}) is given to others"

    def publish(self, snapshots: list[str]) -> dict[str, list[ray.ObjectRef]]:
        """Snapshot -> references to its shards, in grid order, read into the object stores of the nodes, a copy each.

        Raises:
            DatasetError: descriptors are missing or damaged.
        """
        files = [self._dataset.descriptors(self._dataset[name], self._settings) for name in snapshots]
        shards, reader = [file.stored() for file in files], Reader("descriptor")
        nodes = assign([[len(shard) for shard in some] for some in shards], list(nodes_that_compute()))
        for name, file, some, where in zip(snapshots, files, shards, nodes, strict=True):
            self._shards[name] = [
                reader.read(shard, file.metadata, node) for shard, node in zip(some, where, strict=True)
            ]
        reader.wait()
        return self._shards

    def counts(self) -> Counts:
        return Counts(self._computed, self._lost)


class DescriptorShards:
    """Descriptors in the object store, if they were to be kept, held by a registry for as long as this object lives."""

    def __init__(self, registry: ActorHandle, shards: dict[str, list[ray.ObjectRef]], counts: Counts) -> None:
        self._registry = registry
        self.shards, self.counts = shards, counts

    def close(self) -> None:
        """Free the object store."""
        self.shards = {}
        ray.kill(self._registry)


def describe_here(dataset: Dataset, settings: BispectrumSettings) -> None:
    """Have descriptors on this machine that no other could give it: those of storage to which nobody may write.

    In a process of its own, which is given one CPU's worth of work at a time and ends with it.
    """
    if not (missing := dataset.without_descriptors(settings)):
        return
    actor = DescriptorActor.options(  # type: ignore[attr-defined]
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
        runtime_env={"env_vars": {"DFTUNE_CACHE": str(cache())}},  # which Ray may have been started without
    ).remote(dataset.location, settings)
    try:
        ray.get(actor.ready.remote())
        for snapshot in missing:
            ray.get(actor.join.remote(snapshot.id))
    finally:
        ray.kill(actor)


def compute_descriptors(
    dataset: Dataset,
    settings: BispectrumSettings,
    *,
    actors: int | None = None,
    cpus: int = 1,
    keep: bool = False,
    progress: Update = lambda stage, done, total, text: None,
) -> DescriptorShards:
    """Compute the descriptors of every snapshot that does not have them, and write them to the dataset.

    Args:
        dataset: its folder must be visible to the nodes under the same path, or its URL be read by them.
        settings: of the descriptors.
        actors: number of actors; by default as many as fit on the cluster, no more than there are pieces to compute.
        cpus: of an actor, which share each piece as threads, or as MPI ranks of LAMMPS.
        keep: bring all descriptors into the object store, too.
        progress: as ``Progress.update``, after each piece and once a second meanwhile; what it raises ends the
            computation.

    Raises:
        InputError: a snapshot cannot be computed or the folder not be written; finished pieces stay.
        ClusterError: no node has so many CPUs, or none is left.
    """
    missing = dataset.without_descriptors(settings)
    n_actors = _slots(cpus, actors or max(sum(len(_tasks(dataset, s)) for s in missing), 1))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    registry = ShardRegistry.options(scheduling_strategy=here).remote(  # type: ignore[attr-defined]
        dataset.location, settings, [s.id for s in missing], n_actors, cpus
    )
    total = len(dataset.snapshots)
    done = there = total - len(missing)
    progress(STAGE, done, total, f"{len(missing)} to compute")

    def wait(ref: ray.ObjectRef) -> Any:
        while not ray.wait([ref], timeout=1.0)[0]:
            progress(STAGE, done, total, "")
        return ray.get(ref)

    try:
        while (step := wait(registry.step.remote())) is not None:
            done = there + step[0]
            progress(STAGE, done, total, step[1])
        shards = wait(registry.publish.remote([s.id for s in dataset.snapshots])) if keep else {}
        return DescriptorShards(registry, shards, wait(registry.counts.remote()))
    except BaseException as error:
        ray.kill(registry)  # and with it its actors, whose CPUs they held
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
            raise InputError(f"{dataset.location}: the shards' owner died ({one_line(error)}); run it again") from error
        raise


def _tasks(dataset: Dataset, snapshot: Snapshot) -> list[_Task]:
    """What is to be done for the descriptors of a snapshot."""
    if dataset.is_mirrored:
        return [_Task(snapshot.id, None)]
    return [_Task(snapshot.id, points) for points in pieces(snapshot.grid)]


def _slots(cpus: int, at_most: int) -> int:
    remedy = "connect to a cluster that has some" if cpus == 1 else "lower --cpus"
    return slots(cpus, at_most=at_most, what="an actor for descriptors", remedy=remedy)
