"""What Ray Tune is asked for: number of trials, metric and mode.  No Ray is started: its queue of trials is enough."""

import sys
import warnings

import pytest
from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.search.search_generator import SearchGenerator

from dftune.searchers.random_search import RandomSearch
from dftune.searchers.space import Float
from dftune.searchers.tune_private import asked_by_tune
from dftune.searchers.tune_searcher import TuneDiffers, TuneSearcher
from dftune.tests.code_blocks import examples
from dftune.tests.places import ROOT

SPACE = {"x": Float(low=-1, high=1)}


def trials(config: tune.TuneConfig, folder) -> int:
    """How many trials Ray Tune's own queue begins, at most 60."""
    queue = SearchGenerator(config.search_alg)
    # As ``tune.run`` has it: -1 is very many.
    spec = {"num_samples": sys.maxsize if config.num_samples == -1 else config.num_samples, "storage_path": str(folder)}
    queue.add_configurations(Experiment("trials", run=lambda config: None, **spec))
    queue.set_search_properties(config.metric, config.mode, {}, num_samples=config.num_samples)
    return sum(queue.next_trial() is not None for _ in range(60))


def test_the_documented_config_runs_fifty_trials(tmp_path):
    document = ROOT / "docs" / "methods.md"
    (shown,) = [one for one in examples(document) if "TuneConfig" in one.blocks[0][1]]
    assert trials(shown.run(document).config, tmp_path) == 50


def test_one_trial_by_default_of_ray_tune_is_warned_of(tmp_path):
    searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", max_trials=50)
    with pytest.warns(UserWarning, match="num_samples of TuneConfig is 1, so that one trial is run"):
        assert trials(tune.TuneConfig(search_alg=searcher), tmp_path) == 1


@pytest.mark.parametrize("asked, n", [({"num_samples": -1}, 7), ({"num_samples": 5}, 5)])
def test_the_smaller_number_of_trials_counts(asked, n, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        searcher = TuneSearcher(RandomSearch(SPACE, 0), metric="loss", max_trials=7)
        assert trials(tune.TuneConfig(search_alg=searcher, **asked), tmp_path) == n


@pytest.mark.parametrize(
    "ours, theirs, expected",
    [
        ({}, ("acc", "max"), ("acc", "max")),
        ({"metric": "acc"}, (None, "max"), ("acc", "max")),
        ({"metric": "acc"}, (None, None), ("acc", "min")),
        ({"metric": "acc", "mode": "max"}, (None, None), ("acc", "max")),
        ({"metric": "acc", "mode": "max"}, ("acc", "max"), ("acc", "max")),
    ],
)
def test_metric_and_mode_are_taken_from_whoever_says_them(ours, theirs, expected):
    searcher = TuneSearcher(RandomSearch(SPACE, 0), **ours)
    assert searcher.set_search_properties(*theirs, {}) is False  # a param_space is not taken
    assert (searcher.metric, searcher.mode) == expected


@pytest.mark.parametrize(
    "ours, theirs, said",
    [
        ({"metric": "acc", "mode": "min"}, ("acc", "max"), "TuneConfig has mode 'max', but TuneSearcher 'min'"),
        ({"metric": "acc"}, ("loss", "min"), "TuneConfig has metric 'loss', but TuneSearcher 'acc'"),
        ({}, (None, None), "nobody says the metric"),
    ],
)
def test_where_they_differ_the_search_is_refused(ours, theirs, said):
    with pytest.raises(TuneDiffers, match=said):
        TuneSearcher(RandomSearch(SPACE, 0), **ours).set_search_properties(*theirs, {})
    with pytest.raises(ValueError, match="give min or max"):
        TuneSearcher(RandomSearch(SPACE, 0), metric="loss", mode="maximum")


def test_outside_of_ray_tune_nothing_is_asked():
    assert asked_by_tune() is None
