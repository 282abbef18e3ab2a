"""Which configurations are trained on: whole symmetry orbits, all compositions alike; and images of configurations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..errors import DatasetError
from ..kind import SPLITS, Split

if TYPE_CHECKING:
    from .data import AlloyData

Int = NDArray[np.int64]


class SplitSettings(BaseModel):
    """The table [splits] of a study file: shares and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, description="equal seeds give equal splits")
    validation: float = Field(default=0.15, gt=0, lt=0.5, description="share of the orbits that trials are judged by")
    test: float = Field(default=0.2, gt=0, lt=0.5, description="share of the orbits that the surrogate is judged by")
    rows: int | None = Field(default=None, ge=3, description="orbits to train on, at most; for learning curves")
    folds: int = Field(
        default=1,
        ge=1,
        le=20,
        description="trainings of each trial, with one value, their mean: all orbits but those for the test take turns "
        "at validation",
    )


def split_rows(data: "AlloyData", settings: SplitSettings, fold: int | None = None) -> Mapping[Split, Int]:
    """Rows of the converged configurations in each split.

    The orbits stand in a row by composition, in random order within one.  Those for testing, then those for
    validation, are drawn at equal distances from a random start, so every composition gives its share.  Pure crystals
    are always trained on: all energies refer to them.

    Args:
        data: opened.
        settings: shares and seed.
        fold: of ``settings.folds``.  What is for testing is the same in all; of the rest, each orbit is for validation
            in one of them.  None: the share that ``settings`` say.

    Raises:
        DatasetError: there are too few orbits for three splits, or for the folds.
    """
    all, rng = data.all, np.random.default_rng([settings.seed, 17])
    rows_of: dict[str, list[int]] = {}
    for row in np.flatnonzero(all.converged):
        rows_of.setdefault(all.orbit[row], []).append(int(row))
    composition = {orbit: int(all.n_second[rows[0]]) for orbit, rows in rows_of.items()}
    pure = [orbit for orbit, n in composition.items() if n in (0, all.species.shape[1])]
    mixed = sorted(set(rows_of) - set(pure))
    mixed = [mixed[i] for i in rng.permutation(len(mixed))]
    mixed.sort(key=composition.__getitem__)  # stable: random within a composition
    test, rest = _drawn(mixed, settings.test, rng)
    if fold is None:
        validation, train = _drawn(rest, settings.validation / (1 - settings.test), rng)
    else:
        validation = rest[fold :: settings.folds]
        train = [orbit for i, orbit in enumerate(rest) if i % settings.folds != fold]
    if settings.rows is not None and len(train) + len(pure) > settings.rows:
        train, _ = _drawn(train, max(1, settings.rows - len(pure)) / len(train), rng)
    if not (test and validation and train):
        raise DatasetError(f"{data.location}: {len(mixed)} mixed orbits are too few for three splits; compute more")
    chosen = {"train": [*pure, *train], "validation": validation, "test": test}
    return {name: np.array(sorted(row for orbit in chosen[name] for row in rows_of[orbit])) for name in SPLITS}


def _drawn(orbits: Sequence[str], share: float, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """A share of a row of orbits at equal distances, and the rest.  The number of them does not depend on chance."""
    n = round(share * len(orbits))
    taken = set() if n == 0 else set(np.floor((np.arange(n) + rng.random()) * len(orbits) / n).astype(int).tolist())
    return [o for i, o in enumerate(orbits) if i in taken], [o for i, o in enumerate(orbits) if i not in taken]


def images(by_site: NDArray, permutations: Int, chosen: Int) -> NDArray:
    """Symmetry images of configurations, or of what they have by site.

    Args:
        by_site: (n, n_sites).
        permutations: of the lattice, (n_operations, n_sites).
        chosen: which operation for each, (n,).
    """
    return np.take_along_axis(by_site, permutations[chosen], axis=1)
