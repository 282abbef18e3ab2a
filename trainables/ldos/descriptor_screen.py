"""What descriptors of given settings are worth, without training: scores on sampled grid points of a few snapshots.

Descriptors are computed on a coarser grid inside each snapshot's own: the same numbers at the sampled points, without
those of the thousands of points in between.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Dataset
from ..data.snapshot import Snapshot, Split
from ..descriptors.bispectrum import bispectrum
from ..descriptors.settings import BispectrumSettings
from .acsd import acsd
from .kernel_ridge import fit
from .training_data import MiniBatch, Scaling, SnapshotData

Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class SampledPoints:
    """Random grid points of one snapshot, all on the coarser grid that starts at point ``origin`` of the snapshot's.

    rows: of the coarse grid, (n_points,), in random order.
    ldos: (n_points, n_energy) [1/(eV Å³)].
    """

    snapshot: Snapshot
    coarse: Grid
    origin: Grid
    rows: NDArray[np.int64]
    ldos: NDArray[np.floating]

    def descriptors(self, settings: BispectrumSettings) -> NDArray[np.float32]:
        """Descriptors of the points, (n_points, n_components).  Errors as ``bispectrum``."""
        s = self.snapshot
        shift = np.divide(self.origin, s.grid) @ s.cell
        return bispectrum(s.cell, s.positions - shift, s.numbers, self.coarse, settings)[self.rows]


@dataclass(frozen=True, eq=False)
class Sample:
    """The grid points of a screen: those fitted on, of training snapshots, and those predicted, of validation ones."""

    train: Sequence[SampledPoints]
    validation: Sequence[SampledPoints]


@dataclass(frozen=True)
class SettingScores:
    """The scores of one setting, lower is better, and what they cost in CPU time.

    kernel_ridge: 1 - R² of the LDOS at the validation points.
    acsd, acsd_clipped: average cosine similarity distance, mean over the training snapshots.
    descriptor_cost: of the descriptors [µs a grid point]; the seconds are those of all sampled points.
    """

    cutoff: float
    two_j_max: int
    kernel_ridge: float
    acsd: float
    acsd_clipped: float
    descriptor_cost: float
    descriptor_seconds: float
    kernel_ridge_seconds: float
    acsd_seconds: float


def sample(dataset: Dataset, *, snapshots: int, points: int, seed: int) -> Sample:
    """``points`` grid points of at most ``snapshots`` training snapshots, four fifths as many of validation snapshots.

    Raises:
        DatasetError: no training or no validation snapshot, or an LDOS that is missing or damaged.
    """
    rng = np.random.default_rng(seed)

    def points_of(split: Split, n_points: int) -> list[SampledPoints]:
        chosen = _choose(dataset.split(split), snapshots, rng)
        return [sample_points(dataset, s, -(-n_points // len(chosen)), rng) for s in chosen]

    return Sample(points_of("train", points), points_of("validation", 4 * points // 5))


def _choose(snapshots: Sequence[Snapshot], n: int, rng: np.random.Generator) -> list[Snapshot]:
    """At most ``n`` of them at random, from as many groups as possible."""
    left, chosen = [snapshots[i] for i in rng.permutation(len(snapshots))], list[Snapshot]()
    while left and len(chosen) < n:
        times_chosen = [sum(c.group == s.group for c in chosen) for s in left]
        chosen.append(left.pop(times_chosen.index(min(times_chosen))))
    return sorted(chosen, key=lambda s: s.id)


def sample_points(dataset: Dataset, snapshot: Snapshot, n_points: int, rng: np.random.Generator) -> SampledPoints:
    """``n_points`` grid points of a snapshot (all, if it has fewer), with their LDOS.  Errors as ``Dataset.ldos``."""
    coarse = coarse_grid(snapshot.grid, n_points)
    stride = np.array(snapshot.grid, dtype=np.int64) // np.array(coarse, dtype=np.int64)
    origin = rng.integers(stride)
    rows = rng.permutation(prod(coarse))[:n_points]
    points = np.stack(np.unravel_index(rows, coarse)) * stride[:, None] + origin[:, None]
    index = np.ravel_multi_index(tuple(points), snapshot.grid)
    shards = list(dataset.ldos(snapshot).arrays())
    starts = np.cumsum([0, *map(len, shards)])
    where = np.searchsorted(starts, index, side="right") - 1
    ldos = np.stack([shards[k][i - starts[k]] for k, i in zip(where, index, strict=True)])
    i, j, k = map(int, origin)
    return SampledPoints(snapshot, coarse, (i, j, k), rows, ldos)


def coarse_grid(grid: Grid, n_points: int) -> Grid:
    """The smallest grid of every a-th, b-th and c-th point of ``grid`` that has ``n_points``, or ``grid`` itself.

    Of equally small ones the one with the most even strides.
    """
    strides = product(*([step for step in range(1, n + 1) if n % step == 0] for n in grid))
    enough = [s for s in strides if prod(grid) // prod(s) >= n_points]
    a, b, c = max(enough, key=lambda s: (prod(s), -max(s)), default=(1, 1, 1))
    return grid[0] // a, grid[1] // b, grid[2] // c


def score_setting(settings: BispectrumSettings, sampled: Sample) -> SettingScores:
    """Score one setting.

    Raises:
        InputError: descriptors cannot be computed, or the LDOS is the same everywhere.
    """
    parts = (*sampled.train, *sampled.validation)
    first = parts[0].snapshot
    bispectrum(first.cell, first.positions, first.numbers, (1, 1, 1), settings)  # loads the kernel and its tables
    started = time.process_time()
    train, validation = (
        [SnapshotData(p.snapshot, [p.descriptors(settings)], [p.ldos]) for p in part]
        for part in (sampled.train, sampled.validation)
    )
    computed = time.process_time()
    scaling = Scaling.fit(train)
    ridge = fit(_batch(train, scaling), _batch(validation, scaling))
    fitted = time.process_time()
    distances = np.mean([_acsd(data) for data in train], axis=0)
    ended = time.process_time()
    return SettingScores(
        settings.cutoff,
        settings.two_j_max,
        kernel_ridge=ridge.error,
        acsd=float(distances[0]),
        acsd_clipped=float(distances[1]),
        descriptor_cost=1e6 * (computed - started) / sum(prod(p.coarse) for p in parts),
        descriptor_seconds=computed - started,
        kernel_ridge_seconds=fitted - computed,
        acsd_seconds=ended - fitted,
    )


def _batch(data: Sequence[SnapshotData], scaling: Scaling) -> MiniBatch:
    return MiniBatch(
        np.concatenate([scaling.descriptors(shard[:]) for d in data for shard in d.descriptors]),
        np.concatenate([scaling.ldos(shard[:]) for d in data for shard in d.ldos]),
    )


def _acsd(data: SnapshotData) -> tuple[float, float]:
    """Both variants, over all pairs of a point in the first half and one in the second."""
    (descriptors,), (ldos,) = data.descriptors, data.ldos
    first, second = np.array_split(np.arange(len(ldos)), 2)
    return acsd(descriptors[:], ldos[:], first, second), acsd(descriptors[:], ldos[:], first, second, "clipped")
