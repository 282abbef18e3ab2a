"""What alloy networks train on: σ by site, and standardised targets.  eV per atom, e, μ_B."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kind import Split
from .config import TASKS, Task
from .data import AlloyData, Configurations, formation_energy
from .lattice import Lattice
from .splits import SplitSettings, images, split_rows

Float64 = NDArray[np.float64]
SAME = 1e-6  # a target that varies by less does not vary


@dataclass(frozen=True, eq=False)
class Targets:
    """What is learnt of some configurations.

    species: 0 or 1 by site, (n, n_sites).  values: of each task: the formation energy (n, 1) [eV/atom], the net charges
    and the moments (n, n_sites) [e, μ_B].  total: total energies (n,) [eV/atom].
    """

    species: NDArray[np.uint8]
    values: dict[Task, Float64]
    total: Float64

    @classmethod
    def of(cls, found: Configurations, info: Any) -> "Targets":
        """Those of configurations of a dataset with this ``AlloyInfo``."""
        n = info.lattice.n_sites
        formation = formation_energy(found.energy, found.species, info.pure_energies) / n
        charge = found.charge - info.numbers[found.species]
        return cls(found.species, {"E": formation[:, None], "C": charge, "M": found.moment}, found.energy / n)

    def __len__(self) -> int:
        return len(self.species)

    @property
    def sigma(self) -> NDArray[np.float32]:
        """-1 for the first element and +1 for the second, (n, n_sites)."""
        return 2 * self.species.astype(np.float32) - 1


@dataclass(frozen=True, eq=False)
class MiniBatch:
    """Configurations for a score: images drawn at random.

    rows: which of the training configurations each is an image of, (n,).  values: standardised, as in ``Targets``.
    """

    rows: NDArray[np.int64]
    sigma: NDArray[np.float32]
    values: dict[Task, NDArray[np.float32]]
    lattice: Lattice


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What one trial trains on and is validated on.

    folds: the same data split anew, each to be trained on and validated by itself; none where ``SplitSettings.folds``
        is 1.
    """

    train: Targets
    validation: Targets
    lattice: Lattice
    pure_energies: tuple[float, float]
    symbols: tuple[str, str]
    fingerprint: str
    folds: tuple["TrainingData", ...] = ()

    @cached_property
    def scaling(self) -> dict[Task, tuple[float, float]]:
        """Mean and standard deviation of each task over the training, of all sites together."""
        found: dict[Task, tuple[float, float]] = {}
        for task in TASKS:
            values = self.train.values[task]
            std = float(values.std())
            found[task] = (float(values.mean()), std if std > SAME else 1.0)
        return found

    @cached_property
    def varying(self) -> tuple[Task, ...]:
        """Tasks whose targets differ between configurations or sites: moments do not where all are zero."""
        return tuple(task for task in TASKS if float(self.train.values[task].std()) > SAME)

    def sample(self, n_points: int, rng: np.random.Generator) -> MiniBatch:
        """Images of training configurations, each drawn with an operation of its own."""
        rows = rng.integers(len(self.train), size=n_points)
        chosen = rng.integers(len(self.lattice.permutations), size=n_points)
        values: dict[Task, NDArray[np.float32]] = {}
        for task in TASKS:
            mean, std = self.scaling[task]
            some = self.train.values[task][rows]
            moved = some if task == "E" else images(some, self.lattice.permutations, chosen)
            values[task] = ((moved - mean) / std).astype(np.float32)
        sigma = images(self.train.sigma[rows], self.lattice.permutations, chosen)
        return MiniBatch(rows, sigma, values, self.lattice)


def read_training_data(data: AlloyData, settings: SplitSettings) -> tuple[TrainingData, Targets]:
    """Training and test data of a split.  Raises DatasetError: as ``split_rows``."""
    info = data.info

    def targets(rows: Mapping[Split, NDArray[np.int64]], name: Split) -> Targets:
        return Targets.of(data.all.take(rows[name]), info)

    def training(rows: Mapping[Split, NDArray[np.int64]], folds: tuple[TrainingData, ...] = ()) -> TrainingData:
        train, validation = targets(rows, "train"), targets(rows, "validation")
        return TrainingData(train, validation, info.lattice, info.pure_energies, info.symbols, data.fingerprint, folds)

    turns = range(settings.folds) if settings.folds > 1 else ()
    folds = tuple(training(split_rows(data, settings, fold)) for fold in turns)
    rows = split_rows(data, settings)
    return training(rows, folds), targets(rows, "test")
