"""Simulated searches: closed forms of their times, and what they wait for."""

import math
from itertools import pairwise

import pytest

from dftune.platform.plan.simulation import Overhead, SimulatedScorer, TrialCost, simulate
from dftune.platform.spec import StudySpec
from dftune.searchers.direct_search import DirectOptions, DirectSearch
from dftune.searchers.oat_search import OatOptions, OatSearch
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.screened_search import ScreenedSearch, ScreenOptions
from dftune.searchers.searcher import WAIT
from dftune.searchers.space import Choice, Float, Int

SPACE = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "gelu", "tanh")),
    "learning_rate": Float(low=3e-4, high=3e-3, log=True),
}
FREE = Overhead(start=0.0, reset=0.0, ask=0.0, report=0.0)


def equal(seconds, value=lambda config: 1.0):
    return lambda config: TrialCost(seconds, value(config))


def by_width(config):
    """Trials from 1.6 s to 77 s."""
    return TrialCost(0.1 * config["n_layers"] * config["width"], 1 / config["width"] + config["learning_rate"])


@pytest.mark.parametrize("slots", [1, 3, 4, 16, 1024])
def test_independent_equal_trials_take_as_many_rounds_as_the_slots_leave(slots):
    found = simulate(RandomSearch(SPACE, 0), slots, equal(7.0), FREE, max_trials=12)
    assert found.seconds == pytest.approx(7.0 * math.ceil(12 / slots))
    assert (found.trained, found.most, found.used) == (12, min(slots, 12), pytest.approx(84.0))
    assert found.utilisation == pytest.approx(84 / (slots * found.seconds))
    assert found.limited == (slots < 12)


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_process_starts_once_a_slot_and_is_reset_for_each_further_trial(slots):
    overhead = Overhead(start=5.0, reset=0.5, ask=0.0, report=0.0)
    found = simulate(RandomSearch(SPACE, 0), slots, equal(7.0), overhead, max_trials=16)
    assert found.seconds == pytest.approx(5 + 7 + (16 / slots - 1) * 7.5)


def test_many_slots_wait_for_the_driver():
    overhead = Overhead(ask=0.25, report=0.125)
    found = simulate(RandomSearch(SPACE, 0), 1000, equal(1.0), overhead, max_trials=100)
    # All are asked for before any starts; then they report faster than the driver listens.
    assert found.seconds == pytest.approx(100 * 0.25 + 1.0 + 100 * 2 * 0.125)
    alone = simulate(RandomSearch(SPACE, 0), 1, equal(1.0), overhead, max_trials=100)
    assert alone.seconds == pytest.approx(100 * (0.25 + 1 + 2 * 0.125))


@pytest.mark.parametrize("slots", [1, 4, 1024])
def test_a_serial_chain_takes_the_sum_of_its_trials(slots):
    trained = []

    def cost_of(config):
        trained.append(by_width(config))
        return trained[-1]

    searcher = DirectSearch(SPACE, 0, DirectOptions(kind="hooke-jeeves"))
    found = simulate(searcher, slots, cost_of, FREE)
    assert found.seconds == pytest.approx(sum(t.seconds for t in trained))
    assert found.most == 1
    assert not found.limited or slots == 1


def test_an_orthogonal_array_takes_its_longest_row_and_the_confirmation():
    trained = []

    def cost_of(config):
        trained.append(by_width(config))
        return trained[-1]

    found = simulate(OatSearch(SPACE, 0, OatOptions()), 1024, cost_of, FREE)
    *rows, confirmation = trained
    assert len(rows) == found.most > 10
    assert found.seconds == pytest.approx(max(t.seconds for t in rows) + confirmation.seconds)


@pytest.mark.parametrize("slots, rounds", [(1, 1 + 3 + 3 + 3), (2, 1 + 2 + 2 + 2), (3, 4), (64, 4)])
def test_a_sweep_trains_the_levels_of_one_hyperparameter_after_the_other(slots, rounds):
    # From the middle to the corner: a line of 3 new levels in a, in b, in a again; the next one in b is known.
    space = {name: Int(low=0, high=3) for name in "ab"}
    searcher = DirectSearch(space, 0, DirectOptions(kind="sweep", start="middle"))
    found = simulate(searcher, slots, equal(7.0, lambda config: config["a"] + config["b"]), FREE)
    assert found.trained == 10
    assert found.seconds == pytest.approx(7.0 * rounds)


@pytest.mark.parametrize("slots, scoring, rounds", [(1, 32, 4), (4, 8, 1), (16, 2, 1), (64, 2, 1)])
def test_a_screened_search_scores_in_parallel_then_trains_in_parallel(slots, scoring, rounds):
    scorer = SimulatedScorer(
        lambda a: float(sum(a[0])),
        lambda config: ((config["width"],) * config["n_layers"], config["activation"]),
        seconds=0.5,
        processes=slots,
    )
    space = SPACE | {"width": Int(low=16, high=4096)}  # no architecture twice
    searcher = ScreenedSearch(space, 0, scorer, ScreenOptions(candidates=64, top=4))
    found = simulate(searcher, slots, equal(10.0), FREE, scorer=scorer)
    # Ray Tune asks once a second while nothing runs, and sleeps another one after the first answer.
    assert found.seconds == pytest.approx(scoring + 1 + rounds * 10)
    assert found.used == pytest.approx(64 * 0.5 + 4 * 10)
    assert found.limited == (slots < 16)


def test_a_scorer_beside_the_trials_works_on_what_was_asked_for_last():
    names = {"a": ((1,), "relu"), "b": ((2,), "relu"), "c": ((3,), "relu")}
    scorer = SimulatedScorer(
        lambda a: float(a[0][0]), lambda c: names[c["n"]], seconds=2.0, processes=9, start=1.0, beside_trials=True
    )
    assert scorer([{"n": "a"}, {"n": "b"}]) == [None, None]
    assert scorer.next_at == 3.0
    scorer.now = 3.0
    assert scorer([{"n": "a"}, {"n": "b"}, {"n": "c"}]) == [1.0, None, None]
    assert scorer.next_at == 5.0
    scorer.now = 7.0
    assert scorer([{"n": "c"}]) == [3.0]
    assert (scorer.slot_seconds, scorer.next_at) == (0.0, math.inf)


def test_more_slots_never_slow_down_independent_trials_and_the_work_is_conserved():
    found = [simulate(RandomSearch(SPACE, 3), n, by_width, FREE, max_trials=60) for n in range(1, 70)]
    seconds = [t.seconds for t in found]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(seconds))
    assert {round(t.used, 6) for t in found} == {round(seconds[0], 6)}
    searcher = RandomSearch(SPACE, 3)
    assert seconds[-1] == pytest.approx(max(by_width(searcher.ask(str(n))).seconds for n in range(60)))
    for n, t in enumerate(found, start=1):
        assert max(seconds[0] / n, seconds[-1]) - 1e-9 <= t.seconds <= seconds[0] / n + seconds[-1]  # Graham (1969)


def test_a_waiting_trial_takes_the_process_of_one_that_ends_before_its_own_is_there():
    overhead = Overhead(start=10.0, reset=0.5, ask=0.0, report=0.0)
    searcher = DirectSearch({"a": Int(low=0, high=3)}, 0, DirectOptions(kind="sweep", start="middle"))
    found = simulate(searcher, 3, equal(2.0), overhead)
    # One process is there after the first trial; it serves the line of three, whose own would come after 10 s.
    assert found.seconds == pytest.approx(10 + 2 + 3 * (0.5 + 2))
    assert found.most == 3


@pytest.mark.parametrize("slots", [1, 8, 64])
def test_a_budget_ends_the_search_with_what_is_under_way(slots):
    def cost_of(config):
        return TrialCost(10.0, 1.0, epochs=5, work=100.0)

    spec = StudySpec.of({"name": "al4", "dataset": "/nowhere", "method": "random", "budget": {"grid_points": 1000}})
    found = simulate(RandomSearch(SPACE, 0), slots, cost_of, FREE, budget=spec.budget)
    assert 10 <= found.trained < 10 + slots  # no trial starts once it is used up, those that run end
    assert found.seconds == pytest.approx(10.0 * math.ceil(found.trained / slots))


def test_a_method_that_waits_for_nothing_is_an_error():
    class Stuck:
        def ask(self, trial):
            return WAIT

    with pytest.raises(RuntimeError, match="Stuck waits, but nothing is under way"):
        simulate(Stuck(), 2, equal(1.0), FREE)
