"""The data of a study in the object store: put there once, read by every worker of a node without a copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import ray

from ..trainables.dataset import Dataset, Snapshot
from ..trainables.energy_grid import EnergyGrid
from ..trainables.shards import to_numpy
from ..trainables.training_data import Scaling, SnapshotData, TrainingData
from .descriptors import DescriptorShards


@dataclass(frozen=True, eq=False)
class SnapshotRefs:
    """A snapshot with references to the shards of its descriptors and its LDOS."""

    snapshot: Snapshot
    descriptors: Sequence[ray.ObjectRef]
    ldos: Sequence[ray.ObjectRef]

    def fetch(self) -> SnapshotData:
        """The shards as read-only arrays in shared memory."""
        return SnapshotData(
            self.snapshot,
            [to_numpy(batch) for batch in ray.get(list(self.descriptors))],
            [to_numpy(batch) for batch in ray.get(list(self.ldos))],
        )


@dataclass(frozen=True, eq=False)
class StudyData:
    """All splits of a dataset as references, small enough to send to any worker; ``key`` tells one from another."""

    key: str
    splits: dict[str, list[SnapshotRefs]]
    energy_grid: EnergyGrid
    scaling: Scaling

    def training_data(self) -> TrainingData:
        """Training and validation snapshots."""
        train, validation = ([refs.fetch() for refs in self.splits[name]] for name in ("train", "validation"))
        return TrainingData(train, validation, self.energy_grid, self.scaling)

    def worker_data(self) -> TrainingData:
        """As ``training_data``, fetched once for all the trials of a study that follow each other in a worker."""
        if self.key not in _FETCHED:
            _FETCHED.clear()
            _FETCHED[self.key] = self.training_data()
        return _FETCHED[self.key]

    def test(self) -> list[SnapshotData]:
        """The test snapshots."""
        return [refs.fetch() for refs in self.splits["test"]]


_FETCHED: dict[str, TrainingData] = {}  # the one study whose data this process holds


def publish(dataset: Dataset, descriptors: DescriptorShards) -> StudyData:
    """Put the LDOS beside the descriptors, and fit the scaling on the training split.

    Raises:
        DatasetError: a split is empty, or an LDOS missing or damaged.
    """
    dataset.verify()
    splits = {
        name: [
            SnapshotRefs(s, descriptors.shards[s.id], [ray.put(batch) for batch in dataset.ldos(s).batches])
            for s in dataset.split(name)
        ]
        for name in ("train", "validation", "test")
    }
    scaling = Scaling.fit([refs.fetch() for refs in splits["train"]])
    return StudyData(uuid4().hex, splits, dataset.info.energy_grid, scaling)
