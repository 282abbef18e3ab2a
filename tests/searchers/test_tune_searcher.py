"""Our methods as Ray Tune searchers: in Ray Tune, and, where Ray Tune adds nothing to the claim, asked as it asks."""

import threading

import pytest
from ray import tune

from dftune.searchers import SEARCHERS, SearchTask
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.searcher import WAIT, PastTrial
from dftune.searchers.tune_searcher import COMPLETE, FAILURE, TuneDiffers, TuneSearcher
from dftune.tests.searchers.tune_driver import SCORED, SPACE, Notebook, drive, fit, near_zero, parabola, square


@pytest.mark.usefixtures("local_ray")
def test_a_method_plugs_into_ray_tune_as_it_is(tmp_path):
    notebook = Notebook()
    searcher = TuneSearcher(RandomSearch(SPACE, seed=3), metric="loss", max_trials=6, record=notebook)
    results = fit(searcher, parabola, tmp_path, max_concurrent_trials=2)
    assert notebook.of("asked")[0] == (0, RandomSearch(SPACE, seed=3).ask("0")["x"])
    assert len(results) == 6
    assert sorted(r.config["x"] for r in results) == sorted(x for _, x in notebook.of("asked"))
    assert {t: v for t, v, _ in notebook.of("told")} == {t: x**2 for t, x in notebook.of("asked")}
    assert searcher.error is None


@pytest.mark.usefixtures("local_ray")
def test_a_trial_is_recorded_before_it_starts_and_before_the_method_is_told(tmp_path):
    notebook = Notebook()

    class Watched(RandomSearch):
        def tell(self, trial, value):
            notebook.events.append(("method told", int(trial)))

    fit(
        TuneSearcher(Watched(SPACE, 0), metric="loss", max_trials=3, record=notebook),
        parabola,
        tmp_path,
        max_concurrent_trials=1,
    )
    for trial in range(3):
        kinds = [event[0] for event in notebook.events if event[1] == trial]
        assert kinds[0] == "asked"
        assert kinds[-2:] == ["told", "method told"]


@pytest.mark.usefixtures("local_ray")
def test_failed_and_mute_trials_have_no_value_and_do_not_stop_the_others(tmp_path):
    def trainable(config):
        number = config["number"]
        if number == 0:
            raise RuntimeError("broken on purpose")
        if number == 1:
            tune.report({"loss": float("nan")})
        elif number == 2:
            tune.report({FAILURE: "diverged"})
        elif number == 3:
            tune.report({"other": 1.0})
        else:
            tune.report({"loss": 1.0})

    notebook = Notebook()
    searcher = TuneSearcher(
        RandomSearch(SPACE, 0),
        metric="loss",
        max_trials=6,
        record=notebook,
        package=lambda trial, config: {"number": trial, **config},
    )
    fit(searcher, trainable, tmp_path)
    told = {trial: (value, failure) for trial, value, failure in notebook.of("told")}
    assert sorted(told) == list(range(6))
    assert told[4] == told[5] == (1.0, None)
    assert [told[t][0] for t in range(4)] == [None] * 4
    assert told[0][1].startswith("its process died, or raised an error")
    assert told[1][1] == told[3][1] == "it reported no finite loss"
    assert told[2][1] == "diverged"
    assert searcher.error is None


@pytest.mark.usefixtures("local_ray")
def test_an_error_in_the_method_ends_the_search_and_is_kept(tmp_path):
    class Broken(RandomSearch):
        def ask(self, trial):
            if trial == "2":
                raise ValueError("no idea")
            return super().ask(trial)

    searcher = TuneSearcher(Broken(SPACE, 0), metric="loss")
    assert len(fit(searcher, parabola, tmp_path)) == 2
    assert repr(searcher.error) == "ValueError('no idea')"


def test_unfinished_trials_of_the_history_run_first_under_their_old_number():
    method = RandomSearch(SPACE, 0)
    configs = [method.ask(str(n)) for n in range(4)]
    history = [
        PastTrial("0", configs[0], True, 0.5),
        PastTrial("1", configs[1], False, None),
        PastTrial("2", configs[2], True, None),
    ]
    notebook = Notebook()
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", max_trials=4, record=notebook, history=history)
    drive(searcher, square)
    assert notebook.of("asked") == [(3, configs[3]["x"])]
    assert {t: v for t, v, _ in notebook.of("told")} == {1: configs[1]["x"] ** 2, 3: configs[3]["x"] ** 2}


@pytest.mark.usefixtures("local_ray")
def test_waiting_is_not_the_end(tmp_path):
    class Hesitant(RandomSearch):
        """Proposes a second trial only when the first has ended."""

        told = 0

        def ask(self, trial):
            return WAIT if int(trial) > self.told else super().ask(trial)

        def tell(self, trial, value):
            self.told += 1

    searcher = TuneSearcher(Hesitant(SPACE, 0), metric="loss", max_trials=3)
    assert len(fit(searcher, parabola, tmp_path, max_concurrent_trials=2)) == 3


def test_a_maximised_metric_reaches_the_method_with_its_sign_turned():
    seen = []

    class Watched(RandomSearch):
        def tell(self, trial, value):
            seen.append(value)

    configs = drive(TuneSearcher(Watched(SPACE, 0), metric="loss", mode="max", max_trials=2), square)
    assert seen == [-(config["x"] ** 2) for config in configs]
    assert len(seen) == 2


@pytest.mark.parametrize("said", ["by TuneConfig", "by TuneSearcher"])
def test_metric_and_mode_are_those_of_ray_tune_or_ours(local_ray, said, tmp_path):
    """Ray Tune itself tells a searcher neither, as long as the Tuner has no param_space."""
    seen = []

    class Watched(RandomSearch):
        def tell(self, trial, value):
            seen.append(value)

    what = {"metric": "loss", "mode": "max"}
    ours, theirs = (what, {}) if said == "by TuneSearcher" else ({}, what)
    fit(TuneSearcher(Watched(SPACE, 0), max_trials=2, **ours), parabola, tmp_path, **theirs)
    assert all(value <= 0 for value in seen)
    assert len(seen) == 2


@pytest.mark.parametrize("theirs", [{"metric": "loss", "mode": "max"}, {"metric": "other", "mode": "min"}])
def test_a_tune_config_that_asks_for_something_else_is_refused_before_a_trial_runs(local_ray, theirs, tmp_path):
    notebook = Notebook()
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", mode="min", record=notebook)
    with pytest.raises(TuneDiffers, match=r"TuneConfig has (mode 'max', but|metric 'other', but)"):
        fit(searcher, parabola, tmp_path, **theirs)
    assert notebook.events == []


def test_trials_that_a_scheduler_paused_leave_their_place_to_others():
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", max_trials=3)
    assert searcher.set_max_concurrency(2)
    assert [searcher.suggest(ray_id) is None for ray_id in "abc"] == [False, False, True]
    searcher.on_pause("a")
    assert searcher.suggest("c") is not None
    assert searcher.suggest("d") is None, "Ray Tune would forget its processes if told that this is all"
    searcher.on_unpause("a")
    assert searcher.suggest("d") is None, "three are under way"
    for ray_id in "ab":
        searcher.on_trial_complete(ray_id, {"loss": 1.0, COMPLETE: True})
    assert searcher.suggest("d") == TuneSearcher.FINISHED


def test_a_trial_that_a_scheduler_stops_is_told_with_its_last_report_and_marked():
    notebook, ends = Notebook(), []
    notebook.told = lambda trial, value, result, failure, stopped: ends.append((trial, value, failure, stopped))
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", record=notebook)
    for ray_id in "abcd":
        searcher.suggest(ray_id)
        searcher.on_trial_result(ray_id, {"loss": 3.0})
    searcher.on_trial_complete("a", {"loss": 2.0})  # stopped as it reported
    searcher.on_trial_complete("b")  # stopped while it was paused
    searcher.on_trial_complete("c", {"loss": 1.0, COMPLETE: True})
    searcher.on_trial_complete("d", error=True)
    assert [(trial, value, stopped) for trial, value, _, stopped in ends] == [
        (0, 2.0, True),
        (1, 3.0, True),
        (2, 1.0, False),
        (3, None, False),
    ]


def test_interrupted_trials_stay_unfinished_unless_they_had_come_to_their_end():
    notebook = Notebook()
    stop = threading.Event()
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", record=notebook, interrupted=stop.is_set)
    for ray_id in "ab":
        searcher.suggest(ray_id)
    stop.set()
    assert searcher.suggest("c") == TuneSearcher.FINISHED
    searcher.on_trial_complete("a", {"loss": 0.3})
    searcher.on_trial_complete("b", {"loss": 0.2, COMPLETE: True})
    assert notebook.of("told") == [(1, 0.2, None)]


# With a scheduler every method is plugged into Ray Tune in test_schedulers.py, and what it is told is compared there.
@pytest.mark.usefixtures("local_ray")
@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHERS)
def test_methods_without_a_score_plug_into_ray_tune(name, tmp_path):
    method = SEARCHERS[name]
    notebook = Notebook()
    searcher = TuneSearcher(
        method.build(SearchTask(SPACE, 0), method.options()), metric="loss", max_trials=8, record=notebook
    )
    results = fit(searcher, parabola, tmp_path)
    assert searcher.error is None
    assert 2 <= len(results) <= 8
    assert {t: v for t, v, _ in notebook.of("told")} == {t: x**2 for t, x in notebook.of("asked")}


@pytest.mark.parametrize("direction", ["learnt", "published"])
def test_screening_methods_take_any_scoring_function(direction):
    method = SCORED["score"]
    options = method.options(candidates=12, top=2, calibration=3)
    searcher = method.build(SearchTask(SPACE, 0, near_zero, direction=direction), options)
    configs = drive(TuneSearcher(searcher, metric="loss"), square)
    assert 3 <= len(configs) <= 5
    assert min(abs(c["x"]) for c in configs) == min(abs(c["x"]) for c in searcher._candidates)


# ---------------------------------------------------------------- several objectives


class Weighs(RandomSearch):
    def __init__(self, space, seed):
        super().__init__(space, seed)
        self.told = {}

    def tell(self, trial, value, *others):
        self.told[trial] = (value, *others)


def test_all_objectives_are_told_and_a_trial_without_a_finite_one_failed():
    def report_of(config):
        report = {"loss": config["x"] ** 2, "size": 10.0 * config["number"], "depth": 2}
        if config["number"] == 1:
            del report["size"]
        if config["number"] == 2:
            report["size"] = float("nan")
        return report

    method, notebook = Weighs(SPACE, 0), Notebook()
    searcher = TuneSearcher(
        method,
        metric="loss",
        others=["depth", "size"],
        max_trials=5,
        record=notebook,
        package=lambda trial, config: {"number": trial, **config},
    )
    drive(searcher, report_of)
    assert searcher.error is None
    xs = dict(notebook.of("asked"))
    assert {t: method.told[t] for t in "034"} == {t: (xs[int(t)] ** 2, 2.0, 10.0 * int(t)) for t in "034"}
    assert [method.told[t] for t in "12"] == [(None,), (None,)]
    told = {trial: (value, failure) for trial, value, failure in notebook.of("told")}
    assert told[1] == told[2] == (None, "it reported no finite size")


def test_one_objective_is_told_alone():
    method = Weighs(SPACE, 0)
    drive(TuneSearcher(method, metric="loss", max_trials=2), square)
    assert [len(told) for told in method.told.values()] == [1, 1]


# ---------------------------------------------------------------- budget and errors


def test_a_held_search_proposes_nothing_new_and_ends_when_nothing_runs():
    held = threading.Event()
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", hold=held.is_set)
    assert isinstance(searcher.suggest("a"), dict)
    held.set()
    assert searcher.suggest("b") is None, "the trial under way may fail, and free the search"
    held.clear()
    assert isinstance(searcher.suggest("b"), dict)
    held.set()
    for ray_id in "ab":
        searcher.on_trial_complete(ray_id, {"loss": 0.1})
    assert searcher.suggest("c") == TuneSearcher.FINISHED


def test_a_trial_that_an_earlier_session_began_is_ended_whatever_the_budget():
    history = [PastTrial("0", {"x": 0.5}, True, 0.25), PastTrial("1", {"x": 0.1}, False, None)]
    notebook = Notebook()
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", history=history, hold=lambda: True, record=notebook)
    assert searcher.suggest("a") == {"x": 0.1}
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {"loss": 0.01, COMPLETE: True})
    assert notebook.of("told") == [(1, 0.01, None)]
    assert searcher.suggest("b") == TuneSearcher.FINISHED


def test_trials_that_an_error_cuts_off_stay_unfinished():
    class Broken(RandomSearch):
        def ask(self, trial):
            if trial == "2":
                raise ValueError("no idea")
            return super().ask(trial)

    notebook = Notebook()
    searcher = TuneSearcher(Broken(SPACE, 0), metric="loss", record=notebook)
    for ray_id in "abc":
        searcher.suggest(ray_id)
    searcher.on_trial_complete("a", {"loss": 0.3})  # stopped with the rest, in the middle of its training
    searcher.on_trial_complete("b", {"loss": 0.2, COMPLETE: True})
    assert notebook.of("told") == [(1, 0.2, None)]
    assert repr(searcher.error) == "ValueError('no idea')"
