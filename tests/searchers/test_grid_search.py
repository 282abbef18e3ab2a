import itertools
import random
from collections import Counter

import pytest

from dftune.searchers.grid_search import GridSearch, LevelGrid, shuffled
from dftune.searchers.searcher import PastTrial
from dftune.searchers.space import Choice, Float, Int

SPACE = {"n": Int(low=1, high=3), "c": Choice(values=("a", "b")), "x": Float(low=0, high=1, n_levels=3)}
# Layers of their own width, and a chain: z only beside y, which is there for one c alone.
CONDITIONAL = {
    "n": Int(low=1, high=3),
    "w": Int(low=1, high=2, when={"n": (2, 3)}),
    "c": Choice(values=("a", "b")),
    "y": Int(low=1, high=3, when={"c": ("b",)}),
    "x": Float(low=0, high=1, n_levels=2),
    "z": Choice(values=("p", "q"), when={"y": (2, 3), "n": (3,)}),
}


def all_by_hand():
    """Every config of CONDITIONAL, as a set of its items."""
    found = set()
    for n, w, c, y, x, z in itertools.product((1, 2, 3), (1, 2), "ab", (1, 2, 3), (0.0, 1.0), "pq"):
        config = {"n": n, "c": c, "x": x}
        config |= {"w": w} if n > 1 else {}
        config |= {"y": y} if c == "b" else {}
        config |= {"z": z} if c == "b" and y > 1 and n == 3 else {}
        found.add(frozenset(config.items()))
    return found


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


@pytest.mark.parametrize("seed", range(3))
def test_every_config_of_a_conditional_space_is_proposed_once(seed):
    proposed = [frozenset(config.items()) for config in ask_all(GridSearch(CONDITIONAL, seed))]
    assert len(set(proposed)) == len(proposed)
    assert set(proposed) == all_by_hand()


def test_a_huge_conditional_grid_is_never_built():
    # 20 layers of 50 widths each: Σ 50ⁿ configs, of which all but one in 50 have 20 layers.
    space = {"n": Int(low=1, high=20, n_levels=20)} | {
        f"w{k}": Int(low=1, high=50, n_levels=50, when={"n": tuple(range(k, 21))}) for k in range(1, 21)
    }
    assert LevelGrid(space).size == sum(50**n for n in range(1, 21))
    searcher = GridSearch(space, 0)
    proposed = [searcher.ask("") for _ in range(500)]
    assert all(len(config) == 1 + config["n"] for config in proposed)
    assert len({tuple(config.values()) for config in proposed}) == 500
    assert {config["n"] for config in proposed} == {19, 20}


@pytest.mark.parametrize("seed", range(10))
def test_the_least_sum_of_effects_is_found_without_trying_all(seed):
    rng = random.Random(seed)
    effects = {name: {value: rng.gauss(0, 1) for value in values.grid_values} for name, values in CONDITIONAL.items()}
    least = LevelGrid(CONDITIONAL).least(effects)
    best = min(all_by_hand(), key=lambda items: sum(effects[name][value] for name, value in items))
    assert frozenset(least.items()) == best
    assert LevelGrid(SPACE).least({name: dict.fromkeys(r.grid_values, 0.0) for name, r in SPACE.items()}) == {
        "n": 1,
        "c": "a",
        "x": 0.0,
    }, "the first of equal ones"
