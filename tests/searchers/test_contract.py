"""What every method promises; a new one joins by its line in SEARCHERS.

The claims are those of ``dftune.testing``, so that other people's searchers are held to the same.
"""

import itertools
from functools import cache, partial

import pytest

from dftune.searchers import SEARCHERS, Method, SearchTask, scored_methods
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.searcher import WAIT
from dftune.testing import check_searcher
from dftune.testing import searchers as contract

# A score whose direction is known, and one whose direction the trials must tell.
DIRECTIONS = {"known": "published", "unknown": "learnt"}
METHODS: dict[str, Method] = {**SEARCHERS, **scored_methods(DIRECTIONS)}
# Few trials, so that methods with an end reach it.
OPTIONS: dict[str, dict[str, int]] = {
    "unknown": {"candidates": 20, "top": 3, "calibration": 4},
    "known": {"candidates": 20, "top": 5},
    "optuna+unknown": {"lookahead": 3},
    "optuna+known": {"lookahead": 3},
}


def build_of(name, space, seed):
    method = METHODS[name]
    more = {}
    if method.score is not None:
        more = {"scorer": contract.scorer, "seen": contract.seen, "direction": DIRECTIONS[method.score]}
    return method.build(SearchTask(space, seed, **more), method.options(**OPTIONS.get(name, {})))


@pytest.fixture(autouse=True)
def short(request, monkeypatch):
    """Optuna proposes without an end, and learns after ten: four are enough that have learnt."""
    if "name" in request.fixturenames and "optuna" in request.getfixturevalue("name"):
        monkeypatch.setattr(contract, "MOST", 14)


@cache
def proposals(name, kind):
    """What a method proposes to one trial after the other, the same for all its tests."""
    return contract.run(build_of(name, contract.SPACES[kind], 0))


@pytest.fixture
def build(name):
    return partial(build_of, name)


@pytest.fixture
def space(kind):
    return contract.SPACES[kind]


@pytest.fixture
def alone(name, kind):
    return proposals(name, kind)


every_method = pytest.mark.parametrize("name, kind", list(itertools.product(METHODS, contract.SPACES)))


@every_method
def test_every_config_lies_in_the_space(space, alone):
    contract.check_configs(space, alone)


@every_method
def test_equal_seeds_propose_equal_configs_and_other_seeds_others(build, space, alone):
    contract.check_seeds(build, space, alone)


@every_method
def test_trials_in_parallel_are_fed_to_the_end(build, space, alone):
    for parallel in (2, 5):
        contract.check_parallel_trials(build, space, alone, parallel)


@every_method
def test_asking_on_after_the_end_says_so_again(build, space, alone):
    contract.check_end(build, space, alone)


@every_method
def test_a_replayed_history_is_continued_as_if_nothing_had_happened(build, space, alone):
    for finished in (0, 1, 3, 5):
        contract.check_replay(build, space, alone, finished)


@every_method
def test_an_unfinished_trial_of_a_replayed_history_is_not_proposed_again(build, space, alone):
    contract.check_unfinished_trial(build, space, alone)


@every_method
def test_failed_trials_do_not_end_the_search(build, space):
    contract.check_failed_trials(build, space)


@pytest.mark.parametrize("name", METHODS)
def test_a_condition_that_cannot_hold_is_refused(build):
    contract.check_impossible_condition(build)


# ---------------------------------------------------------------- the contract itself can fail


def test_random_search_keeps_the_contract():
    check_searcher(RandomSearch)


class OneMore(RandomSearch):
    def ask(self, trial):
        return super().ask(trial) | {"dropout": 0.5}


class OutOfRange(RandomSearch):
    def ask(self, trial):
        return super().ask(trial) | {"learning_rate": 1.0}


class OfNoSeed(RandomSearch):
    def __init__(self, space, seed):
        super().__init__(space, 0)


class AfterItsEnd(RandomSearch):
    def ask(self, trial):
        return None if trial == "9" else super().ask(trial)


class Forgetful(RandomSearch):
    def replay(self, history):
        pass


class AfraidOfFailures(RandomSearch):
    failed = 0

    def ask(self, trial):
        return None if self.failed > 2 else super().ask(trial)

    def tell(self, trial, value):
        self.failed += value is None


class Waiting(RandomSearch):
    def ask(self, trial):
        return WAIT


class TakesAnything(RandomSearch):
    def __init__(self, space, seed):
        possible = {name: values for name, values in space.items() if name != "batch_size"}
        super().__init__(possible, seed)


@pytest.mark.parametrize(
    "searcher, text",
    [
        (OneMore, "needs the hyperparameters n_layers, width, activation, learning_rate, in this order"),
        (OutOfRange, "outside of its range: learning_rate = 1.0"),
        (OfNoSeed, "two seeds gave the same configs"),
        (AfterItsEnd, "it goes on after its end"),
        (Forgetful, "after a replay of 1 trials it goes on otherwise"),
        (AfraidOfFailures, "it ends after 3 failed trials"),
        (Waiting, "a method may wait only for trials under way"),
        (TakesAnything, "of a condition that cannot hold it says nothing"),
    ],
)
def test_the_contract_sees_each_fault(searcher, text):
    with pytest.raises(AssertionError, match=text):
        check_searcher(searcher)
