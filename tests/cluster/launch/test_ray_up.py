"""The file for `ray up`, read by Ray itself."""

import subprocess

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from dftune.cluster.launch.ray_up import Machines, ray_up_config


@pytest.mark.parametrize("workers", [(), ("10.0.0.2", "node-3.example.org")])
def test_ray_itself_accepts_the_file_for_ray_up(workers, tmp_path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    spec = Machines(head="10.0.0.1", workers=workers, user="ada", key="~/.ssh/id_ed25519", venv="/opt/it's mine")
    config = yaml.safe_load(ray_up_config(spec))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["available_node_types"]["local.cluster.node"]["min_workers"] == len(workers)
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    for line in (*config["setup_commands"], head, worker):
        subprocess.run(["bash", "-n", "-c", line], check=True)
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert worker.endswith("'/opt/it'\"'\"'s mine/bin/ray' start --address=$RAY_HEAD_IP:6379")
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**prepared, "head_nodes": 1})


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"workers": ("10.0.0.1",)}, "10.0.0.1: named twice"),
        ({"head": "10.0.0.1; reboot"}, "not an address"),
        ({"user": "ada -o x"}, "not the name of a user"),
        ({"key": "-o x"}, "not a path"),
    ],
)
def test_machines_that_could_not_work_are_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        Machines(**{"head": "10.0.0.1", "user": "ada", "venv": "/opt/dftune", **wrong})
