"""How far grid points are from those of the training, all components of their descriptors taken together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .training_data import SnapshotData, TrainingData

Float32 = NDArray[np.float32]
N_POINTS = 2000  # of the training that are kept, and of each validation snapshot that are measured
# Variance that every direction has at least, where a component has 1: a bispectrum of 55 components varies in about ten
# directions, and noise in the others would drown them.
FLOOR = 0.01
CHUNK = 128  # points at once, whose distances, 1 MB, stay in a cache: 1,024 take 1.6 to 2.3 times as long


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Points of the training in whitened descriptors, and how far validation snapshots are from them.

    With standardised descriptors x of covariance C = V λ Vᵀ, the distance of a grid point is that of its nearest
    training point t,

        d² = min_t |(x - t) V (λ + FLOOR)^(-1/2)|²,

    and that of a snapshot is the root mean square over its grid points.

    directions: V (λ + FLOOR)^(-1/2), (n_components, n_components).  points: t V (λ + FLOOR)^(-1/2), (n_points,
    n_components).  validation: distances of the validation snapshots, (n_snapshots,).
    """

    directions: Float32
    points: Float32
    validation: Float32

    @classmethod
    def fit(cls, data: TrainingData, seed: int = 0) -> "Neighbours":
        """Random points of the training snapshots, and the validation snapshots' distance from them."""
        rng = np.random.default_rng(seed)
        x = _sample(data.train, data, rng).astype(np.float64)
        variances, axes = np.linalg.eigh(np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1))
        directions = (axes / np.sqrt(np.maximum(variances, 0) + FLOOR)).astype(np.float32)
        found = cls(directions, x.astype(np.float32) @ directions, np.zeros(0, dtype=np.float32))
        away = [found.squares(_sample([s], data, rng)).mean() ** 0.5 for s in data.validation]
        return cls(found.directions, found.points, np.array(away, dtype=np.float32))

    def squares(self, standardised: Float32) -> NDArray[np.float64]:
        """d² of grid points.

        Args:
            standardised: descriptors, as ``Scaling.descriptors`` gives them, (n_points, n_components).

        Returns:
            (n_points,).
        """
        return nearest(standardised @ self.directions, self.points)

    @property
    def usual(self) -> float:
        """The median distance of the validation snapshots."""
        return float(np.median(self.validation))

    @property
    def largest(self) -> float:
        """The largest distance of a validation snapshot, in units of ``usual``."""
        return float(self.validation.max()) / self.usual

    def tensors(self) -> dict[str, Float32]:
        """All of it by name, for a file: ``neighbours.points`` and so on."""
        return {f"neighbours.{name}": value for name, value in vars(self).items()}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], n_components: int) -> "Neighbours | None":
        """From tensors by name; None where they are not among them.

        Raises:
            ModelError: they are damaged.
        """
        parts = {name: tensors.get(f"neighbours.{name}") for name in cls.__annotations__}
        if all(part is None for part in parts.values()):
            return None
        shapes = {name: None if part is None else part.shape for name, part in parts.items()}
        directions, points, validation = shapes.values()
        square = directions == (n_components, n_components)
        if not square or points is None or points[1:] != (n_components,) or validation is None or min(validation) < 1:
            raise ModelError(f"neighbours of the shapes {shapes}, the model has {n_components} components")
        if not (np.array(parts["validation"]) > 0).all():
            raise ModelError("validation snapshots without a distance from the training")
        return cls(**{name: np.asarray(part, dtype=np.float32) for name, part in parts.items()})


def nearest(points: Float32, others: Float32) -> NDArray[np.float64]:
    """Squared distance of each point to the nearest of the others, (n_points,), of (n, n_components) each."""
    # |t|² as one more component: added to the products afterwards, it took a quarter of the time.
    wide = np.concatenate([-2 * others.T, (others**2).sum(axis=1)[None]])
    found = []
    for start in range(0, len(points), CHUNK):
        y = points[start : start + CHUNK]
        longer = np.concatenate([y, np.ones_like(y[:, :1])], axis=1)
        found.append((y**2).sum(axis=1) + (longer @ wide).min(axis=1))
    return np.maximum(np.concatenate(found), 0).astype(np.float64)


def _sample(snapshots: Sequence[SnapshotData], data: TrainingData, rng: np.random.Generator) -> Float32:
    """Standardised descriptors of up to ``N_POINTS`` random points of some snapshots."""
    starts = np.cumsum([0, *(s.snapshot.n_points for s in snapshots)])
    chosen = np.sort(rng.choice(starts[-1], size=min(N_POINTS, starts[-1]), replace=False))
    wanted = {
        s.snapshot.id: chosen[(chosen >= first) & (chosen < first + s.snapshot.n_points)] - first
        for s, first in zip(snapshots, starts, strict=False)
    }
    parts = data.places.each(partial(_points, wanted=wanted), None, snapshots)
    return data.scaling.descriptors(np.concatenate(parts))


def _points(network: None, data: SnapshotData, *, wanted: Mapping[str, NDArray[np.int64]]) -> NDArray[np.floating]:
    """Descriptors of some points of a snapshot, shard by shard."""
    rows, parts, first = wanted[data.snapshot.id], [], 0
    for shard in data.descriptors:
        parts.append(shard[rows[(rows >= first) & (rows < first + len(shard))] - first])
        first += len(shard)
    return np.concatenate(parts)
