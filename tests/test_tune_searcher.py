"""Our methods as Ray Tune searchers, in Ray Tune."""

import threading

import pytest
from ray import tune

from dftune.searchers import SEARCHERS
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.searcher import WAIT, PastTrial
from dftune.searchers.space import Float
from dftune.searchers.tune_searcher import COMPLETE, FAILURE, TuneSearcher

SPACE = {"x": Float(low=-1, high=1)}
pytestmark = pytest.mark.usefixtures("local_ray")


class Notebook:
    """A record that keeps what it is told, in order."""

    def __init__(self):
        self.events = []

    def asked(self, trial, config):
        self.events.append(("asked", trial, config["x"]))

    def reported(self, trial, result):
        self.events.append(("reported", trial))

    def told(self, trial, value, result, failure):
        self.events.append(("told", trial, value, failure))

    def of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]


def fit(searcher, trainable, folder, **config):
    settings = {"num_samples": -1, "max_concurrent_trials": 2, "reuse_actors": True} | config
    return tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, **settings),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()


def parabola(config):
    tune.report({"loss": config["x"] ** 2})


def test_a_method_plugs_into_ray_tune_as_it_is(tmp_path):
    notebook = Notebook()
    searcher = TuneSearcher(RandomSearch(SPACE, seed=3), metric="loss", max_trials=6, record=notebook)
    results = fit(searcher, parabola, tmp_path)
    assert notebook.of("asked")[0] == (0, RandomSearch(SPACE, seed=3).ask("0")["x"])
    assert len(results) == 6
    assert sorted(r.config["x"] for r in results) == sorted(x for _, x in notebook.of("asked"))
    assert {t: v for t, v, _ in notebook.of("told")} == {t: x**2 for t, x in notebook.of("asked")}
    assert searcher.error is None


def test_a_trial_is_recorded_before_it_starts_and_before_the_method_is_told(tmp_path):
    notebook = Notebook()

    class Watched(RandomSearch):
        def tell(self, trial, value):
            notebook.events.append(("method told", int(trial)))

    fit(TuneSearcher(Watched(SPACE, 0), metric="loss", max_trials=3, record=notebook), parabola, tmp_path)
    for trial in range(3):
        kinds = [event[0] for event in notebook.events if event[1] == trial]
        assert kinds[0] == "asked"
        assert kinds[-2:] == ["told", "method told"]


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


def test_an_error_in_the_method_ends_the_search_and_is_kept(tmp_path):
    class Broken(RandomSearch):
        def ask(self, trial):
            if trial == "2":
                raise ValueError("no idea")
            return super().ask(trial)

    searcher = TuneSearcher(Broken(SPACE, 0), metric="loss")
    assert len(fit(searcher, parabola, tmp_path)) == 2
    assert repr(searcher.error) == "ValueError('no idea')"


def test_unfinished_trials_of_the_history_run_first_under_their_old_number(tmp_path):
    method = RandomSearch(SPACE, 0)
    configs = [method.ask(str(n)) for n in range(4)]
    history = [
        PastTrial("0", configs[0], True, 0.5),
        PastTrial("1", configs[1], False, None),
        PastTrial("2", configs[2], True, None),
    ]
    notebook = Notebook()
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", max_trials=4, record=notebook, history=history)
    fit(searcher, parabola, tmp_path)
    assert notebook.of("asked") == [(3, configs[3]["x"])]
    assert {t: v for t, v, _ in notebook.of("told")} == {1: configs[1]["x"] ** 2, 3: configs[3]["x"] ** 2}


def test_waiting_is_not_the_end(tmp_path):
    class Hesitant(RandomSearch):
        """Proposes a second trial only when the first has ended."""

        told = 0

        def ask(self, trial):
            return WAIT if int(trial) > self.told else super().ask(trial)

        def tell(self, trial, value):
            self.told += 1

    assert len(fit(TuneSearcher(Hesitant(SPACE, 0), metric="loss", max_trials=3), parabola, tmp_path)) == 3


def test_a_maximised_metric_reaches_the_method_with_its_sign_turned(tmp_path):
    seen = []

    class Watched(RandomSearch):
        def tell(self, trial, value):
            seen.append(value)

    fit(TuneSearcher(Watched(SPACE, 0), metric="loss", mode="max", max_trials=2), parabola, tmp_path)
    assert all(value <= 0 for value in seen)
    assert len(seen) == 2


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


@pytest.mark.parametrize("name", [n for n, m in SEARCHERS.items() if m.score is None])
def test_methods_without_a_score_plug_into_ray_tune(name, tmp_path):
    method = SEARCHERS[name]
    notebook = Notebook()
    searcher = TuneSearcher(
        method.build(SPACE, 0, None, method.options()), metric="loss", max_trials=8, record=notebook
    )
    results = fit(searcher, parabola, tmp_path)
    assert searcher.error is None
    assert 2 <= len(results) <= 8
    assert {t: v for t, v, _ in notebook.of("told")} == {t: x**2 for t, x in notebook.of("asked")}


@pytest.mark.parametrize("name", [n for n, m in SEARCHERS.items() if m.score])
def test_score_based_methods_plug_into_ray_tune_with_any_scoring_function(name, tmp_path):
    method = SEARCHERS[name]
    options = method.options(candidates=12, top=2, calibration=3)
    searcher = method.build(SPACE, 0, lambda configs: [-abs(c["x"]) for c in configs], options)
    results = fit(TuneSearcher(searcher, metric="loss"), parabola, tmp_path)
    assert 3 <= len(results) <= 5
    best = min(abs(c["x"]) for c in searcher._candidates)
    assert results.get_best_result("loss", "min").metrics["loss"] == pytest.approx(best**2)
