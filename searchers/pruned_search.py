"""Optuna pruned by a training-free score: candidates that the score rules out are not trained.

A fixed ``threshold`` is the pruner of Fiedler et al. (2022), Sec. III.  Without one the bar is learnt from the trained
trials (``learnt_bar``).  A learnt bar needs no scale and finds the direction of the score.  It prunes nothing while the
score is of no use.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from .optuna_samplers import OptunaOptions
from .optuna_search import OptunaSearch
from .rank_correlation import rank_correlation
from .searcher import WAIT, PastTrial, Pruned, Scorer, SearchError, Wait
from .space import Config, Space

BEST_SHARE = 0.3  # of the trained trials: the worst score among them is the bar
UNPRUNED = 0.05  # of the candidates below the bar are trained all the same, so that a wrong bar is found out


class PrunedOptions(OptunaOptions):
    """Options of Optuna, and when a score rules a candidate out."""

    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="fixed bar: candidates that score worse are pruned (the paper's method); default a learnt bar",
    )
    direction: Literal["published", "original"] | None = Field(
        default=None,
        description="of a fixed threshold: published: candidates below it are pruned (default); original: above it",
    )
    warmup: int = Field(default=8, ge=3, description="trained trials before the learnt bar is used")
    lookahead: int = Field(default=8, ge=1, le=256, description="candidates to score while one is waited for")
    most_pruned: int = Field(default=200, ge=1, description="candidates pruned in a row that end the search")

    @model_validator(mode="after")
    def _direction_has_a_use(self) -> "PrunedOptions":
        if self.direction is not None and self.threshold is None:
            raise ValueError("direction belongs to a fixed threshold; a learnt bar finds it from the trials")
        if self.threshold is not None and "warmup" in self.model_fields_set:
            raise ValueError("warmup belongs to a learnt bar; leave it out with a threshold")
        return self


class PrunedSearch:
    """Ask Optuna, score the candidate, and prune or train it.

    To Optuna a pruned candidate stays one under way, which its constant liar counts among the bad ones.

    Of several objectives the score still speaks of the first alone: few of the networks that are far from the best of
    it, and good in another one, are trained.

    Args:
        space: hyperparameter name -> range.
        seed: equal seeds, scores and histories propose equal configs.
        scorer: gives a score to a config, higher is better as published.
        options: of sampler and pruner.
        n_objectives: how many numbers are minimised beside each other.
    """

    def __init__(
        self, space: Space, seed: int, scorer: Scorer, options: PrunedOptions, *, n_objectives: int = 1
    ) -> None:
        self.options = options
        self._seed, self._scorer = seed, scorer
        self._inner = OptunaSearch(space, seed, options, n_objectives=n_objectives)
        self._ahead: list[Config] = []  # asked of Optuna and not yet proposed: candidates ``_proposed`` and on
        self._proposed = 0
        self._index: dict[str, int] = {}  # trial -> candidate
        self._configs: dict[str, Config] = {}  # of the trials trained
        self._scores: dict[str, float] = {}  # of the trials trained, where they are known by now
        self._values: dict[str, float] = {}
        self._learnt: _Bar | None = None  # by the values told so far, once it is known
        self._in_a_row: list[Config] = []  # pruned since the last candidate that was not

    def ask(self, trial: str) -> Config | Pruned | Wait | None:
        if len(self._in_a_row) >= self.options.most_pruned:
            self._refuse_if_nothing_passed()
            return None
        self._look_ahead(1)
        if not self._ahead:
            return None
        score = self._scorer(self._ahead)[0]
        bar = self._bar()
        if score is None or bar is None:
            self._look_ahead(self.options.lookahead)  # for the scorer to go on with, when asked again
            return WAIT
        config, index = self._ahead.pop(0), self._proposed
        self._proposed += 1
        self._index[trial] = index
        if bar.passes(score) or self._let_through(index):
            self._in_a_row.clear()
            self._configs[trial], self._scores[trial] = config, score
            return dict(config)
        self._in_a_row.append(config)
        return Pruned(config)

    def tell(self, trial: str, value: float | None, *others: float) -> None:
        if self._inner.learns:  # so those asked ahead would be others now
            while self._ahead:
                self._ahead.pop()
                self._inner.withdraw(str(self._proposed + len(self._ahead)))
        self._inner.tell(str(self._index[trial]), value, *others)
        if value is not None:
            self._values[trial], self._learnt = value, None

    def replay(self, history: Sequence[PastTrial]) -> None:
        for index, past in enumerate(history):
            self._index[past.trial] = index
            if past.pruned:
                self._in_a_row.append(past.config)
            else:
                self._in_a_row.clear()
                self._configs[past.trial] = past.config
            if past.value is not None:
                self._values[past.trial] = past.value
        self._proposed, self._learnt = len(history), None
        self._inner.replay(
            [
                PastTrial(str(n), past.config, past.finished, past.value, past.others, past.pruned)
                for n, past in enumerate(history)
            ]
        )

    @property
    def least_trials(self) -> int:
        """Those before the bar, and one after it."""
        return self._inner.least_trials if self.options.threshold is not None else self.options.warmup + 1

    def explanation(self) -> list[str]:
        """How many candidates were pruned, and by which bar."""
        n_pruned = len(self._index) - len(self._configs)
        bar = self._bar()
        rule = "the scores of some trained trials are not known" if bar is None else str(bar)
        return [f"{n_pruned} of {len(self._index)} candidates pruned by their score; now {rule}"] if self._index else []

    def _look_ahead(self, n: int) -> None:
        """Ask Optuna for candidates until there are ``n``, or no more; a value told replaces them, so only few."""
        while len(self._ahead) < n and (config := self._inner.ask(str(self._proposed + len(self._ahead)))) is not None:
            self._ahead.append(config)

    def _let_through(self, index: int) -> bool:
        """Whether this candidate is trained although a learnt bar rules it out."""
        if self.options.threshold is not None:
            return False
        return float(np.random.default_rng([self._seed, 2, index]).random()) < UNPRUNED

    def _bar(self) -> "_Bar | None":
        """The rule by the trials told so far; None while one of their scores is still under way."""
        if (threshold := self.options.threshold) is not None:
            return _Bar(threshold, -1 if self.options.direction == "original" else 1)
        if self._learnt is not None:
            return self._learnt
        if unknown := [t for t in self._values if t not in self._scores]:  # of an earlier session
            found = self._scorer([self._configs[t] for t in unknown])
            self._scores |= {t: score for t, score in zip(unknown, found, strict=True) if score is not None}
            if None in found:
                return None
        pairs = [(score, value) for t, value in self._values.items() if math.isfinite(score := self._scores[t])]
        self._learnt = learnt_bar(pairs, self.options.warmup)
        return self._learnt

    def _refuse_if_nothing_passed(self) -> None:
        if self._configs:
            return
        scores = sorted(s for s in self._scorer(self._in_a_row) if s is not None and math.isfinite(s))
        seen = (
            f"whose scores lie between {scores[0]:.5g} and {scores[-1]:.5g}" if scores else "none of which has a score"
        )
        raise SearchError(
            f"threshold {self.options.threshold:g} pruned all of {len(self._in_a_row)} candidates, {seen}; choose a "
            "threshold between the scores, or leave it out to have it learnt"
        )


@dataclass(frozen=True)
class _Bar:
    """Candidates with ``sign`` * score below ``sign`` * ``score`` are pruned."""

    score: float
    sign: int
    tau: float | None = None

    def passes(self, score: float) -> bool:
        """Whether a candidate of this score is worth training; one that has none is not, once there is a bar."""
        if math.isnan(score):
            return math.isinf(self.score)
        return self.sign * score >= self.sign * self.score

    def __str__(self) -> str:
        if math.isinf(self.score):
            return "all are trained" + ("" if self.tau is None else f" (τ {self.tau:+.2f} says nothing)")
        side = "below" if self.sign > 0 else "above"
        return f"those {side} {self.score:.5g} are pruned" + ("" if self.tau is None else f" (τ {self.tau:+.2f})")


def learnt_bar(pairs: Sequence[tuple[float, float]], warmup: int = 8) -> _Bar:
    """The rule by which a learnt bar prunes.

    The bar is the worst score among the best 30 % of the trained trials, in the direction of their rank correlation τ,
    while |τ| exceeds its standard error; else no bar.

    Args:
        pairs: (score, value) of each trained trial, finite.
        warmup: fewer pairs than this give no bar.
    """
    n = len(pairs)
    if n < max(warmup, 2):
        return _Bar(-math.inf, 1)
    scores, values = np.array(pairs, dtype=float).T
    tau, error = rank_correlation(scores, values)
    if not abs(tau) > error:
        return _Bar(-math.inf, 1, tau if math.isfinite(tau) else 0.0)
    sign = 1 if tau > 0 else -1
    best = np.argsort(values, kind="stable")[: math.ceil(BEST_SHARE * n)]
    return _Bar(float(sign * (sign * scores[best]).min()), sign, tau)
