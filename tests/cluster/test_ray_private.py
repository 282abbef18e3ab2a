"""Each private part of Ray that dftune uses still does what it is used for."""

import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray._private import node, ray_constants, services, worker
from ray._private.workers import setup_worker
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


def test_what_a_small_node_leaves_out_ray_still_starts_by_these_names():
    starting = inspect.getsource(node.Node.start_head_processes) + inspect.getsource(node.Node.start_ray_processes)
    for name in ("start_api_server", "start_monitor", "start_log_monitor", "start_ray_client_server"):
        assert f"self.{name}(" in starting
    raylet = inspect.getsource(services.start_raylet)
    for part in ("start_ray_process(", '"--session_dir={', '"--node_id={', '"--dashboard_agent_command={}"'):
        assert part in raylet
    for part in ('"--runtime_env_agent_command={}"', '"--python_worker_command={', '"--raylet_socket_name={'):
        assert part in raylet
    for word in ("--serialized-runtime-env-context", "--language"):
        assert f'"{word}"' in Path(setup_worker.__file__).read_text(encoding="utf-8")
    assert "services.get_node(" in inspect.getsource(node.Node.__init__)
    assert "if not ray_constants.ENABLE_RAY_CLUSTER" in inspect.getsource(services.get_node_ip_address)


def test_inside_a_small_node_the_address_is_loopback_and_after_it_all_is_as_before():
    before = services.start_ray_process, services.get_node, node.Node.start_monitor
    with ray_private.small_node(patience=1):
        assert services.start_ray_process is not before[0]
        assert ray_constants.ENABLE_RAY_CLUSTER is False
    assert (services.start_ray_process, services.get_node, node.Node.start_monitor) == before
    assert ray_constants.ENABLE_RAY_CLUSTER is True


def test_a_node_that_is_slow_to_come_is_waited_for():
    answers = iter([RuntimeError("not there yet"), RuntimeError("not there yet"), {"node_manager_port": 1}])

    def find(address, identity):
        if isinstance(answer := next(answers), RuntimeError):
            raise answer
        return answer

    assert ray_private._patient(find, patience=60, raylets=[])("address", "node") == {"node_manager_port": 1}
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    answers = iter([RuntimeError("not there yet")])
    with pytest.raises(OSError, match="its raylet ended"):
        ray_private._patient(find, patience=60, raylets=[ended])("address", "node")


def test_words_of_ray_are_given_to_whoever_asks_for_them():
    said = []
    with ray_private.words_to(said.append):
        worker.print_to_stdstream({"lines": ["a", "b"], "pid": "raylet"}, ignore_prefix=False)
    assert said == ["a\nb"]
    assert "print_to_stdstream(" in inspect.getsource(worker.listen_error_messages)


@pytest.mark.ray  # it imports Ray Serve, and that takes seconds
def test_a_replica_of_ray_serve_listens_on_loopback(monkeypatch):
    from ray.serve._private import replica

    asked = []
    monkeypatch.setattr(replica, "add_port_to_grpc_server", lambda server, address: asked.append(address))
    ray_private.replica_on_loopback()
    replica.add_port_to_grpc_server(None, "[::]:0")
    assert asked == ["127.0.0.1:0"]
    assert 'add_port_to_grpc_server(self._server, "[::]:0")' in inspect.getsource(replica)


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
