"""Grid points of a study in the object store, read by every worker of a node without a copy, or else in its files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import ray

from ...trainables.data.dataset import Dataset
from ...trainables.data.energy_grid import EnergyGrid
from ...trainables.data.kohn_sham import KohnSham
from ...trainables.data.shards import ShardFile, to_numpy
from ...trainables.data.snapshot import SPLITS, Snapshot, Split
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.ldos.places import Here, Places
from ...trainables.ldos.training_data import Scaling, SnapshotData, TrainingData, read_split
from ...trainables.progress import Progress
from ..resources import object_store
from ..store import Reader, SharedShards, locations, nodes_that_compute
from ..study_data import fetched_once
from .descriptors import DescriptorShards, compute_descriptors, describe_here
from .where_they_lie import WhereTheyLie

OBJECT_STORE = 0.5  # the share that grid points may take: what does not fit is spilled to disk, or ends the study


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

    def stay(self) -> SnapshotData:
        """The shards where they are, each to be fetched when it is asked for."""
        return SnapshotData(self.snapshot, SharedShards(self.descriptors), SharedShards(self.ldos))


@dataclass(frozen=True, eq=False)
class SplitFiles:
    """A split that stays in the files of a dataset, which is opened where it is read: each node has its own mirror."""

    location: str
    settings: BispectrumSettings
    split: Split

    def fetch(self) -> list[SnapshotData]:
        """The snapshots, their shards to be read from files of this machine."""
        dataset = Dataset.open(self.location)
        describe_here(dataset.only(dataset.split(self.split)), self.settings)
        return read_split(dataset, self.settings, self.split)


@dataclass(frozen=True, eq=False)
class GridPoints:
    """All splits of a dataset as references to the object store, or to its files.

    It is small enough to send to any worker; ``key`` tells one from another.
    """

    key: str
    splits: dict[Split, Sequence[SnapshotRefs] | SplitFiles]
    energy_grid: EnergyGrid
    scaling: Scaling
    settings: BispectrumSettings
    species: Mapping[str, float]
    dft: KohnSham | None
    places: Places

    def training_data(self) -> TrainingData:
        """Training and validation snapshots; sums over them are computed on all nodes, where the shards lie."""
        return self._data(_spread, self.places)

    def worker_data(self) -> TrainingData:
        """Those snapshots, fetched once for all the trials of a study that follow each other in a worker."""
        return fetched_once(self.key, lambda: self._data(_fetched, Here()))

    def test(self) -> list[SnapshotData]:
        """The test snapshots."""
        return _spread(self.splits["test"])

    def _data(
        self, read: Callable[[Sequence[SnapshotRefs] | SplitFiles], list[SnapshotData]], places: Places
    ) -> TrainingData:
        train, validation = read(self.splits["train"]), read(self.splits["validation"])
        about = (self.settings, self.species, self.dft)
        return TrainingData(train, validation, self.energy_grid, self.scaling, *about, places)


@contextmanager
def published_grid_points(dataset: Dataset, settings: BispectrumSettings, progress: Progress) -> Iterator[GridPoints]:
    """The grid points of a study, within reach of all workers inside the block; descriptors are computed where missing.

    Raises:
        InputError: as ``compute_descriptors`` and ``publish``.
    """
    fits = fits_object_store(dataset, settings)
    if not fits:
        progress.say("the grid points do not fit into Ray's object store: workers read them from the dataset")
    keep = fits and not dataset.is_mirrored  # whose files are on every node anyway
    with closing(compute_descriptors(dataset, settings, keep=keep, progress=progress.update)) as descriptors:
        progress.end("descriptors")
        if said := dataset.not_stored(settings):
            progress.say(said)
        yield publish(dataset, settings, descriptors)


def fits_object_store(dataset: Dataset, settings: BispectrumSettings) -> bool:
    """Whether the object store of every node holds all grid points and leaves as much room again."""
    numbers = settings.n_components + dataset.info.energy_grid.n_energy  # of 4 bytes or less
    return 4 * numbers * sum(s.n_points for s in dataset.snapshots) <= OBJECT_STORE * object_store()


def publish(dataset: Dataset, settings: BispectrumSettings, descriptors: DescriptorShards) -> GridPoints:
    """Put the LDOS beside the descriptors if those are in the object store, and fit the scaling on the training split.

    Raises:
        DatasetError: a split is empty, or a file missing or damaged.
    """
    dataset.verify()
    splits: dict[Split, Sequence[SnapshotRefs] | SplitFiles] = {}
    beside = _Beside(descriptors.shards)
    chosen = {name: dataset.split(name) for name in SPLITS}
    if descriptors.shards:
        refs = {s.id: SnapshotRefs(s, descriptors.shards[s.id], beside.read(s.id, dataset.ldos(s))) for s in dataset}
        splits.update({name: [refs[s.id] for s in some] for name, some in chosen.items()})
    else:
        splits.update({name: SplitFiles(dataset.location, settings, name) for name in SPLITS})
    beside.reader.wait()
    # A file of a mirror is another one on each node.
    places: Places = Here() if dataset.is_mirrored else WhereTheyLie()
    scaling, info = Scaling.fit(_spread(splits["train"]), places), dataset.info
    return GridPoints(uuid4().hex, splits, info.energy_grid, scaling, settings, info.species, info.dft, places)


class _Beside:
    """Reads the LDOS into the object stores where the descriptors of the same points are."""

    def __init__(self, shards: Mapping[str, Sequence[ray.ObjectRef]]) -> None:
        self.reader = Reader("ldos")
        self._shards = shards
        self._nodes = list(nodes_that_compute())

    def read(self, name: str, file: ShardFile) -> list[ray.ObjectRef]:
        """References to the shards of a snapshot, in grid order."""
        nodes = [(where or self._nodes)[0] for where in locations(self._shards[name])]
        return [self.reader.read(shard, file.metadata, node) for shard, node in zip(file.stored(), nodes, strict=True)]


def _spread(split: Sequence[SnapshotRefs] | SplitFiles) -> list[SnapshotData]:
    return split.fetch() if isinstance(split, SplitFiles) else [s.stay() for s in split]


def _fetched(split: Sequence[SnapshotRefs] | SplitFiles) -> list[SnapshotData]:
    return split.fetch() if isinstance(split, SplitFiles) else [s.fetch() for s in split]
