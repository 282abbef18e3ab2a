"""Orthogonal array tuning (Zhang et al., arXiv:1907.13359 (2019); used by Fiedler et al. (2022)).

Train the rows of an orthogonal array, compare the means of each hyperparameter's levels, train the best combination.

A conditional hyperparameter has a column like any other, and counts only in the rows in which it exists.  There the
other ones are no longer exactly balanced, so that its means mix with theirs a little; the optimum is taken from the
additive model, which tells them apart.  Over 300 additive functions of three layers' widths, activation and learning
rate (1,008 configs, 23 runs) that finds the best config always; the smallest means find it in 40 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .grid_search import LevelGrid
from .orthogonal_array import orthogonal_array
from .searcher import WAIT, PastTrial, Wait
from .space import Config, Space, Value, active, checked, levels_of

# Above this unexplained share the spread around the additive model is a third of that of the values (0.1 = 0.32²).
MOST_UNEXPLAINED = 0.1


class OatOptions(BaseModel):
    """Which orthogonal arrays are admitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balanced: bool = Field(
        default=False,
        description="only arrays with all levels of a hyperparameter equally often; they can be far larger where the "
        "numbers of levels have different prime factors",
    )
    max_runs: int | None = Field(default=None, ge=1, description="refuse a space whose array has more runs")


@dataclass(frozen=True)
class LevelMeans:
    """The values by the levels of one hyperparameter.

    Args:
        name: of the hyperparameter.
        levels: its levels, in the order of the space.
        means: mean value over the runs of each level, failed ones left out, and for a conditional hyperparameter those
            in which it does not exist; None where no run has a value.
        range: largest minus smallest mean, the hyperparameter's importance.
    """

    name: str
    levels: tuple[Value, ...]
    means: tuple[float | None, ...]
    range: float


@dataclass(frozen=True)
class RangeAnalysis:
    """What the array says so far, in values as they were told: smaller is better.

    Args:
        hyperparameters: the most important first.
        optimum: the config of least value by the additive model, a constant and one term for each level that exists,
            fitted to the runs.  Without failed runs and conditions it is the level of the smallest mean of each
            hyperparameter, the first of equal ones.
        predicted: value of ``optimum`` by that model.  Without failed runs and conditions it is the mean of all plus,
            for each hyperparameter, the best level's mean minus the mean of all.
        confirmed: value that ``optimum`` was trained to; None before that or if it failed.
        unexplained: share of the values' variance that the additive model leaves, both per degree of freedom, between
            0 and 1; None if it has as many terms as there are values, so that nothing is left to judge it by.
    """

    hyperparameters: tuple[LevelMeans, ...]
    optimum: Config
    predicted: float
    confirmed: float | None
    unexplained: float | None

    @property
    def interactions(self) -> bool | None:
        """Whether hyperparameters act on each other so much (or values are so noisy) that means of levels mislead.

        None if the runs cannot tell.  False is no proof: strength 2 mixes some interactions with means of levels, and
        only ``confirmed`` far from ``predicted`` shows those.
        """
        return None if self.unexplained is None else self.unexplained > MOST_UNEXPLAINED


class OatSearch:
    """All rows of an orthogonal array over the levels, in parallel; then the optimum that they predict.

    Rows that coincide (levels can be collapsed, and conditional hyperparameters do not exist in all rows) are trained
    once and count as often as they stand in the array, which keeps its balance.

    Args:
        space: hyperparameter name -> range.
        seed: of the order of the rows, and of which of a hyperparameter's levels stands for which in the array.
        options: admitted arrays.

    Raises:
        ValueError: no admitted array.
    """

    def __init__(self, space: Space, seed: int, options: OatOptions) -> None:
        self.space = checked(space)
        self._levels = {name: tuple(levels) for name, levels in levels_of(space).items()}
        array = orthogonal_array(
            [len(levels) for levels in self._levels.values()], max_runs=options.max_runs, balanced=options.balanced
        )
        rng = np.random.default_rng(seed)
        for column, levels in zip(array.T, self._levels.values(), strict=True):
            column[:] = rng.permutation(len(levels))[column]
        # Distinct rows (n_configs, n_hyperparameters) as indices of levels, -1 for what does not exist there; and how
        # often each stands in the array.
        distinct, copies = np.unique([self._row(self._config(row)) for row in array], axis=0, return_counts=True)
        order = rng.permutation(len(distinct))
        self._rows: NDArray[np.int64] = distinct[order]
        self._copies: NDArray[np.int64] = copies[order]
        self._configs = [self._config(row) for row in self._rows]
        self._trial_of: dict[int, str] = {}  # row -> trial
        self._confirmation: str | None = None
        self._values: dict[str, float | None] = {}

    def ask(self, trial: str) -> Config | Wait | None:
        for row, config in enumerate(self._configs):
            if row not in self._trial_of:
                self._trial_of[row] = trial
                return dict(config)
        if any(t not in self._values for t in self._trial_of.values()):
            return WAIT
        if self._confirmation is not None or not np.isfinite(self._row_values()).any():
            return None
        optimum = self._optimum()
        if optimum in self._configs:
            return None
        self._confirmation = trial
        return optimum

    @property
    def least_trials(self) -> int:
        """The rows of the array, and the confirmation."""
        return len(self._rows) + 1

    def tell(self, trial: str, value: float | None) -> None:
        self._values[trial] = value

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            if past.config in self._configs:
                self._trial_of[self._configs.index(past.config)] = past.trial
            elif self._confirmation is None and len(self._trial_of) == len(self._configs):
                self._confirmation = past.trial
            else:
                raise ValueError(
                    f"trial {past.trial} is no row of this orthogonal array: {past.config}; its history belongs to "
                    "another space or other options"
                )
            if past.finished:
                self.tell(past.trial, past.value)

    def analysis(self) -> RangeAnalysis:
        """The range analysis of the rows that have a value.

        Raises:
            ValueError: none has.
        """
        values = self._row_values()
        known = np.isfinite(values)
        if not known.any():
            raise ValueError("no row of the orthogonal array has a value yet")
        optimum = self._optimum()
        if optimum in self._configs:
            trial = self._trial_of.get(self._configs.index(optimum))
        else:
            trial = self._confirmation
        predicted, unexplained = self._additive_model(optimum)
        return RangeAnalysis(
            hyperparameters=tuple(sorted(self._level_means(), key=lambda h: -h.range)),
            optimum=optimum,
            predicted=predicted,
            confirmed=None if trial is None else self._values.get(trial),
            unexplained=unexplained,
        )

    def explanation(self) -> list[str]:
        """Importance of the hyperparameters, predicted against trained value, and whether means of levels mislead."""
        if not np.isfinite(self._row_values()).any():
            return []
        found = self.analysis()
        lines = ["orthogonal array: mean value of each level, the most important hyperparameter first"]
        for h in found.hyperparameters:
            means = ", ".join(
                f"{level:.3g}: {mean}" if isinstance(level, float) else f"{level}: {mean}"
                for level, mean in zip(h.levels, ("-" if m is None else f"{m:.4g}" for m in h.means), strict=True)
            )
            lines.append(f"  {h.name}: {means}")
        trained = "not trained" if found.confirmed is None else f"trained to {found.confirmed:.4g}"
        lines.append(f"  its best levels together: predicted {found.predicted:.4g}, {trained}")
        if found.interactions is not None and found.unexplained is not None:
            share = f"{100 * found.unexplained:.0f} % of the variance is not explained by levels alone"
            verdict = (
                "hyperparameters interact, or values are noisy" if found.interactions else "no sign of interactions"
            )
            lines.append(f"  {share}: {verdict}")
        return lines

    def _config(self, row: Sequence[int] | NDArray[np.int64]) -> Config:
        point = {name: levels[i] for (name, levels), i in zip(self._levels.items(), row, strict=True)}
        return active(self.space, point)

    def _row(self, config: Config) -> list[int]:
        return [levels.index(config[name]) if name in config else -1 for name, levels in self._levels.items()]

    def _row_values(self) -> NDArray[np.float64]:
        """Values of the distinct rows, NaN where there is none."""
        values = (self._values.get(self._trial_of.get(row, "")) for row in range(len(self._rows)))
        return np.array([math.nan if v is None else v for v in values])

    def _level_means(self) -> list[LevelMeans]:
        values = self._row_values()
        found = []
        for column, (name, levels) in zip(self._rows.T, self._levels.items(), strict=True):
            means: list[float | None] = []
            for i in range(len(levels)):
                here = (column == i) & np.isfinite(values)
                means.append(float(np.average(values[here], weights=self._copies[here])) if here.any() else None)
            known = [mean for mean in means if mean is not None] or [0.0]
            found.append(LevelMeans(name, levels, tuple(means), max(known) - min(known)))
        return found

    def _optimum(self) -> Config:
        """The config of the least value by the additive model, of levels that stand in a run with a value."""
        values = self._row_values()
        known = np.isfinite(values)
        coefficients, _ = self._coefficients()
        # Equal effects differ by rounding, and the first of equal ones is taken.
        rounded = np.round(coefficients / (np.abs(values[known]).max() or 1.0), 9)
        terms = np.where(self._terms(self._rows[known]).any(axis=0), rounded, np.inf)[1:]
        ends = np.cumsum([len(levels) for levels in self._levels.values()])[:-1]
        effects = {
            name: dict(zip(levels, of_levels.tolist(), strict=True))
            for (name, levels), of_levels in zip(self._levels.items(), np.split(terms, ends), strict=True)
        }
        return LevelGrid(self.space).least(effects)

    def _coefficients(self) -> tuple[NDArray[np.float64], int]:
        """The additive model's constant and effects of the levels, and how many of them the runs determine."""
        values = self._row_values()
        known = np.isfinite(values)
        root = np.sqrt(self._copies[known])
        # The terms are redundant (most hyperparameters' sum to 1); the least of all solutions treats levels alike.
        terms = self._terms(self._rows[known])
        coefficients, _, rank, _ = np.linalg.lstsq(terms * root[:, None], values[known] * root, rcond=1e-9)
        return coefficients.astype(np.float64), int(rank)

    def _additive_model(self, optimum: Config) -> tuple[float, float | None]:
        """Its value at the optimum, and the share of the variance that it leaves unexplained."""
        values = self._row_values()
        known = np.isfinite(values)
        y, weights = values[known], self._copies[known]
        coefficients, rank = self._coefficients()
        predicted = float((self._terms(np.array([self._row(optimum)])) @ coefficients)[0])
        spare = len(y) - rank
        if spare == 0:
            return predicted, None
        total = weights @ (y - np.average(y, weights=weights)) ** 2
        if total <= (1e-12 * np.abs(y).max()) ** 2 * weights.sum():
            return predicted, 0.0  # equal values but for rounding: nothing to explain
        residual = weights @ (y - self._terms(self._rows[known]) @ coefficients) ** 2
        return predicted, min(float(residual / spare / (total / (len(y) - 1))), 1.0)

    def _terms(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """A 1 and an indicator of each level, all 0 for what does not exist, shape (n_rows, 1 + sum of n_levels)."""
        sizes = [len(levels) for levels in self._levels.values()]
        indicators = [column[:, None] == np.arange(s) for s, column in zip(sizes, rows.T, strict=True)]
        return np.hstack([np.ones((len(rows), 1)), *indicators])
