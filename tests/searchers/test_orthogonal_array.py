import itertools
import math
import random
import re
import time

import numpy as np
import pytest

from dftune.searchers.orthogonal_array import MOST_RUNS, orthogonal_array

# levels -> runs that the construction needs at most
RUNS = {
    (2,) * 7: 8,
    (3,) * 4: 9,
    (4, 3, 2): 16,
    (4, 4, 4, 2, 2, 2, 2): 16,
    (4, 4, 3, 3, 2): 16,
    (5, 4, 3, 2): 25,
    (5, 5, 4, 4, 3, 3): 25,
    (6, 3, 3, 3, 2): 27,
    (8, 7, 6, 5, 4, 3, 2): 64,
    (8, 8, 8, 6, 5, 5, 4, 3, 3, 2): 64,
    (8,) * 10: 81,
    (10, 10, 5, 4, 3): 100,
    (10,) * 10: 121,
}
# Every functional is in use, so the number of runs is the smallest that any array can have: 1 + sum (s - 1).
SATURATED = {
    (2,) * 31: 32,
    (3,) * 13: 27,
    (5,) * 6: 25,
    (11,) * 12: 121,
    (4,) * 5: 16,
    (8,) * 9: 64,
    (9,) * 10: 81,
    (4, 2, 2, 2, 2): 8,
    (8, *(4,) * 8): 32,
    (8, *(2,) * 8): 16,
    (9, *(3,) * 9): 27,
    (16, *(8,) * 16): 128,
}
DRAW = random.Random(0)
RANDOM = [[DRAW.randint(1, 10) for _ in range(DRAW.randint(1, 10))] for _ in range(60)]


def indicators(array, levels):
    """For each factor, which run has which level: (n_runs, n_levels)."""
    return [np.eye(s, dtype=int)[column] for s, column in zip(levels, array.T, strict=True)]


def assert_orthogonal(array, levels):
    """Exactly proportional joint frequencies, and levels within 2:1."""
    assert array.shape[1] == len(levels)
    factors = indicators(array, levels)
    for factor in factors:
        assert 0 < factor.sum(axis=0).max() <= 2 * factor.sum(axis=0).min()
    for first, second in itertools.combinations(factors, 2):
        joint = first.T @ second
        assert (len(array) * joint == np.outer(first.sum(axis=0), second.sum(axis=0))).all()


@pytest.mark.parametrize("levels, runs", RUNS.items(), ids=str)
def test_an_array_is_orthogonal_and_as_small_as_promised(levels, runs):
    array = orthogonal_array(levels)
    assert len(array) <= runs
    assert_orthogonal(array, levels)


@pytest.mark.parametrize("levels, runs", SATURATED.items(), ids=str)
def test_a_saturated_array_is_reached_and_balanced(levels, runs):
    array = orthogonal_array(levels)
    assert len(array) == runs == 1 + sum(s - 1 for s in levels)
    assert_orthogonal(array, levels)
    assert all(np.ptp(factor.sum(axis=0)) == 0 for factor in indicators(array, levels))


def test_arrays_of_random_levels_are_orthogonal():
    for levels in RANDOM:
        array = orthogonal_array(levels)
        assert_orthogonal(array, levels)
        largest = sorted(levels)[-2:]
        assert max(math.prod(largest), 1 + sum(s - 1 for s in levels)) <= len(array)
        # GF(11)^2 serves up to 12 factors of up to 11 levels.
        assert len(array) <= 121


@pytest.mark.parametrize("levels", [(4, 3, 2), (6, 3, 3, 3, 2), (10, 10, 5, 4, 3), (8,) * 10, (12, 1, 6)], ids=str)
def test_a_balanced_array_has_every_pair_of_levels_equally_often(levels):
    array = orthogonal_array(levels, balanced=True)
    assert_orthogonal(array, levels)
    for first, second in itertools.combinations(indicators(array, levels), 2):
        assert np.ptp(first.T @ second) == 0


def test_balance_costs_runs_only_where_levels_are_collapsed():
    assert len(orthogonal_array((4, 4, 2), balanced=True)) == len(orthogonal_array((4, 4, 2))) == 16
    assert len(orthogonal_array((6, 6, 6), balanced=True)) == len(orthogonal_array((6, 6, 6))) == 36
    assert len(orthogonal_array((4, 3, 2), balanced=True)) == 24 > len(orthogonal_array((4, 3, 2)))


@pytest.mark.parametrize("levels", [(3, 2), (10, 7), (13, 4), (6, 6)], ids=str)
def test_two_factors_have_the_full_factorial(levels):
    array = orthogonal_array(levels)
    assert sorted(map(tuple, array.tolist())) == list(itertools.product(*map(range, levels)))


@pytest.mark.parametrize("n_factors, runs", [(4, 8), (8, 16)])
def test_few_factors_of_two_levels_have_strength_three(n_factors, runs):
    # Resolution IV: no mean of a level is mixed with the interaction of two others.
    array = orthogonal_array((2,) * n_factors)
    assert len(array) == runs
    for three in itertools.combinations(range(n_factors), 3):
        _, counts = np.unique(array[:, three], axis=0, return_counts=True)
        assert counts.tolist() == [runs / 8] * 8


def test_columns_stand_in_the_order_of_the_levels():
    # Sorting factors inside must not show outside.
    levels = (2, 5, 1, 3, 4)
    array = orthogonal_array(levels)
    assert array.max(axis=0).tolist() == [s - 1 for s in levels]
    assert_orthogonal(array, levels)


@pytest.mark.parametrize("levels, shape", [((), (1, 0)), ((1, 1), (1, 2)), ((1, 3, 1), (3, 3)), ((7,), (7, 1))])
def test_constants_and_single_factors_take_no_more_runs_than_levels(levels, shape):
    array = orthogonal_array(levels)
    assert array.shape == shape
    assert_orthogonal(array, levels)


def test_max_runs_refuses_a_larger_array_and_says_which_it_takes():
    assert len(orthogonal_array((5, 4, 3, 2), max_runs=25)) == 25
    text = "levels 5, 4, 3, 2 take an orthogonal array of 25 runs, but max_runs is 24; allow more runs or give fewer"
    with pytest.raises(ValueError, match=re.escape(text)):
        orthogonal_array((5, 4, 3, 2), max_runs=24)
    with pytest.raises(ValueError, match="take a balanced orthogonal array of 120 runs, but max_runs is 25"):
        orthogonal_array((5, 4, 3, 2), max_runs=25, balanced=True)


def test_a_factor_without_levels_is_refused():
    with pytest.raises(ValueError, match="factor 1 has 0 levels; every factor needs at least 1"):
        orthogonal_array((3, 0, 2))


@pytest.mark.parametrize(
    "levels, balanced", [((31, 29, 23, 5, 3, 2), True), ((19, 17, 13, 11, 7), True), ((5000, 3, 2), False)]
)
def test_an_array_that_nobody_could_train_is_refused_at_once(levels, balanced):
    begun = time.process_time()
    with pytest.raises(ValueError, match=f"orthogonal array of more than {MOST_RUNS} runs; give fewer levels"):
        orthogonal_array(levels, balanced=balanced)
    assert time.process_time() - begun < 4  # seconds of CPU; to find the array of the first one took 22
