"""How well a training-free score ranks trials, judged by those that were trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...searchers.rank_correlation import rank_correlation

if TYPE_CHECKING:
    from .trial import LedgerTrial


@dataclass(frozen=True)
class ScoreQuality:
    """Rank correlation of a score with accuracy over trained trials.

    tau: Kendall's τ as ``rank_correlation``; None when fewer than two trials or one score for all.
    tau_error: its standard error under no correlation.
    regret: value of the best-scored trial over the best value, minus one.
    """

    name: str
    n_trials: int
    tau: float | None
    tau_error: float | None
    regret: float | None

    @property
    def title(self) -> str:
        """Of the panel that shows the trials: τ, its error, and of how many."""
        if self.tau is None:
            return "too few trials for τ"
        return f"τ = {self.tau:+.2f} (standard error {self.tau_error:.2f}), n = {self.n_trials}"

    def __str__(self) -> str:
        if self.tau is None or self.tau_error is None or self.regret is None:
            return f"{self.name}: too few trials to judge"
        tau = f"τ {self.tau:+.2f} (standard error {self.tau_error:.2f})"
        return f"{self.name}: {tau}, regret {100 * self.regret:.1f} % (n = {self.n_trials})"


def score_quality(name: str, scores: Sequence[float], values: Sequence[float]) -> ScoreQuality:
    """Judge a score (higher is better) by the values (lower is better, positive) of the same trials.

    Args:
        name: of the score.
        scores, values: (n_trials,), finite.
    """
    n = len(scores)
    if n < 2 or len(set(scores)) < 2:
        return ScoreQuality(name, n, None, None, None)
    tau, tau_error = rank_correlation(scores, values)
    regret = float(values[int(np.argmax(scores))] / min(values) - 1)
    return ScoreQuality(name, n, tau, tau_error, regret)


def qualities(trials: "Sequence[LedgerTrial]", main: str | None) -> list[ScoreQuality]:
    """Quality of each score over the finished trials that have it, the score named ``main`` first."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        for name, score in trial.scores.items():
            if trial.value is not None and math.isfinite(score):
                pairs.setdefault(name, []).append((score, trial.value))
    names = sorted(pairs, key=lambda n: (n != main, n))
    return [score_quality(n, [s for s, _ in pairs[n]], [v for _, v in pairs[n]]) for n in names]
