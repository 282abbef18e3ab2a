"""Search without training: draw candidates, score them all, train only the best (Fiedler et al. 2022, Sec. III).

With one trained trial this is the paper's method.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .rank_correlation import rank_correlation
from .searcher import WAIT, PastTrial, Scorer, Wait
from .space import Config, Space, checked, draw

Direction = Literal["auto", "published", "original"]


class ScreenOptions(BaseModel):
    """How many candidates to score, how many to train, and which way the score points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=128, ge=1, le=1_000_000, description="configs drawn and scored")
    top: int = Field(default=5, ge=1, description="best-scored candidates to train; 1 is the paper's method")
    calibration: int | None = Field(
        default=None,
        ge=0,
        description="candidates spread over the score's range that are trained first, to judge the score or learn its "
        "direction; default 8 with direction auto, else 0",
    )
    direction: Direction | None = Field(
        default=None,
        description="published: the larger score is better; original: the smaller; auto: learnt from the calibration "
        "trials; default auto for a score whose direction differs from data to data, else published",
    )


class ScreenedSearch:
    """Train the ``top`` candidates by a training-free score.

    Args:
        space: hyperparameter name -> range.
        seed: of the draws; equal seeds and scores propose equal configs in equal order.
        scorer: gives a score to a config, higher is better as published.
        options: numbers of candidates and trials.
        direction: which way the score points where the options leave it open.
    """

    def __init__(
        self, space: Space, seed: int, scorer: Scorer, options: ScreenOptions, *, direction: Direction = "published"
    ) -> None:
        self.space = checked(space)
        self.options = options
        self.direction: Direction = options.direction or direction
        self._scorer = scorer
        self._candidates = _distinct_draws(space, seed, options.candidates)
        self._scores: np.ndarray | None = None
        self._trial_of: dict[int, str] = {}  # candidate -> trial, in the order of asking
        self._values: dict[str, float | None] = {}

    @property
    def _n_calibration(self) -> int:
        if self.options.calibration is not None:
            return self.options.calibration
        return 8 if self.direction == "auto" else 0

    @property
    def least_trials(self) -> int:
        """The calibration, and one trial that the score chose."""
        return min(self._n_calibration + 1, len(self._candidates))

    @property
    def most_trials(self) -> int:
        """The calibration and the best, if no candidate is among both."""
        return min(self._n_calibration + self.options.top, len(self._candidates))

    def ask(self, trial: str) -> Config | Wait | None:
        scores = self._all_scores()
        if scores is None:
            return WAIT
        calibration = self._calibration(scores)
        for candidate in calibration:
            if candidate not in self._trial_of:
                return self._propose(candidate, trial)
        sign = self._sign(scores, calibration)
        if sign is None:
            return WAIT
        usable = np.flatnonzero(np.isfinite(scores))
        ranking = usable[np.argsort(-sign * scores[usable], kind="stable")]
        for candidate in ranking[: self.options.top]:
            if candidate not in self._trial_of:
                return self._propose(int(candidate), trial)
        return None

    def tell(self, trial: str, value: float | None) -> None:
        self._values[trial] = value

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            self._trial_of[self._candidates.index(past.config)] = past.trial
            if past.finished:
                self.tell(past.trial, past.value)

    def _propose(self, candidate: int, trial: str) -> Config:
        self._trial_of[candidate] = trial
        return dict(self._candidates[candidate])

    def _all_scores(self) -> np.ndarray | None:
        """Scores of all candidates (n_candidates,), NaN where there is none; None while some are under way."""
        if self._scores is None:
            scores = self._scorer(self._candidates)
            if any(s is None for s in scores):
                return None
            self._scores = np.array(scores, dtype=float)
        return self._scores

    def _calibration(self, scores: np.ndarray) -> list[int]:
        """Candidates at evenly spaced ranks of the score, best and worst among them."""
        usable = np.flatnonzero(np.isfinite(scores))
        ordered = usable[np.argsort(scores[usable], kind="stable")]
        n = min(self._n_calibration, len(ordered))
        return [int(ordered[i]) for i in np.unique(np.linspace(0, len(ordered) - 1, n).round().astype(int))]

    def _sign(self, scores: np.ndarray, calibration: list[int]) -> int | None:
        """+1 when the larger score is better, -1 when the smaller; None until the calibration trials have ended."""
        if self.direction != "auto":
            return 1 if self.direction == "published" else -1
        trials = [self._trial_of[c] for c in calibration]
        if any(t not in self._values for t in trials):
            return None
        known = [(scores[c], v) for c, t in zip(calibration, trials, strict=True) if (v := self._values[t]) is not None]
        if len(known) < 2:
            return 1
        tau, _ = rank_correlation(*zip(*known, strict=True))
        return -1 if tau < 0 else 1


def _distinct_draws(space: Space, seed: int, n: int) -> list[Config]:
    """Up to ``n`` different configs; fewer when the space holds no more (20 draws in a row bring nothing new)."""
    rng = np.random.default_rng(seed)
    found: dict[tuple, Config] = {}
    idle = 0
    while len(found) < n and idle < 20:
        config = draw(space, rng)
        key = tuple(config.values())
        idle = 0 if key not in found else idle + 1
        found.setdefault(key, config)
    return list(found.values())
