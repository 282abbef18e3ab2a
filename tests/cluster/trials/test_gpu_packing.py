"""How many trials share a GPU, and where they run on nodes of several kinds."""

import json
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dftune.cluster.resources import GB, MemoryShare, fraction_of, trials_on_gpu
from dftune.cluster.trials.gpu_packing import MOST, NodeGpus, pack
from dftune.platform.cli.main import cli
from dftune.platform.spec import SpecError, StudySpec
from dftune.searchers.space import draw
from dftune.trainables.kind import TrainingMemory
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.training_memory import training_memory

NEED = TrainingMemory(weights=int(0.1 * GB), activations=int(0.4 * GB), points=int(1 * GB))  # with CUDA: 2 GB
A_LOT = 1e6


def node(gigabytes, *, count=1, cpus=A_LOT, name="X100"):
    return NodeGpus(count, cpus, name, int(gigabytes * GB))


@pytest.mark.parametrize(
    "nodes, cpus, memory, n",
    [
        ([node(2.3)], 1, None, 1),
        ([node(6.7)], 1, None, 3),
        ([node(6.6)], 1, None, 2),  # 0.9 of it are less than 6 GB
        ([node(80)], 1, None, MOST),
        ([node(80, cpus=5)], 1, None, 5),
        ([node(80, cpus=16, count=4)], 1, None, 4),
        ([node(80, cpus=16, count=4)], 2, None, 2),
        ([node(80, cpus=2, count=4)], 1, None, 1),  # more GPUs than CPUs: each has one trial, or none
        ([node(80, cpus=2, count=4), node(80, cpus=12, count=4)], 1, None, 3),
        ([node(80), node(4.5)], 1, None, 2),  # it must fit on each
        ([node(6.7)], 1, 0.5, 4),  # of the grid points only so many are kept
        ([node(6.7)], 1, 50.0, 3),
        ([node(1.2)], 1, None, 1),  # the points do not fit, and are streamed
        ([node(0.8)], 1, None, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_have_memory_and_cpus_and_no_more_than_make_sense(nodes, cpus, memory, n):
    placement = pack(nodes, cpus, memory, 1000, NEED, "64 x 64 gelu")
    assert trials_on_gpu(placement.gpus) == n
    assert f"{n} on each of {sum(node.count for node in nodes)} GPUs: " in placement.explanation


def test_the_choice_says_what_it_rests_on():
    found = pack(
        [node(10, count=2, cpus=16), node(40, name="Y200")], 1, None, 1000, NEED, "64 x 64 gelu, batch_size 128"
    )
    assert found.explanation == (
        "4 on each of 3 GPUs: the largest network (64 x 64 gelu, batch_size 128) takes 0.100 GB for weights and "
        "optimizer, 0.40 for activations, 1.00 for data, and CUDA 0.5 (assumed), 2.00 GB in all; 90% of the "
        "10.0 GB of X100 hold 4 such trials, its node has CPUs for 1000000, 1000 trials make 334 for each GPU, and "
        "more than 8 would wait for each other"
    )
    assert pack([node(1.2)], 1, None, 1000, NEED, "").explanation.endswith("; data that do not fit are streamed")
    assert pack([node(0.8)], 1, None, 1000, NEED, "").explanation.endswith("; so large a network will fail")


@pytest.mark.parametrize("wanted, n", [(1, 1), (3, 1), (4, 2), (7, 3), (100, MOST)])
def test_no_gpu_is_cut_finer_than_the_trials_need_that_would_else_leave_others_idle(wanted, n):
    assert trials_on_gpu(pack([node(80), node(80, count=2)], 1, None, wanted, NEED, "").gpus) == n


def test_gpus_that_torch_cannot_use_are_left_alone_and_said():
    blind = NodeGpus(4, 16, problem="torch 2.13.0+cpu finds none")
    assert pack([], 1, None, 1000, NEED, "").gpus == 0
    assert pack([], 1, None, 1000, NEED, "").explanation == "trials run on CPUs: no node has a GPU"
    alone = pack([blind], 1, None, 1000, NEED, "")
    assert alone.gpus == 0
    assert alone.explanation == (
        "trials run on CPUs: no node has a GPU that torch can use; Ray counts 4 GPUs where torch 2.13.0+cpu finds none"
    )
    beside = pack([blind, node(6.7)], 1, None, 1000, NEED, "")
    assert trials_on_gpu(beside.gpus) == 3
    assert beside.explanation.endswith(
        "; Ray counts 4 GPUs where torch 2.13.0+cpu finds none: trials there train on the CPUs"
    )


def test_so_many_fractions_of_a_gpu_fit_on_it_as_ray_counts_them():
    for n in range(1, 101):
        units = round(10_000 * fraction_of(n))  # Ray's fixed point has four decimals
        assert trials_on_gpu(fraction_of(n)) == 10_000 // units
        assert n * units <= 10_000
        assert n > 50 or trials_on_gpu(fraction_of(n)) == n


def test_a_fraction_of_a_gpu_never_spans_two():
    assert [trials_on_gpu(fraction) for fraction in (1, 0.6, 0.5, 0.4, 0.2, 0.1)] == [1, 1, 2, 2, 5, 10]


@pytest.mark.parametrize("gpus", [2, 1.5, -0.5, 0.001, True, "all", float("nan")])
def test_a_trial_has_one_gpu_a_share_of_it_or_none(gpus):
    with pytest.raises(
        SpecError, match=r'gpus\': needs "auto", 0, or 0.01 to 1: a trial trains on one GPU or shares it'
    ):
        StudySpec.of({"name": "a", "dataset": "al4", "resources": {"gpus": gpus}})
    assert StudySpec.of({"name": "a", "dataset": "al4", "resources": {"gpus": 0.25}}).resources.gpus == 0.25
    assert StudySpec.of({"name": "a", "dataset": "al4"}).resources.gpus == "auto"


def test_the_largest_network_of_a_space_is_found_without_trying_all():
    space = {
        "optimizer": {"type": "choice", "values": ["sgd", "adam"]},
        "n_layers": {"type": "choice", "values": [3, 1, 2]},
        "width": {"type": "int", "low": 4, "high": 32},
        "width_3": {"type": "int", "low": 4, "high": 64, "when": {"n_layers": [3]}},
        "activation": {"type": "choice", "values": ["tanh", "gelu", "relu"]},
        "batch_size": {"type": "choice", "values": [64, 4096]},
    }
    spec = StudySpec.of({"name": "a", "dataset": "al4", "space": space, "config": {"epochs": 3}})

    def size(config):
        return training_memory(config, 30, 37, n_train=10_000, n_validation=1000).network

    found = spec.largest(size)
    everywhere = (draw(spec.space, np.random.default_rng(seed)) for seed in range(300))
    assert size(found) >= max(size(SurrogateConfig.of(config)) for config in everywhere)
    assert (found.hidden, found.optimizer, found.epochs) == ((32, 32, 64), "adam", 3)


@pytest.mark.parametrize("gigabytes", [2.3, 4.5, 6.7, 9.0, 15.6, 40])
def test_a_trial_keeps_all_its_points_where_it_was_packed_to_and_would_not_beside_one_more(gigabytes, monkeypatch):
    whole = SimpleNamespace(total_memory=int(gigabytes * GB))  # no GPU is here to ask
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: whole)

    def room(n):
        share = MemoryShare(None, of_gpu=1 / trials_on_gpu(fraction_of(n)))
        return share.bytes("cuda", NEED.network)

    n = trials_on_gpu(pack([node(gigabytes)], 1, None, 1000, NEED, "").gpus)
    assert room(n) >= NEED.points
    assert n == MOST or room(n + 1) < NEED.points
    assert MemoryShare(0.3, of_gpu=0.5).bytes("cuda", NEED.network) == 0.3 * GB
    assert MemoryShare(None, of_gpu=0.01).bytes("cuda", NEED.network) == 0


ON_THREE_NODES = """
import json, os, sys, time
import ray
from ray import tune
from ray.cluster_utils import Cluster
from dftune.cluster.trials import gpu_packing
from dftune.cluster.connection import SETTINGS
from dftune.cluster.resources import fraction_of, most_cpus, slots
from dftune.platform.study.study import Study

def where(config):
    places, until = config["places"], time.time() + 500
    visible, node = os.environ["CUDA_VISIBLE_DEVICES"], ray.get_runtime_context().get_node_id()
    with open(os.path.join(places, os.urandom(8).hex()), "w") as file:
        json.dump([node, ray.get_gpu_ids(), visible], file)
    while len(os.listdir(places)) < 6 and time.time() < until:  # all at once, or not at all
        time.sleep(0.05)
    tune.report({"done": True})

def places(folder, nodes):
    found = {"gpus": nodes, "nodes": [vars(node) for node in gpu_packing.gpus_of_nodes()]}
    found["slots"] = [slots(1, gpus) for gpus in (0, 1, 0.5, fraction_of(3), fraction_of(7))]
    found["most_cpus"] = most_cpus(1, 1)
    places = os.path.join(folder, "places")
    os.mkdir(places)
    tune.Tuner(
        tune.with_resources(where, {"CPU": 1, "GPU": 0.5}),
        param_space={"places": places},
        tune_config=tune.TuneConfig(num_samples=6, max_concurrent_trials=slots(1, 0.5), reuse_actors=True),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()
    return found | {"places": [json.load(open(os.path.join(places, name))) for name in os.listdir(places)]}

def study(dataset):
    # As on GPUs that torch can use; trials, which cannot, train on the CPUs.
    gpu_packing.gpus_of_nodes = lambda: [gpu_packing.NodeGpus(n, 4, "X100", 15 * 10**8) for n in (2, 1)]
    study = Study("packed", dataset, method="random", trials=7, initializations=1,
        descriptors={"cutoff": 4.68, "two_j_max": 4}, config={"epochs": 1, "batch_size": 512})
    study.run()
    return [trial.state for trial in study.trials()]

def main(folder, dataset):
    os.environ.update(SETTINGS)
    small = {"object_store_memory": 10**8, "num_cpus": 4}
    os.makedirs("/tmp/ray", exist_ok=True)  # Ray writes the address there, wherever its own folder is
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, "temp_dir": folder, **small})
    nodes = {cluster.add_node(num_gpus=n, **small).node_id: n for n in (2, 1)}
    ray.init(cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    print(json.dumps(study(dataset) if dataset else places(folder, nodes)))
    ray.shutdown()
    cluster.shutdown()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def on_three_nodes(where, dataset=""):
    """What the script prints, on nodes of 2, 1 and no logical GPUs with 4 CPUs each."""
    (where / "script.py").write_text(ON_THREE_NODES)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # Ray's sockets need a short path
        arguments = [sys.executable, "script.py", folder, str(dataset)]
        out = subprocess.run(arguments, cwd=where, capture_output=True, text=True, timeout=600)
    assert out.returncode == 0, out.stderr[-3000:]
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.ray
@pytest.mark.slow
def test_trials_share_the_gpus_of_several_nodes_and_leave_nodes_without_alone(tmp_path):
    found = on_three_nodes(tmp_path)
    assert found["slots"] == [12, 3, 6, 7, 8], "bounded by 4 CPUs a node where a GPU is cut finer"
    assert found["most_cpus"] == 4
    assert sorted((node["count"], node["cpus"]) for node in found["nodes"]) == [(1, 4), (2, 4)]
    if not torch.cuda.is_available():
        assert {node["problem"] for node in found["nodes"]} == {f"torch {torch.__version__} finds none"}
    # Two on each GPU of each node that has some, none on the one that has not, and no trial sees another GPU.
    assert sorted((node, *gpus) for node, gpus, _ in found["places"]) == sorted(
        (name, gpu) for name, count in found["gpus"].items() for gpu in range(count) for _ in "12"
    )
    assert all(visible == str(gpus[0]) for _, gpus, visible in found["places"])


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_packs_its_trials_and_says_why_so_many(fresh_al4, tmp_path):
    assert on_three_nodes(tmp_path, fresh_al4.path) == ["finished"] * 7
    arguments = ["study", "show", "packed", "--studies", str(tmp_path / "studies")]
    shown = CliRunner().invoke(cli, arguments).output
    placement = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)["placement"]
    assert (placement["gpus"], placement["concurrent"]) == (0.5, 6)
    assert f"6 trials at once; {placement['explanation']}" in shown
    assert "2 on each of 3 GPUs: the largest network (3 x 256 " in shown
    assert (
        "hold 2 such trials, its node has CPUs for 4, 7 trials make 3 for each GPU, and more than 8 would wait for"
        in shown
    )
