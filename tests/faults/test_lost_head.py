"""A study on a running cluster whose head, or whose part on this machine, is killed: one line, and the way to go on."""

import os
import re
import signal
import subprocess
import sys

import pytest

from dftune import Study
from dftune.tests.faults.test_driver import finished, rows, start, wait_for, write_spec

HEAD = """
import os, sys
from dftune.cluster.connection import SETTINGS
from dftune.cluster.embedded import ENVIRONMENT, PATIENCE

os.environ.update(SETTINGS | ENVIRONMENT | {"RAY_AUTH_MODE": "disabled"})  # its node listens on loopback
from ray._private import services
from ray.cluster_utils import Cluster
from dftune.cluster.ray_private import _patient

services.get_node = _patient(services.get_node, PATIENCE, raylets=[])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
started = {kind: infos[0].process.pid for kind, infos in cluster.head_node.all_processes.items()}
print(cluster.address, started["gcs_server"], started["raylet"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def head():
    """A cluster of one node in a process of its own: its address, and its GCS server and raylet."""
    with subprocess.Popen([sys.executable, "-c", HEAD], stdin=-1, stdout=-1, stderr=-3, text=True) as process:
        address, gcs, raylet = process.stdout.readline().split()
        yield address, {"gcs": int(gcs), "raylet": int(raylet)}
        process.stdin.close()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "what, said",
    [("gcs", r"the head of the Ray cluster at [\d.]+:\d+ does not answer"), ("raylet", "Ray's raylet was killed, .*")],
)
def test_a_study_that_loses_its_cluster_says_so_in_one_line_and_can_go_on(
    what, said, head, numbers, with_toy, tmp_path
):
    address, processes = head
    spec, folder = write_spec(tmp_path, numbers, trials=6, epochs=4), tmp_path / "studies" / "faulty"
    environment = with_toy | {"RAY_AUTH_MODE": "disabled"}
    driver = start("study", "run", spec, "--address", address, cwd=tmp_path, env=environment)
    wait_for(lambda: finished(folder), driver)
    os.kill(processes[what], signal.SIGKILL)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 1
    *before, last = err.splitlines()
    assert re.fullmatch(f"Error: {said}; finished trials are kept, go on with `dftune study resume faulty`", last)
    assert [line for line in before if not re.match(r"\[ *\d+ s\] ", line)] == [], "a line of Ray's own"
    assert "the end of " in (folder / "ray.log").read_text()
    assert rows(folder, "SELECT number FROM trials WHERE state = 'FAIL'") == []
    assert Study.open("faulty", tmp_path / "studies").conclusion() is None
    resumed = start("study", "resume", "faulty", cwd=tmp_path, env=with_toy)
    _, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, err
    assert sorted(finished(folder)) == list(range(6))
