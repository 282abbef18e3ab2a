"""Each private part of Ray that dftune uses still does what it is used for."""

import inspect
import logging
import os
import subprocess
import sys

import ray
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.search import SearchGenerator

from dftune.cluster import ray_private
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.space import Float
from dftune.searchers.tune_searcher import TuneSearcher
from dftune.tests.places import ROOT


def test_ray_is_pinned_to_the_minor_version_these_were_seen_in():
    assert '"ray[tune,serve]>=2.60,<2.61"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert ray.__version__.startswith("2.60.")


TOKENS = """
import os
from ray._raylet import AuthenticationTokenLoader
from dftune.cluster.ray_private import forget_token
for token in ("a" * 64, "b" * 64):
    os.environ["RAY_AUTH_TOKEN"] = token
    before = AuthenticationTokenLoader.instance().get_token_for_http_header()["authorization"]
    forget_token()
    print(before[-1], AuthenticationTokenLoader.instance().get_token_for_http_header()["authorization"][-1])
"""


def test_a_token_that_was_read_is_read_anew(tmp_path):
    environment = os.environ | {"RAY_AUTH_MODE": "token"}  # which Ray reads when it is imported
    out = subprocess.run(
        [sys.executable, "-c", TOKENS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["a", "a", "a", "b"]  # Ray keeps the first until it is told to forget it


def test_inside_deaths_by_memory_ray_tune_catches_what_its_memory_monitor_raises():
    assert not issubclass(OutOfMemoryError, RayActorError), "else this is no longer needed"
    with ray_private.deaths_by_memory():
        for module in (actor_manager, tune_controller):
            assert OutOfMemoryError in module.RayActorError
            assert "except RayActorError" in inspect.getsource(module) or "RayActorError)" in inspect.getsource(module)
    assert actor_manager.RayActorError is tune_controller.RayActorError is RayActorError


def test_a_trial_has_an_actor_and_metrics_to_forget():
    trial = Trial("x", stub=True)
    assert ray_private.actor_of(trial) is None
    trial.temporary_state.ray_actor = "actor"
    assert ray_private.actor_of(trial) == "actor"
    trial.metric_analysis["loss"] = {"max": 1.0}
    trial.metric_n_steps["loss"] = {"5": [1.0]}
    ray_private.forget_metrics(trial)
    assert (trial.metric_analysis, trial.metric_n_steps) == ({}, {})


class Controller:
    """What schedulers ask of Ray Tune's controller."""

    def __init__(self, searcher):
        self.search_alg = SearchGenerator(searcher)

    get_live_trials = TuneController.get_live_trials
    stop_trial = TuneController.stop_trial


def test_the_controller_knows_its_searcher_and_its_live_trials():
    searcher = TuneSearcher(RandomSearch({"x": Float(low=0, high=1)}, 0), metric="loss")
    controller = Controller(searcher)
    assert ray_private.searcher_of(controller) is searcher
    controller._live_trials = {"trial"}
    assert ray_private.live_trials(controller) == ["trial"]
    assert list(inspect.signature(TuneController.stop_trial).parameters)[:2] == ["self", "trial"]


def test_the_job_client_is_quiet():
    from ray.dashboard.modules import dashboard_sdk
    from ray.dashboard.modules.job import sdk

    ray_private.quiet_job_client()
    for module in (dashboard_sdk, sdk):
        assert module.logger.getEffectiveLevel() == logging.WARNING
