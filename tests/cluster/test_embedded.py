"""The Ray that a command starts for itself: its processes, its ports, its folder, and how it fails."""

import json
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from dftune.cluster import agent_stand_in, embedded, loss
from dftune.cluster.connection import given_address
from dftune.tests.listeners import descendants, is_local, listeners


def test_a_listener_on_the_network_is_told_from_one_on_loopback():
    with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.create_server(("127.0.0.1", 0)) as here:
        ports = {f"{s.getsockname()[1]:04X}": s for s in (everywhere, here)}
        found = {local: ports[local[-4:]] for local in listeners({os.getpid()}) if local[-4:] in ports}
        assert {local: is_local(local) for local in found} == {local: found[local] is here for local in found if found}
        assert len(found) == 2


@pytest.mark.usefixtures("local_ray")
def test_an_embedded_ray_listens_on_loopback_only_and_starts_nothing_that_nobody_needs():
    open_to_others = {local: owner for local, owner in listeners(descendants()).items() if not is_local(local)}
    assert open_to_others == {}
    commands = []
    for process in descendants():
        with suppress(OSError):
            commands.append(Path(f"/proc/{process}/cmdline").read_text().replace("\0", " "))
    for unneeded in ("log_monitor.py", "monitor.py", "dashboard.py", "DashboardAgent", "RuntimeEnvAgent"):
        assert [command for command in commands if unneeded in command] == []
    assert sum("raylet/raylet" in command.split(" ")[0] for command in commands) == 1


def test_mpi_in_the_process_that_loads_lammps_listens_nowhere():
    code = """
import os
from dftune.trainables.descriptors.lammps_engine import mpi_world
from dftune.tests.listeners import listeners
assert mpi_world(alone=True).size == 1
print(listeners({os.getpid()}))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert out.stdout == "{}\n"


@pytest.mark.usefixtures("local_ray")
def test_its_files_lie_in_a_folder_that_only_its_user_may_enter():
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    ours = session.parent.parent
    assert ours.name == f"dftune-ray-{os.getuid()}"
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    assert ours.stat().st_uid == os.getuid()


@ray.remote(num_cpus=0)
def variable(name: str) -> str | None:
    return os.environ.get(name)


@pytest.mark.usefixtures("local_ray")
def test_a_runtime_environment_of_variables_is_granted_and_any_other_refused():
    granted = variable.options(runtime_env={"env_vars": {"DFTUNE_TEST": "a 'b' ü"}}).remote("DFTUNE_TEST")
    assert ray.get(granted, timeout=300) == "a 'b' ü"
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match=f"{agent_stand_in.REFUSED}pip"):
        ray.get(variable.options(runtime_env={"pip": ["x"]}).remote("X"), timeout=300)


def test_the_stand_in_answers_as_an_agent_of_ray_and_ends_with_its_input(tmp_path):
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray.core.generated.runtime_env_agent_pb2 import GetOrCreateRuntimeEnvReply, GetOrCreateRuntimeEnvRequest

    port_file, variables = tmp_path / "port", {"A": "x" * 300, "B": ""}
    request = GetOrCreateRuntimeEnvRequest(serialized_runtime_env=json.dumps({"env_vars": variables}), job_id=b"1")
    body = request.SerializeToString()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", agent_stand_in.__file__, str(port_file)], stdin=subprocess.PIPE
    ) as process:
        while not port_file.exists():
            assert process.poll() is None
            select.select([], [], [], 0.01)
        with socket.create_connection(("127.0.0.1", int(port_file.read_text())), timeout=60) as connection:
            head = f"POST /get_or_create_runtime_env HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        process.stdin.close()
        assert process.wait(60) == 0
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    found = GetOrCreateRuntimeEnvReply.FromString(body)
    assert found.status == 0
    context = RuntimeEnvContext.deserialize(found.serialized_runtime_env_context)
    assert (context.env_vars, context.py_executable) == (variables, sys.executable)


@pytest.fixture
def base(monkeypatch):
    """Sets TMPDIR as a user would, RAY_TMPDIR being unset."""

    def put(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", None)

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return put


def test_a_long_tmpdir_is_passed_over_for_a_short_folder_of_the_user(base, tmp_path):
    base(tmp_path / ("x" * 100))
    folder = embedded._folder()
    try:
        assert folder.parent == Path(f"/tmp/dftune-ray-{os.getuid()}")
        assert len(str(folder)) + embedded.BELOW <= 107
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    finally:
        embedded.shutil.rmtree(folder)


def test_a_short_tmpdir_is_used_and_ray_tmpdir_before_it(base, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as given, tempfile.TemporaryDirectory(dir="/tmp") as rays:
        base(Path(given))
        assert embedded._folder().is_relative_to(given)
        monkeypatch.setenv("RAY_TMPDIR", rays)
        assert embedded._folder().is_relative_to(rays)


def test_a_folder_that_another_prepared_is_not_entered(base):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a") as theirs:
        base(Path(theirs))
        (Path(theirs) / f"dftune-ray-{os.getuid()}").symlink_to("/tmp")
        folder = embedded._folder()
        assert folder.parent == Path(f"/tmp/dftune-ray-{os.getuid()}")
        folder_of_dftune = folder.parent.lstat()
        assert stat.S_ISDIR(folder_of_dftune.st_mode)
        embedded.shutil.rmtree(folder)


@pytest.mark.parametrize(
    "value, expected", [("", None), (" ", None), ("local", None), ("10.0.0.1:6379", "10.0.0.1:6379")]
)
def test_an_empty_ray_address_is_as_none(monkeypatch, value, expected):
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert given_address(None) == given_address("") == expected
    assert given_address("10.0.0.2:6379") == "10.0.0.2:6379"


FAILS = """
import sys
from ray._private import services
from dftune.cluster.connection import ClusterError, connected
from dftune.cluster.processes import _marked, mark
services.RAYLET_EXECUTABLE = "/bin/false"
try:
    with connected(say=lambda text: print(text, flush=True)):
        sys.exit("it started")
except ClusterError as error:
    print(error)
print([value for _, value in _marked() if value == mark()])
"""


@pytest.mark.ray
def test_a_ray_that_does_not_start_is_tried_twice_said_in_one_line_and_leaves_nothing(tmp_path):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a") as short:
        out = subprocess.run(
            [sys.executable, "-c", FAILS], cwd=tmp_path, capture_output=True, text=True, timeout=600,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")}, "RAY_TMPDIR": short},
        )  # fmt: skip
        left = list(Path(short).glob("dftune-ray-*/*"))
    assert out.stdout.splitlines() == [
        "Ray is starting",
        "Ray did not start (its raylet ended); trying again",
        "cannot start Ray on this machine: its raylet ended; it was tried twice, so wait until the machine is less "
        "busy",
        "[]",
    ]
    assert (out.stderr, left, out.returncode) == ("", [], 0)


@pytest.mark.usefixtures("local_ray")
def test_workers_are_as_nice_as_their_driver():
    # Ray's own 15 leaves a worker 1 % of a core beside eight busy processes.
    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


def test_few_open_files_are_named_where_ray_is_gone(monkeypatch):
    for files, said in ((64, "memory or of open files (`ulimit -n` is 64)"), (1024, "memory")):
        monkeypatch.setattr(loss.resource, "getrlimit", lambda which, n=files: (n, n))
        assert loss.wanting() == said
