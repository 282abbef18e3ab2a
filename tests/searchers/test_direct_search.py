import random
from itertools import count

import pytest

from dftune.searchers.direct_search import STARTS, DirectOptions, DirectSearch
from dftune.searchers.searcher import WAIT, PastTrial
from dftune.searchers.space import Choice, Float, Int

KINDS = ("pattern", "hooke-jeeves", "sweep")
SPACE = {
    "width": Int(low=0, high=6, n_levels=7),
    "rate": Float(low=1e-4, high=1.0, log=True, n_levels=5),
    "activation": Choice(values=("relu", "tanh", "gelu", "silu")),
    "bias": Choice(values=(0, 1)),
}
RATES = SPACE["rate"].grid_values
# A width for each layer that there is.
WIDTH = {"low": 0, "high": 6, "n_levels": 7}
CONDITIONAL = {
    "n": Int(low=1, high=3),
    "w1": Int(**WIDTH),
    "w2": Int(**WIDTH, when={"n": (2, 3)}),
    "w3": Int(**WIDTH, when={"n": (3,)}),
    "activation": Choice(values=("relu", "tanh", "gelu", "silu")),
}
COST = {"gelu": 0.0, "relu": 1.0, "silu": 0.4, "tanh": 0.7}
BEST = {"width": 5, "rate": RATES[1], "activation": "gelu", "bias": 0}


def separable(config):
    """Convex in the place of each level, with one optimum."""
    rate = RATES.index(config["rate"])
    return (config["width"] - 5) ** 2 + 2 * (rate - 1) ** 2 + COST[config["activation"]] + config["bias"]


def layered(config):
    """Each layer is worth more than its width in the middle costs; the best widths are 5, 2 and 4."""
    widths = [(config[name] - best) ** 2 for name, best in (("w1", 5), ("w2", 2), ("w3", 4)) if name in config]
    return sum(widths) - 6 * config["n"] + COST[config["activation"]]


def rugged(seed, separable=separable):
    """Many local optima, and a third of the trials fail."""
    rng, values = random.Random(seed), {}

    def value_of(config):
        failed, noise = rng.random() < 1 / 3, 5 * rng.random()
        return values.setdefault(tuple(config.items()), None if failed else separable(config) + noise)

    return value_of


def search(kind="pattern", seed=0, space=SPACE, start="random"):
    return DirectSearch(space, seed, DirectOptions(kind=kind, start=start))


def run(searcher, value_of=separable):
    """All configs that are asked for before the search waits, told in reverse, and so on to the end."""
    rounds, number = [], count()
    while True:
        asked = {}
        while isinstance(answer := searcher.ask(trial := str(next(number))), dict):
            asked[trial] = answer
        if not asked:
            assert answer is None
            return rounds
        assert answer is WAIT
        for trial, config in reversed(asked.items()):
            searcher.tell(trial, value_of(config))
        rounds.append(list(asked.values()))


def flat(rounds):
    return [config for asked in rounds for config in asked]


def changed(one, other):
    return [name for name in one if one[name] != other[name]]


@pytest.mark.parametrize("kind, most", [("pattern", 35), ("hooke-jeeves", 35), ("sweep", 1 + 2 * (6 + 4 + 3 + 1))])
def test_the_optimum_of_a_separable_function_is_found_in_few_trials(kind, most):
    for seed in range(20):
        configs = flat(run(search(kind, seed)))
        assert min(configs, key=separable) == BEST
        assert len(configs) <= most  # of 280


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space, value_of", [(SPACE, separable), (CONDITIONAL, layered)])
def test_no_config_is_asked_for_twice(kind, space, value_of):
    for seed in range(20):
        configs = flat(run(search(kind, seed, space), rugged(seed, value_of)))
        assert len({tuple(config.items()) for config in configs}) == len(configs)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_end_every_step_from_the_best_has_been_tried(kind):
    for seed in range(20):
        value_of = rugged(seed)
        configs = flat(run(search(kind, seed), value_of))
        best = min((config for config in configs if value_of(config) is not None), key=value_of)
        steps = [best | {"activation": value} for value in COST] + [best | {"bias": value} for value in (0, 1)]
        for name in ("width", "rate"):
            levels = SPACE[name].grid_values
            place = levels.index(best[name])
            steps += [best | {name: value} for value in levels[max(place - 1, 0) : place + 2]]
        assert all(config in configs for config in steps)


def test_pattern_asks_for_all_neighbours_together():
    (start,), polls, *_ = run(search(start="middle"))
    assert start == {"width": 3, "rate": RATES[2], "activation": "gelu", "bias": 1}
    assert len(polls) == 2 + 2 + 3 + 1
    assert all(len(changed(start, config)) == 1 for config in polls)


def test_pattern_leaps_along_all_that_helped_once_and_twice():
    _, _, leaps, *_ = run(search(start="middle"))
    assert leaps == [
        {"width": 4, "rate": RATES[1], "activation": "gelu", "bias": 0},
        {"width": 5, "rate": RATES[0], "activation": "gelu", "bias": 0},  # a choice has no direction to go on in
    ]


def test_hooke_jeeves_explores_one_trial_after_the_other_and_leaps_on():
    # (x - 6)² + 10 y² by hand: what is better is kept at once; (5, 1) repeats the step from (3, 3) to (4, 2).
    space = {name: Int(low=0, high=6, n_levels=7) for name in "xy"}
    searcher = search("hooke-jeeves", space=space, start="middle")
    rounds = run(searcher, lambda config: (config["x"] - 6) ** 2 + 10 * config["y"] ** 2)
    explored = [(3, 3), (4, 3), (4, 4), (4, 2)]
    leapt = [(5, 1), (6, 1), (6, 2), (6, 0)]
    left = [(5, 0)]
    assert [[tuple(config.values()) for config in asked] for asked in rounds] == [[p] for p in explored + leapt + left]


def test_sweep_asks_for_all_levels_of_one_hyperparameter_after_the_other():
    for seed in range(5):
        (best,), *rounds = run(search("sweep", seed))
        assert [len(asked) for asked in rounds[:4]] == [6, 4, 3, 1]
        for name, asked in zip(SPACE, rounds):
            assert all(changed(best, config) == [name] for config in asked)
            best = min([best, *asked], key=separable)


def test_other_seeds_start_elsewhere_and_the_middle_does_not_depend_on_the_seed():
    starts = {tuple(search(seed=seed).ask("0").values()) for seed in range(20)}
    assert len(starts) > 15
    assert search(seed=1, start="middle").ask("0") == search(seed=2, start="middle").ask("0")


@pytest.mark.parametrize("start, expected", [("random", STARTS), ("middle", STARTS + 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_fails_is_followed_by_others_but_not_for_ever(kind, start, expected):
    rounds = run(search(kind, start=start), lambda config: None)
    assert [len(asked) for asked in rounds] == [1] * expected
    assert len({tuple(config.values()) for config in flat(rounds)}) == expected

    values = iter([None, None, *range(1000)])
    configs = flat(run(search(kind, start=start), lambda config: next(values)))
    assert configs[:3] == flat(rounds)[:3]
    assert len(changed(configs[2], configs[3])) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space, smooth", [(SPACE, separable), (CONDITIONAL, layered)])
def test_a_replay_at_any_point_goes_on_as_the_undisturbed_search(kind, space, smooth):
    for seed in range(4):
        # Three trials under way, ending in random order, a third of them failed; a new session before each ask.
        order, value_of, searcher = random.Random(seed), rugged(seed, smooth), search(kind, seed, space)
        history, running = {}, []
        while True:
            again, trial = search(kind, seed, space), str(len(history))
            again.replay(list(history.values()))
            answer = searcher.ask(trial)
            assert again.ask(trial) == answer
            if isinstance(answer, dict):
                history[trial] = PastTrial(trial, answer, False, None)
                running.append(trial)
            elif answer is None:
                break
            if answer is WAIT or len(running) == 3:
                ended = running.pop(order.randrange(len(running)))
                config = history[ended].config
                searcher.tell(ended, value_of(config))
                history[ended] = PastTrial(ended, config, True, value_of(config))
        assert not running
        assert [past.config for past in history.values()] == flat(run(search(kind, seed, space), value_of))


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_of_one_config_is_searched_with_one_trial(kind):
    space = {"n": Int(low=3, high=3), "c": Choice(values=("only",))}
    assert flat(run(search(kind, space=space), lambda config: 1.0)) == [{"n": 3, "c": "only"}]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_and_their_widths_are_found(kind):
    for seed in range(20):
        configs = flat(run(search(kind, seed, CONDITIONAL), layered))
        assert all(len(config) == 2 + config["n"] for config in configs), "a width a layer, and no other"
        assert min(configs, key=layered) == {"n": 3, "w1": 5, "w2": 2, "w3": 4, "activation": "gelu"}
        assert len(configs) <= 60  # of 4 x (7 + 49 + 343) = 1,596


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_end_every_step_along_what_exists_has_been_tried(kind):
    for seed in range(20):
        value_of = rugged(seed, layered)
        configs = flat(run(search(kind, seed, CONDITIONAL), value_of))
        best = min((config for config in configs if value_of(config) is not None), key=value_of)
        widths = [name for name in ("w1", "w2", "w3") if name in best]
        steps = [best | {name: best[name] + by} for name in widths for by in (1, -1) if 0 <= best[name] + by <= 6]
        steps += [best | {"activation": value} for value in COST]
        if best["n"] > 1:
            steps.append({name: value for name, value in best.items() if name != widths[-1]} | {"n": best["n"] - 1})
        if best["n"] < 3:  # a new layer has the middle width
            steps.append(best | {"n": best["n"] + 1, f"w{best['n'] + 1}": 3})
        assert all(config in configs for config in steps)


def test_pattern_polls_along_what_exists_and_a_new_layer_has_the_middle_width():
    (start,), polls, leaps, *_ = run(search(space=CONDITIONAL, start="middle"), layered)
    assert start == {"n": 2, "w1": 3, "w2": 3, "activation": "gelu"}
    assert len(polls) == 2 + 2 + 2 + 3
    assert {"n": 3, "w1": 3, "w2": 3, "w3": 3, "activation": "gelu"} in polls
    assert {"n": 1, "w1": 3, "activation": "gelu"} in polls
    together = {"n": 3, "w1": 4, "w2": 2, "w3": 3, "activation": "gelu"}
    assert leaps == [together, together | {"w1": 5, "w2": 1}]
