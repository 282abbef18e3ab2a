"""All private parts of Ray that dftune uses, of the minor version that pyproject.toml names.  A test holds each."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError


def forget_token() -> None:
    """Have Ray read its token anew: it keeps the first one that it has read."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _in_place_of(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def small_node(patience: float) -> Iterator[None]:
    """Inside, ``ray.init`` starts a GCS server, a raylet and its workers, which listen on loopback, and nothing else.

    Ray 2.60 would start five processes more, for the dashboard, the cluster launcher, runtime environments, and logs
    that we do not show: two thirds of the CPU seconds of a start, and half of its memory.

    Args:
        patience: how long to wait for the raylet [s]; Ray itself gives up after 30.
    """
    from ray._private import node, ray_constants, services

    raylets: list[Any] = []

    def start_no_dashboard(self: Any, **options: Any) -> None:
        self._webui_url = ""

    with ExitStack() as inside:
        for owner, name, value in (
            (ray_constants, "ENABLE_RAY_CLUSTER", False),  # as on macOS: the address of the node is 127.0.0.1
            (services, "start_ray_process", _noting(raylets, services.start_ray_process, _with_stand_ins)),
            (services, "get_node", _patient(services.get_node, patience, raylets)),
            (node.Node, "start_api_server", start_no_dashboard),
            (node.Node, "start_monitor", lambda self: None),
            (node.Node, "start_log_monitor", lambda self: None),
        ):
            inside.enter_context(_in_place_of(owner, name, value))
        yield


def _noting(raylets: list[Any], start: Callable[..., Any], change: Callable[[list[str]], list[str]]) -> Any:
    """Ray's start of a process, which notes each raylet that it starts, by a changed command."""
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    def start_process(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        if kind != PROCESS_TYPE_RAYLET:
            return start(command, kind, *arguments, **options)
        info = start(change(command), kind, *arguments, **options)
        raylets.append(info.process)
        return info

    return start_process


def _patient(find: Callable[[str, str], Any], patience: float, raylets: Sequence[Any]) -> Any:
    """Ray's search for its own node, which waits so long [s], as long as its raylets run."""

    def find_node(address: str, identity: str) -> Any:
        end = time.monotonic() + patience
        while True:
            try:
                return find(address, identity)
            except RuntimeError as error:  # it is not there yet
                if any(process.poll() is not None for process in raylets):
                    raise OSError("its raylet ended") from error
                if time.monotonic() > end:
                    raise OSError(f"its raylet was not ready within {patience:g} s") from error
            time.sleep(0.1)

    return find_node


def ray_command(patience: float) -> None:
    """The command ``ray``, as which this process was called; but for ``ray start`` on a busy machine.

    Without the server of Ray's client: nobody asks it, no option switches it off, and where it does not start within
    30 s it takes the head with it.

    Args:
        patience: how long to wait for the raylet [s]; Ray itself gives up after 30.
    """
    from ray._private import node, services
    from ray.scripts.scripts import main

    node.Node.start_ray_client_server = lambda self: None
    raylets: list[Any] = []
    services.start_ray_process = _noting(raylets, services.start_ray_process, lambda command: command)
    services.get_node = _patient(services.get_node, patience, raylets)
    main()


def _with_stand_ins(command: list[str]) -> list[str]:
    """The command of a raylet, with forked workers and other agents; the ports it waits for are written down."""
    import ray

    raylet: Any = ray._raylet
    options = dict(word.split("=", 1) for word in command if "=" in word)
    folder, node = options["--session_dir"], options["--node_id"]
    for name in ("METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME"):
        raylet.persist_port(folder, node, getattr(raylet, name), -1)  # as Ray's own agent without a dashboard
    port_file = f"{folder}/{raylet.get_port_filename(node, raylet.RUNTIME_ENV_AGENT_PORT_NAME)}"
    agents = {"--dashboard_agent_command": _quick("agent_stand_in")}
    agents["--runtime_env_agent_command"] = [*_quick("agent_stand_in"), port_file]
    worker = options["--python_worker_command"]
    if sys.platform == "linux":  # on macOS a fork of what has imported torch may crash
        forks = f"{options['--raylet_socket_name']}.forks"
        agents["--dashboard_agent_command"] = [sys.executable, str(Path(__file__).with_name("worker_forks.py")), forks]
        _, script, words = worker.partition("setup_worker.py ")
        worker = f"{subprocess.list2cmdline([*_quick('worker_stand_in'), forks])} {words}" if script else worker
    texts = {name: f"{name}={subprocess.list2cmdline(agent)}" for name, agent in agents.items()}
    texts["--python_worker_command"] = f"--python_worker_command={worker}"
    return [texts.get(word.split("=", 1)[0], word) for word in command]


@contextmanager
def drawing_nothing() -> Iterator[None]:
    """Inside, modules that declare actors can be imported without a draw from Ray's generator of random names.

    It is seeded with its first draw: processes that are forked after that would give objects the same names.
    """
    from ray import actor

    class FromTheSystem:
        @staticmethod
        def from_random() -> Any:
            return names(os.urandom(names.size()))

    names: Any = actor.ActorClassID
    with _in_place_of(actor, "ActorClassID", FromTheSystem):
        yield


def _quick(script: str) -> list[str]:
    """The command of a script of this folder that imports what loads quickly."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name(f"{script}.py"))]


def processes() -> dict[str, int]:
    """Of this process' node: the processes of this machine without which nothing goes on, and their ids.

    Of a node that somebody else has started, it is the raylet alone, if it can be seen from here.
    """
    from ray._private import ray_constants, worker

    node = worker._global_node
    kinds = {"raylet": ray_constants.PROCESS_TYPE_RAYLET, "GCS server": ray_constants.PROCESS_TYPE_GCS_SERVER}
    own = {name: node.all_processes[kind][0].process.pid for name, kind in kinds.items() if kind in node.all_processes}
    if own:
        return own
    socket = f"--raylet_socket_name={node.raylet_socket_name}"
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
            if socket in words and Path(words[0]).name == "raylet":
                return {"raylet": int(folder.name)}
    return {}


def head_address() -> str:
    """HOST:PORT of the GCS server of the cluster that this process is connected to."""
    from ray._private import worker

    return str(worker._global_node.gcs_address)


def session_folder() -> Path:
    """Of this process' node: the folder of its files, logs among them."""
    from ray._private import worker

    return Path(worker._global_node.get_session_dir_path())


@contextmanager
def words_to(write: Callable[[str], object]) -> Iterator[None]:
    """Inside, Ray gives what it would print about errors of the cluster to ``write``."""
    from ray._private import worker

    def put(data: dict[str, Any], *arguments: Any, **options: Any) -> None:
        write("\n".join(data["lines"]))

    with _in_place_of(worker, "print_to_stdstream", put):
        yield


@contextmanager
def deaths_by_memory() -> Iterator[None]:
    """Inside, a trial that Ray's memory monitor ends is a trial that failed.

    Ray Tune 2.60 takes the error for one of its own and gives up the whole search: it asks for RayActorError, which
    Ray's OutOfMemoryError is not.
    """
    from ray.air.execution._internal import actor_manager
    from ray.tune.execution import tune_controller

    modules = [actor_manager, tune_controller]
    before = [module.RayActorError for module in modules]
    try:
        for module in modules:
            module.RayActorError = (RayActorError, OutOfMemoryError)
        yield
    finally:
        for module, error in zip(modules, before, strict=True):
            module.RayActorError = error


def actor_of(trial: Any) -> Any:
    """The actor that a trial of Ray Tune runs in, None where it has none."""
    return trial.temporary_state.ray_actor


def forget_metrics(trial: Any) -> None:
    """Let go of means and extremes of each number that a trial has reported: 23 KB a trial that nobody reads."""
    trial.metric_analysis.clear()
    trial.metric_n_steps.clear()


def live_trials(controller: Any) -> list[Any]:
    """The trials that have not ended, as Ray Tune's controller knows them."""
    return list(controller.get_live_trials())


def searcher_of(controller: Any) -> Any:
    """The searcher that Ray Tune's controller asks."""
    return controller.search_alg.searcher


def end_trial(controller: Any, trial: Any) -> None:
    """End a paused trial."""
    controller.stop_trial(trial)


def quiet_job_client() -> None:
    """Have the client of Ray's job API log warnings alone: it would tell of every step."""
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)


def replica_on_loopback() -> None:
    """Have the replica of Ray Serve that runs in this process take calls from this machine alone.

    Ray Serve 2.60 opens a port on all interfaces in each replica, for calls between deployments.  It asks for no token,
    and unpickles what comes.  We make no such calls.
    """
    from ray.serve._private import replica

    add = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add(server, address.replace("[::]:", "127.0.0.1:"))
