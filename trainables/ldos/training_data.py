"""Grid points to train and judge a surrogate with, and their scaling.  LDOS in 1/(eV Å³), energies in eV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Dataset
from ..data.energy_grid import EnergyGrid
from ..data.kohn_sham import KohnSham
from ..data.shards import Shard
from ..data.snapshot import Snapshot, Split
from ..descriptors.settings import BispectrumSettings
from .energy_reference import EnergyReference, references, relative_grid
from .places import Here, Places
from .total_energy import Ingredients

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SnapshotData:
    """One snapshot's grid points in shards, in memory or in files, with the reference that a prediction is judged by.

    descriptors: shards (n_points_in_shard, n_components), float32.
    ldos: shards of the same points (n_points_in_shard, n_energy), float16 or float32 [1/(eV Å³)].
    reference: what the energies are relative to that the LDOS is learnt on; None: absolute.
    """

    snapshot: Snapshot
    descriptors: Sequence[Shard]
    ldos: Sequence[Shard]
    reference: EnergyReference | None = None

    @property
    def learnt(self) -> Sequence[Shard]:
        """The LDOS on the energies that it is learnt on, in the same shards."""
        return self.ldos if self.reference is None else self.reference.moved(self.ldos)

    @property
    def level(self) -> float:
        """The absolute energy that these are relative to [eV]."""
        return 0.0 if self.reference is None else self.reference.level

    def dos(self) -> NDArray[np.float64]:
        """Reference DOS from the LDOS it learns, shard by shard, (n_energy,) [1/eV]."""
        total = sum(shard[:].sum(axis=0, dtype=np.float64) for shard in self.learnt)
        return self.snapshot.volume * (total / sum(map(len, self.ldos)))


@dataclass(frozen=True, eq=False)
class Scaling:
    """Standardised descriptors, and an LDOS with its mean removed and one common scale for all energies.

    One scale rather than one an energy: the loss is then 1 - R² of the LDOS, and energies where there are no
    states do not count as much as those where the electrons are.

    descriptor_mean, descriptor_std, descriptor_min, descriptor_max: (n_components,); the range is that of the training.
    ldos_mean: (n_energy,), ldos_scale: number [1/(eV Å³)].
    """

    descriptor_mean: Float32
    descriptor_std: Float32
    descriptor_min: Float32
    descriptor_max: Float32
    ldos_mean: Float32
    ldos_scale: float

    @classmethod
    def fit(cls, snapshots: Sequence[SnapshotData], places: Places | None = None) -> "Scaling":
        """Means, standard deviations and ranges over all grid points, shard by shard in float64.

        Args:
            snapshots: of the training.
            places: where to compute.  The result is the same to the last bit wherever that is.
        """
        found = [pair for pairs in (places or Here()).each(_moments, None, snapshots) for pair in pairs]
        descriptors, ldos = (reduce(add, parts) for parts in zip(*found, strict=True))
        std = np.sqrt(descriptors.variance)
        # A component that never varies (the first of a lone atom, say) says nothing: leave it at zero.
        std[std <= 1e-6 * np.abs(descriptors.mean)] = 1.0
        scale = float(np.sqrt(ldos.variance.mean()))
        return cls(
            descriptor_mean=descriptors.mean.astype(np.float32),
            descriptor_std=std.astype(np.float32),
            descriptor_min=descriptors.low.astype(np.float32),
            descriptor_max=descriptors.high.astype(np.float32),
            ldos_mean=ldos.mean.astype(np.float32),
            ldos_scale=scale or 1.0,
        )

    def tensors(self) -> dict[str, Float32]:
        """All of it by name, for a file: ``scaling.descriptor_mean`` and so on."""
        return {f"scaling.{name}": np.asarray(value, dtype=np.float32) for name, value in vars(self).items()}

    def descriptors(self, values: NDArray[np.floating]) -> Float32:
        """Standardised descriptors."""
        return (values.astype(np.float32, copy=False) - self.descriptor_mean) / self.descriptor_std

    def beyond(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """How far each grid point lies outside the range of the training, in standard deviations, (n_points,).

        The largest over the components; 0 inside.
        """
        over = np.maximum(self.descriptor_min - values, values - self.descriptor_max) / self.descriptor_std
        return np.maximum(over.max(axis=1), 0.0)

    def ldos(self, values: NDArray[np.floating]) -> Float32:
        """Scaled LDOS."""
        return (values.astype(np.float32) - self.ldos_mean) / np.float32(self.ldos_scale)


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the columns of some rows: mean, squares Σ (x - mean)², minimum and maximum, each (n_columns,)."""

    count: int
    mean: Float64
    squares: Float64
    low: Float64
    high: Float64

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> "Moments":
        """Those of rows (n_rows, n_columns)."""
        wide = values.astype(np.float64)  # the one array of that size, and no arithmetic of float16, which is slow
        mean, low, high = wide.sum(axis=0) / len(wide), wide.min(axis=0), wide.max(axis=0)
        wide -= mean
        wide *= wide
        return cls(len(wide), mean, wide.sum(axis=0), low, high)

    def __add__(self, other: "Moments") -> "Moments":
        """Of the rows of both.

        Source: Chan, Golub and LeVeque, The American Statistician 37, 242 (1983), Eq. 2.1.
        """
        count, between = self.count + other.count, other.mean - self.mean
        return Moments(
            count,
            self.mean + between * (other.count / count),
            self.squares + other.squares + between**2 * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def total(self) -> float:
        """Σ over rows and columns of (value - mean of the column)²."""
        return float(self.squares.sum())

    @property
    def variance(self) -> Float64:
        """Of each column."""
        return self.squares / self.count


def _moments(network: None, snapshot: SnapshotData) -> list[tuple[Moments, Moments]]:
    """Those of the descriptors and of the LDOS, shard by shard."""
    pairs = zip(snapshot.descriptors, snapshot.learnt, strict=True)
    return [(Moments.of(descriptors[:]), Moments.of(ldos[:])) for descriptors, ldos in pairs]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The snapshots a trial trains on and those it is validated on, one energy grid, one scaling.

    descriptors: their settings, which forces need.  species: chemical symbol -> valence electrons.  dft: what the free
    energy needs besides the LDOS; None where it is not known.  places: where what is a sum over snapshots is computed.
    """

    train: Sequence[SnapshotData]
    validation: Sequence[SnapshotData]
    energy_grid: EnergyGrid
    scaling: Scaling
    descriptors: BispectrumSettings | None = None
    species: Mapping[str, float] = field(default_factory=dict)
    dft: KohnSham | None = None
    places: Places = field(default_factory=Here)

    @property
    def about(self) -> "TrainingData":
        """All but the snapshots, to be sent to where those lie."""
        return replace(self, train=(), validation=(), places=Here())

    def relative_to_fermi_levels(self) -> "TrainingData":
        """The same on energies relative to the Fermi level of each snapshot, scaled anew.

        Raises:
            DatasetError: as ``relative_grid`` and ``references``.
        """
        grid = relative_grid(self.energy_grid, [d.snapshot for d in self.train])
        train, validation = (
            relative_to_fermi_levels(part, self.energy_grid, grid) for part in (self.train, self.validation)
        )
        scaling = Scaling.fit(train, self.places)
        return replace(self, train=train, validation=validation, energy_grid=grid, scaling=scaling)

    @property
    def ingredients(self) -> Ingredients | None:
        """Of the total free energy; None where the dataset does not have them."""
        return None if self.dft is None else Ingredients(self.dft, self.species)

    def sample(self, n_points: int, rng: np.random.Generator) -> "MiniBatch":
        """``n_points`` random grid points of the training snapshots, scaled, without repetition where possible."""
        sizes = [len(shard) for s in self.train for shard in s.descriptors]
        total = sum(sizes)
        chosen = np.sort(rng.choice(total, size=min(n_points, total), replace=False))
        starts = np.cumsum([0, *sizes])
        x, y = [], []
        for i, (d, t) in enumerate((d, t) for s in self.train for d, t in zip(s.descriptors, s.learnt, strict=True)):
            first, end = np.searchsorted(chosen, starts[i : i + 2])
            rows = chosen[first:end] - starts[i]
            x.append(self.scaling.descriptors(d[rows]))
            y.append(self.scaling.ldos(t[rows]))
        order = rng.permutation(len(chosen))
        return MiniBatch(np.concatenate(x)[order], np.concatenate(y)[order])


def relative_to_fermi_levels(
    snapshots: Sequence[SnapshotData], stored: EnergyGrid, relative: EnergyGrid
) -> list[SnapshotData]:
    """Snapshots whose LDOS is on relative energies.  Errors as ``references``."""
    found = references(stored, relative, [d.snapshot for d in snapshots])
    return [replace(d, reference=reference) for d, reference in zip(snapshots, found, strict=True)]


@dataclass(frozen=True, eq=False)
class MiniBatch:
    """Scaled grid points for a score: descriptors (n_points, n_components) and LDOS (n_points, n_energy)."""

    descriptors: Float32
    ldos: Float32


def read_split(dataset: Dataset, settings: BispectrumSettings, split: Split) -> list[SnapshotData]:
    """The snapshots of a split; their grid points stay in the files until they are asked for.

    Raises:
        DatasetError: there are none, or a file is missing or damaged.
    """
    return [
        SnapshotData(s, dataset.descriptors(s, settings).stored(), dataset.ldos(s).stored())
        for s in dataset.split(split)
    ]


def read_training_data(dataset: Dataset, settings: BispectrumSettings) -> TrainingData:
    """Training and validation snapshots, the scaling fitted on the training split only.  Errors as ``read_split``."""
    train, validation, info = (
        read_split(dataset, settings, "train"),
        read_split(dataset, settings, "validation"),
        dataset.info,
    )
    return TrainingData(train, validation, info.energy_grid, Scaling.fit(train), settings, info.species, info.dft)
