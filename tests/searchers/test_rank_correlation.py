"""Kendall's rank correlation of a score: against counting pairs and scipy, and its error against shuffled values."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from dftune.searchers.rank_correlation import rank_correlation


def by_counting(scores, values) -> float:
    """τ_b: pairs in which the higher score has the lower value, less those the other way round, of those untied."""
    signs = [
        (np.sign(s - other_s), np.sign(other_v - v))
        for (s, v), (other_s, other_v) in itertools.combinations(zip(scores, values, strict=True), 2)
    ]
    of_scores, of_values = np.array(signs).T
    return (of_scores @ of_values) / math.sqrt((of_scores @ of_scores) * (of_values @ of_values))


@pytest.mark.parametrize("n_ranks", [3, 1000], ids=["ties", "few ties"])
@pytest.mark.parametrize("n", [5, 12, 60])
def test_it_is_what_counting_the_pairs_gives(n, n_ranks):
    rng = np.random.default_rng(n)
    scores = rng.integers(n_ranks, size=n)
    values = rng.integers(n_ranks, size=n) - scores
    assert rank_correlation(scores, values)[0] == pytest.approx(by_counting(scores, values), rel=1e-12)


def test_a_score_that_falls_with_the_value_has_one_and_one_that_rises_minus_one():
    values = [0.1, 0.5, 0.2, 3.0]
    assert rank_correlation([-v for v in values], values)[0] == pytest.approx(1)
    assert rank_correlation(values, values)[0] == pytest.approx(-1)


@pytest.mark.parametrize("equal", [([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])])
def test_equal_scores_or_values_say_nothing(equal):
    assert math.isnan(rank_correlation(*equal)[0])


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_error_is_the_spread_over_all_orders_of_the_values(n):
    taus = [rank_correlation(range(n), order)[0] for order in itertools.permutations(range(n))]
    assert rank_correlation(range(n), range(n))[1] == pytest.approx(np.std(taus), rel=1e-12)


@pytest.mark.parametrize("n_ranks", [2, 4, 20, 10**6])
def test_it_is_what_scipy_gives(n_ranks):
    from scipy.stats import kendalltau

    rng = np.random.default_rng(n_ranks)
    for n in (2, 3, 5, 8, 30, 100, 700):
        for _ in range(8):
            scores = rng.integers(n_ranks, size=n) / 7
            values = rng.integers(n_ranks, size=n) / 3 - rng.choice([-1, 0, 1]) * scores
            expected = kendalltau(scores, -values).statistic
            assert rank_correlation(scores, values)[0] == pytest.approx(expected, rel=1e-14, nan_ok=True)


def test_many_ties_leave_it_at_one():
    scores = np.repeat([0.0, 1.0], 2000)
    assert rank_correlation(scores, -scores)[0] == 1
    assert rank_correlation(scores, scores)[0] == -1


def test_it_does_not_import_scipy():
    code = "import sys, dftune.searchers.rank_correlation; print([m for m in sys.modules if m.startswith('scipy')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
