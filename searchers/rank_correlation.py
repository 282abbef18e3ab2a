"""How well a training-free score ranks configs: Kendall's rank correlation with what their training came to."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau


def rank_correlation(scores: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Kendall's τ of scores and minus values, and its standard error under no correlation.

    τ is +1 where a higher score always meant a lower value, NaN where all scores or all values are equal.  The error
    is sqrt(2 (2n + 5) / (9 n (n - 1))).

    Args:
        scores, values: (n,), finite, n of 2 or more.

    Source: Kendall, Rank Correlation Methods (1948).
    """
    n = len(scores)
    tau = float(kendalltau(scores, -np.asarray(values, dtype=float)).statistic)
    return tau, math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
