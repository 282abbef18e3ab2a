"""Pruned candidates through the adapter to Ray Tune: numbered and written down, and never run."""

import pytest

from dftune.searchers import SearchTask
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.searcher import WAIT, PastTrial, Pruned
from dftune.searchers.space import Float
from dftune.searchers.tune_searcher import TuneSearcher
from dftune.tests.searchers.tune_driver import SCORED, SPACE, Notebook, drive, fit, near_zero, parabola, square


class EveryThird(RandomSearch):
    """Trains every third candidate."""

    def ask(self, trial):
        config = super().ask(trial)
        return config if int(trial) % 3 == 2 else Pruned(config)

    def replay(self, history):
        super().replay(history)
        self.replayed = list(history)


@pytest.mark.usefixtures("local_ray")
def test_pruned_candidates_have_numbers_and_are_written_down_but_never_run(tmp_path):
    notebook = Notebook()
    searcher = TuneSearcher(EveryThird(SPACE, 0), metric="loss", max_trials=4, record=notebook)
    results = fit(searcher, parabola, tmp_path)
    plain = RandomSearch(SPACE, 0)
    xs = [plain.ask("")["x"] for _ in range(12)]
    assert notebook.of("pruned") == [(n, xs[n]) for n in range(12) if n % 3 != 2]
    assert notebook.of("asked") == [(n, xs[n]) for n in (2, 5, 8, 11)], "max_trials counts trained ones only"
    assert sorted(r.config["x"] for r in results) == sorted(xs[n] for n in (2, 5, 8, 11))
    assert sorted(t for t, *_ in notebook.of("told")) == [2, 5, 8, 11]
    assert searcher.error is None


def test_pruned_candidates_of_the_history_are_not_run_and_do_not_count_as_trials():
    history = [
        PastTrial("0", {"x": 0.1}, True, None, pruned=True),
        PastTrial("1", {"x": 0.2}, True, None, pruned=True),
        PastTrial("2", {"x": 0.3}, True, 0.5),
    ]
    notebook, method = Notebook(), EveryThird(SPACE, 0)
    searcher = TuneSearcher(method, metric="loss", max_trials=2, record=notebook, history=history)
    configs = drive(searcher, square)
    assert method.replayed == history
    assert [t for t, _ in notebook.of("pruned")] == [3, 4]
    assert [t for t, _ in notebook.of("asked")] == [5]
    assert len(configs) == 1


def test_a_method_that_prunes_all_it_has_left_ends():
    class Ends(EveryThird):
        def ask(self, trial):
            return super().ask(trial) if int(trial) < 5 else None

    notebook = Notebook()
    searcher = TuneSearcher(Ends(SPACE, 0), metric="loss", record=notebook)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") == TuneSearcher.FINISHED
    assert [t for t, _ in notebook.of("pruned")] == [0, 1, 3, 4]


def test_pruned_candidates_before_a_wait_are_not_asked_for_again():
    class Hesitant(EveryThird):
        waited = False

        def ask(self, trial):
            if trial == "1" and not self.waited:
                self.waited = True
                return WAIT
            return super().ask(trial)

    notebook = Notebook()
    searcher = TuneSearcher(Hesitant(SPACE, 0), metric="loss", record=notebook)
    assert searcher.suggest("a") is None
    assert isinstance(searcher.suggest("a"), dict)
    assert [event[:2] for event in notebook.events] == [("pruned", 0), ("pruned", 1), ("asked", 2)]


def test_optuna_pruned_by_a_score_takes_any_scoring_function():
    method, notebook = SCORED["optuna+score"], Notebook()
    options = method.options(warmup=4, startup=4)
    searcher = TuneSearcher(
        method.build(SearchTask(SPACE, 0, near_zero), options),
        metric="loss",
        max_trials=10,
        record=notebook,
    )
    configs = drive(searcher, square)
    assert searcher.error is None
    assert len(configs) == len(notebook.of("told")) == 10
    assert len(notebook.of("pruned")) >= 3
    numbers = [event[1] for event in notebook.events if event[0] in ("asked", "pruned")]
    assert numbers == list(range(len(numbers)))


def test_a_two_stage_method_takes_any_scoring_function():
    method, space = SCORED["score>optuna"], SPACE | {"rate": Float(low=0, high=1)}
    options = method.options(architecture=("x",), candidates=12, calibration=2, startup=2)
    searcher = method.build(SearchTask(space, 0, near_zero, direction="learnt"), options)
    xs = [config["x"] for config in drive(TuneSearcher(searcher, metric="loss", max_trials=8), square)]
    assert len(xs) == 8
    closest = min(xs, key=abs)
    assert xs.count(closest) == 7  # best and worst score to calibrate
