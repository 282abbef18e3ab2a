"""How far a training-free score is to be trusted, judged by the trials that were trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import kendalltau

if TYPE_CHECKING:
    from .ledger import LedgerTrial


@dataclass(frozen=True)
class ScoreQuality:
    """Rank correlation of a score with accuracy over trained trials.

    tau: Kendall's τ of the score and minus the value: +1 when a higher score always meant a lower error; None when
        fewer than two trials or one score for all.
    tau_error: its standard error under no correlation, sqrt(2 (2n + 5) / (9 n (n - 1))).
    regret: value of the best-scored trial over the best value, minus one.
    """

    name: str
    n_trials: int
    tau: float | None
    tau_error: float | None
    regret: float | None

    def __str__(self) -> str:
        if self.tau is None or self.tau_error is None or self.regret is None:
            return f"{self.name}: too few trials to judge"
        tau = f"τ {self.tau:+.2f} ± {self.tau_error:.2f}"
        return f"{self.name}: {tau}, regret {100 * self.regret:.1f} % (n = {self.n_trials})"


def score_quality(name: str, scores: Sequence[float], values: Sequence[float]) -> ScoreQuality:
    """Judge a score (higher is better) by the values (lower is better, positive) of the same trials.

    Args:
        name: of the score.
        scores, values: (n_trials,), finite.

    Source: Kendall, Rank Correlation Methods (1948), for the standard error.
    """
    n = len(scores)
    if n < 2 or len(set(scores)) < 2:
        return ScoreQuality(name, n, None, None, None)
    tau = float(kendalltau(scores, -np.asarray(values)).statistic)
    regret = float(values[int(np.argmax(scores))] / min(values) - 1)
    return ScoreQuality(name, n, tau, float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))), regret)


def qualities(trials: "Sequence[LedgerTrial]", main: str | None) -> list[ScoreQuality]:
    """Quality of each score over the finished trials that have it, the score named ``main`` first."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        for name, score in trial.scores.items():
            if trial.value is not None and math.isfinite(score):
                pairs.setdefault(name, []).append((score, trial.value))
    names = sorted(pairs, key=lambda n: (n != main, n))
    return [score_quality(n, [s for s, _ in pairs[n]], [v for _, v in pairs[n]]) for n in names]
