"""What every method promises (DESIGN, section 9); a new one joins by its line in SEARCHERS."""

import itertools
import math
import random

import pytest

from dftune.searchers import SEARCHERS
from dftune.searchers.searcher import PastTrial, Pruned, Wait
from dftune.searchers.space import Choice, Float, Int

SPACE = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "tanh")),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
}
# Widths for each layer, and a weight decay for the one optimizer that has its own.
CONDITIONAL = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "width_2": Int(low=16, high=256, log=True, when={"n_layers": (2, 3)}),
    "width_3": Int(low=16, high=256, levels=(16, 64, 256), when={"n_layers": (3,)}),
    "optimizer": Choice(values=("adam", "adamw")),
    "weight_decay": Float(low=1e-6, high=1e-2, log=True, when={"optimizer": ("adamw",)}),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
}
EXISTS = {
    "width_2": lambda config: config["n_layers"] >= 2,
    "width_3": lambda config: config["n_layers"] == 3,
    "weight_decay": lambda config: config["optimizer"] == "adamw",
}
SPACES = {"plain": SPACE, "conditional": CONDITIONAL}
# Few trials, so that methods with an end reach it.
OPTIONS: dict[str, dict[str, int]] = {
    "naswot": {"candidates": 20, "top": 3, "calibration": 4},
    "rfr": {"candidates": 20, "top": 5},
    "optuna+naswot": {"lookahead": 3},
    "optuna+rfr": {"lookahead": 3},
}
MOST = 30


def true_value(config) -> float:
    """A smooth value to minimise, with its optimum inside the space."""
    return 0.1 + too_wide(config) + abs(math.log(config["learning_rate"] / 1e-3)) / config["n_layers"]


def too_wide(config) -> float:
    """How far the widths are from 90, in the mean over those that the config has."""
    widths = [value for name, value in config.items() if name.startswith("width")]
    return sum(abs(math.log(width / 90)) for width in widths) / len(widths)


def scorer(configs):
    """A score of the architecture that knows something: higher is better."""
    return [-too_wide(c) + 0.1 * c["n_layers"] for c in configs]


def build(name, space, seed=0):
    method = SEARCHERS[name]
    return method.build(SPACES[space], seed, scorer if method.score else None, method.options(**OPTIONS.get(name, {})))


def run(searcher, parallel=1, seed=0, history=()):
    """Ask and tell with ``parallel`` trials under way, ending in random order: the proposals in the order of asking."""
    order, asked, running, ended = random.Random(seed), [], [], False
    number = len(history)
    while True:
        while len(running) < parallel and not ended and number < MOST:
            config = searcher.ask(str(number))
            if isinstance(config, Wait):
                assert running, "a method may wait only for trials under way"
                break
            if config is None:
                ended = True
                break
            asked.append(config)
            if not isinstance(config, Pruned):
                running.append((str(number), config))
            number += 1
        if not running:
            return asked
        trial, config = running.pop(order.randrange(len(running)))
        searcher.tell(trial, true_value(config))


every_method = pytest.mark.parametrize("name, space", list(itertools.product(SEARCHERS, SPACES)))


def past(trial, answer) -> PastTrial:
    """A proposal as history: pruned, or trained to its value."""
    if isinstance(answer, Pruned):
        return PastTrial(trial, answer.config, True, None, pruned=True)
    return PastTrial(trial, answer, True, true_value(answer))


@every_method
def test_every_config_lies_in_the_space(name, space):
    asked = run(build(name, space))
    assert asked
    ranges = SPACES[space]
    for config in (a.config if isinstance(a, Pruned) else a for a in asked):
        assert list(config) == [key for key in ranges if key not in EXISTS or EXISTS[key](config)]
        assert all(ranges[key].holds(value) for key, value in config.items())


@every_method
def test_equal_seeds_propose_equal_configs_and_other_seeds_others(name, space):
    assert run(build(name, space)) == run(build(name, space))
    assert run(build(name, space)) != run(build(name, space, seed=1))


@every_method
@pytest.mark.parametrize("parallel", [2, 5])
def test_trials_in_parallel_are_fed_to_the_end(name, space, parallel):
    assert len(run(build(name, space), parallel)) == len(run(build(name, space)))


@every_method
def test_asking_on_after_the_end_says_so_again(name, space):
    searcher = build(name, space)
    asked = run(searcher)
    if len(asked) < MOST:
        assert searcher.ask("beyond") is None
        assert searcher.ask("beyond") is None


@every_method
@pytest.mark.parametrize("finished", [0, 1, 3, 5])
def test_a_replayed_history_is_continued_as_if_nothing_had_happened(name, space, finished):
    undisturbed = run(build(name, space))
    history = [past(str(n), answer) for n, answer in enumerate(undisturbed[:finished])]
    searcher = build(name, space)
    searcher.replay(history)
    assert run(searcher, history=history) == undisturbed[finished:]


@every_method
def test_an_unfinished_trial_of_a_replayed_history_is_not_proposed_again(name, space):
    undisturbed = run(build(name, space))
    history = [
        PastTrial("0", undisturbed[0], True, true_value(undisturbed[0])),
        PastTrial("1", undisturbed[1], False, None),
    ]
    searcher = build(name, space)
    searcher.replay(history)
    searcher.tell("1", true_value(undisturbed[1]))
    assert run(searcher, history=history) == undisturbed[2:]


@every_method
def test_failed_trials_do_not_end_the_search(name, space):
    searcher, asked = build(name, space), 0
    while asked < 8 and (config := searcher.ask(str(asked))) is not None:
        assert not isinstance(config, Wait)
        searcher.tell(str(asked), None)
        asked += 1
    assert asked >= 5


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_condition_that_cannot_hold_is_refused(name):
    method, space = SEARCHERS[name], CONDITIONAL | {"batch_size": Int(low=1, high=9, when={"n_layers": (7,)})}
    with pytest.raises(ValueError, match="when of 'batch_size' names 'n_layers' with the value 7, which it never has"):
        method.build(space, 0, scorer if method.score else None, method.options())
