"""Studies on clusters of several nodes, of which one is lost: nothing finished is lost with it.

Each cluster is one of ``ray.cluster_utils`` in a process of its own, beside the Ray of the test session.
"""

import json
import re
import subprocess
import sys

import pytest

CHEAP = {"cutoff": 4.0, "two_j_max": 4}

STUDY = """
import json, os, sys
from pathlib import Path

os.environ["RAY_AUTH_MODE"] = "disabled"  # the nodes listen on loopback
from ray.cluster_utils import Cluster

from dftune import Study
from dftune.cluster.connection import SETTINGS
from dftune.platform.progress import Silent

os.environ.update(SETTINGS)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()


class Strike(Silent):
    said, done = [], False

    def say(self, text):
        self.said.append(text)

    def update(self, stage, done, total, text=""):
        # Two trials run, one a node, and the first has come to its end.
        if stage == "trials" and done >= 1 and not self.done:
            Strike.done = True
            cluster.remove_node(second, allow_graceful=False)


study = Study(
    "struck", sys.argv[1], studies=sys.argv[2], method="random", trials=6, descriptors=json.loads(sys.argv[3]),
    initializations=1, space={"width": {"type": "int", "low": 4, "high": 32, "log": True}},
    config={"n_layers": 1, "epochs": 8, "batch_size": 256, "patience": 100},
)
study.run(address=cluster.address, progress=Strike())
trials = study.trials()
print(json.dumps({
    "states": [t.state for t in trials], "lost": [list(t.lost) for t in trials], "struck": Strike.done,
    "failures": [t.failure for t in trials if t.failure],
    "values": [t.value for t in trials], "trial": study.conclusion().trial,
}))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_lost_in_the_search_costs_only_the_trial_that_ran_there(described, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", STUDY, described.path, tmp_path, json.dumps(CHEAP)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["struck"]
    assert found["failures"] == []
    assert found["states"] == ["finished"] * 6
    assert sum(map(len, found["lost"])) <= 1
    assert all(re.match("its (node|process)", cause) for causes in found["lost"] for cause in causes)
