"""Workers of an embedded Ray: forks of a process that has imported what they need, and what they share with it."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from threadpoolctl import threadpool_info

from dftune.cluster import worker_forks, worker_stand_in
from dftune.cluster.resources import use_cpus

OTHERS = {"env_vars": {"DFTUNE_TEST": "another environment"}}
HANDLED = [s for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]


@ray.remote(num_cpus=0)
class Worker:
    """Says what it is."""

    def __init__(self):
        self.imported = "torch" in sys.modules

    def parent(self) -> tuple[int, str]:
        return os.getpid(), Path(f"/proc/{os.getppid()}/cmdline").read_text().replace("\0", " ")

    def state(self) -> dict[str, object]:
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return {
            "path": sys.path,
            "arguments": [w for w in sys.argv if not w.startswith(("--worker-", "--runtime-env-hash"))],
            "script": sys.modules["__main__"].__file__,
            "flags": tuple(sys.flags),
            "environment": {k: v for k, v in os.environ.items() if k not in {"RAY_JOB_ID", *OTHERS["env_vars"]}},
            "folder": os.getcwd(),
            "signals": [str(signal.getsignal(s)).partition(" at ")[0] for s in HANDLED],
            "status": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask")],
            "oom_score": Path("/proc/self/oom_score_adj").read_text(),
            "limits": Path("/proc/self/limits").read_text(),
            "session": os.getsid(0),
        }

    def child(self) -> int:
        return subprocess.Popen(["sleep", "1000"]).pid

    def random(self) -> tuple[str, str, str]:
        return random.random().hex(), np.random.random().hex(), ray.ObjectID.from_random().hex()

    def threads(self, cpus: float) -> tuple[set[int], int]:
        import scipy.linalg
        import torch

        if cpus:
            use_cpus(cpus)
        assert scipy.linalg
        of_blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        return of_blas, torch.get_num_threads()

    def has_imported(self) -> bool:
        return self.imported


@pytest.fixture
def start(local_ray):
    """Starts a worker, which ends with the test."""
    workers = []

    def one(**options):
        workers.append(Worker.options(**options).remote())
        return workers[-1]

    yield one
    for worker in workers:
        ray.kill(worker)


def wait_for_the_end_of(process: int) -> None:
    deadline = time.monotonic() + 300
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_is_a_fork_and_one_of_another_environment_is_started_as_ray_does(start):
    here, there = start(), start(runtime_env=OTHERS)
    (_, parent), (_, rays) = ray.get([here.parent.remote(), there.parent.remote()], timeout=300)
    assert worker_forks.__file__ in parent
    assert rays.split(" ")[0].endswith("/raylet")
    assert ray.get([here.has_imported.remote(), there.has_imported.remote()], timeout=300) == [True, False]


def test_a_fork_is_what_a_worker_is_that_ray_has_started(start):
    fork, started = ray.get([start().state.remote(), start(runtime_env=OTHERS).state.remote()], timeout=300)
    assert sorted(fork.pop("path")) == sorted(started.pop("path"))
    assert fork == started
    assert int(fork["oom_score"]) == 1000, "the system ends workers first"


@pytest.mark.parametrize("environment", [{}, OTHERS], ids=["fork", "started by Ray"])
def test_what_a_killed_worker_has_started_ends_with_it(start, environment):
    worker = start(runtime_env=environment)
    (process, _), child = ray.get([worker.parent.remote(), worker.child.remote()], timeout=300)
    os.kill(process, signal.SIGKILL)
    wait_for_the_end_of(child)


def test_forks_draw_other_numbers_and_names(start):
    drawn = ray.get([start().random.remote() for _ in range(3)], timeout=300)
    assert [len(set(draws)) for draws in zip(*drawn, strict=True)] == [3, 3, 3]


@pytest.mark.parametrize("environment", [{}, OTHERS], ids=["fork", "started by Ray"])
@pytest.mark.parametrize("cpus, threads", [(0, 1), (1, 1), (2, 2)])
def test_a_worker_computes_with_a_thread_for_each_of_its_cpus(start, environment, cpus, threads):
    assert ray.get(start(runtime_env=environment).threads.remote(cpus), timeout=300) == ({threads}, threads)


def test_forks_that_have_ended_are_buried_and_what_is_no_order_is_passed_over(start):
    worker = start()
    process, _ = ray.get(worker.parent.remote(), timeout=300)
    address = f"{ray._private.worker._global_node.raylet_socket_name}.forks"
    for words in (b"", b".", b".{", b'.{"environment": {}}'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    ray.kill(worker)
    wait_for_the_end_of(process)
    _, parent = ray.get(start().parent.remote(), timeout=300)
    assert worker_forks.__file__ in parent


def test_where_no_forks_are_to_be_had_the_stand_in_becomes_the_worker(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import os, sys\nprint(os.environ['A'], sys.argv[1:], sys.flags.isolated, sys.flags.no_site)\n")
    context = '--serialized-runtime-env-context={"env_vars": {"A": "x y"}}'
    command = [sys.executable, "-I", "-S", worker_stand_in.__file__, str(tmp_path / "none"), str(script)]
    out = subprocess.run(
        [*command, "--node-id=7", context, "--language=PYTHON"], capture_output=True, text=True, check=True, timeout=300
    )
    assert out.stdout == "x y ['--node-id=7'] 0 0\n"


@pytest.mark.ray  # it imports Ray and all that a worker needs, which takes seconds
@pytest.mark.parametrize("others", [True, False])
def test_no_dftune_is_imported_but_that_of_the_forks(tmp_path, others):
    if others:
        (tmp_path / "dftune").mkdir()
        (tmp_path / "dftune" / "__init__.py").touch()
    code = f"""
import sys
from dftune.cluster import worker_forks
for name in [name for name in sys.modules if name.partition(".")[0] == "dftune"]:
    del sys.modules[name]
sys.path[:0] = {[str(tmp_path)] if others else []}
print(worker_forks.imports(), "torch" in sys.modules, "dftune.trainables.ldos.surrogate" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert out.stdout.split() == [str(not others)] * 3
