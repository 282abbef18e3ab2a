import itertools
from collections import Counter

import pytest

from dftune.searchers.grid_search import GridSearch, shuffled
from dftune.searchers.searcher import PastTrial
from dftune.searchers.space import Choice, Float, Int

SPACE = {"n": Int(low=1, high=3), "c": Choice(values=("a", "b")), "x": Float(low=0, high=1, n_levels=3)}


def ask_all(searcher):
    return list(iter(lambda: searcher.ask(""), None))


@pytest.mark.parametrize("seed", range(5))
def test_every_combination_of_levels_is_proposed_once(seed):
    proposed = [tuple(config.values()) for config in ask_all(GridSearch(SPACE, seed))]
    assert len(proposed) == 3 * 2 * 3
    assert set(proposed) == set(itertools.product([1, 2, 3], ["a", "b"], [0.0, 0.5, 1.0]))


def test_a_range_of_one_value_adds_nothing_to_the_product():
    space = SPACE | {"fixed": Float(low=0.3, high=0.3, log=True), "one": Choice(values=("only",))}
    assert len(ask_all(GridSearch(space, 0))) == 18


def test_every_order_is_equally_likely():
    orders = Counter(tuple(shuffled(3, seed)) for seed in range(6000))
    assert len(orders) == 6
    assert min(orders.values()) > 850  # 1000 expected, with a standard deviation of 29


def test_a_tenth_of_the_grid_has_seen_every_level():
    space = {name: Int(low=0, high=9, n_levels=10) for name in "abc"}
    searcher = GridSearch(space, 0)
    seen = [searcher.ask("") for _ in range(100)]
    for name in space:
        assert {config[name] for config in seen} == set(range(10))


def test_a_huge_grid_is_never_built():
    # 10²¹ configs, more than 64 bits count: this would not end otherwise.
    searcher = GridSearch({name: Int(low=1, high=1000, n_levels=1000) for name in "abcdefg"}, 0)
    proposed = {tuple(searcher.ask("").values()) for _ in range(1000)}
    assert len(proposed) == 1000


@pytest.mark.parametrize("done", [0, 1, 7, 17, 18])
def test_a_replayed_grid_goes_on_with_the_rest(done):
    configs = ask_all(GridSearch(SPACE, 4))
    searcher = GridSearch(SPACE, 4)
    searcher.replay([PastTrial(str(n), c, n % 2 == 0, None) for n, c in enumerate(configs[:done])])
    assert ask_all(searcher) == configs[done:]
