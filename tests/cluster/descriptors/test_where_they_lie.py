"""Sums over snapshots on the nodes that hold them, against one process that does all."""

import json
import subprocess
import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest
import ray

from dftune.cluster.descriptors import where_they_lie
from dftune.cluster.descriptors.where_they_lie import WhereTheyLie
from dftune.cluster.store import assign
from dftune.trainables.errors import DatasetError
from dftune.trainables.ldos.places import Here
from dftune.trainables.ldos.training_data import Scaling, SnapshotData


def test_shards_are_dealt_evenly_and_those_of_a_snapshot_stay_together():
    sizes = [[10], [8, 2], [30, 30, 30, 10], [5, 5], [10]]  # 140 points, 35 a node
    found = assign(sizes, ["a", "b", "c", "d"])
    assert [len(set(nodes)) for nodes in found] == [1, 1, 4, 1, 1]
    load = Counter()
    for some, nodes in zip(sizes, found, strict=True):
        for size, node in zip(some, nodes, strict=True):
            load[node] += size
    assert max(load.values()) <= 40
    assert assign([[7], [7], [7]], ["a"]) == [["a"]] * 3


def test_the_scaling_is_that_of_all_points_at_once(al4):
    rng = np.random.default_rng(0)
    shards = [rng.normal(loc=50, scale=k + 1, size=(n, 3)).astype(np.float32) for k, n in enumerate((90, 40, 7, 200))]
    snapshots = [SnapshotData(al4["000"], shards[:2], shards[2:0:-1]), SnapshotData(al4["001"], shards[2:], shards[:2])]
    found, x = Scaling.fit(snapshots), np.concatenate(shards).astype(np.float64)
    y = np.concatenate([*shards[2:0:-1], *shards[:2]]).astype(np.float64)
    np.testing.assert_allclose(found.descriptor_mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.descriptor_std, x.std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.descriptor_min, x.min(axis=0).astype(np.float32))
    np.testing.assert_array_equal(found.descriptor_max, x.max(axis=0).astype(np.float32))
    np.testing.assert_allclose(found.ldos_mean, y.mean(axis=0), rtol=1e-6)
    assert found.ldos_scale == pytest.approx(np.sqrt(y.var(axis=0).mean()), rel=1e-12)


def _size(network, snapshot, *, fails=None):
    if snapshot.snapshot.id == fails:
        raise DatasetError(f"snapshot {fails}: is damaged")
    return float(sum(shard[:].sum(dtype="f8") for shard in snapshot.ldos))


def test_what_lies_on_the_node_that_asks_is_computed_by_the_process_that_asks(al4, local_ray, monkeypatch):
    monkeypatch.setattr(where_they_lie, "_compute", None)  # no task
    snapshots = [SnapshotData(s, (), al4.ldos(s).stored()) for s in al4.split("train")]
    there, here = WhereTheyLie(), Here()
    assert there.each(_size, None, snapshots) == here.each(_size, None, snapshots)
    with pytest.raises(DatasetError, match="snapshot 001: is damaged"):
        there.each(partial(_size, fails="001"), None, snapshots)


@pytest.mark.parametrize("way", ["each", "total"])
def test_the_share_of_a_lost_node_is_computed_by_the_process_that_asks(al4, local_ray, monkeypatch, way):
    """Also if all CPUs that are left are held, by that process say."""
    lost = "0f" * 28
    monkeypatch.setattr(where_they_lie, "nodes_that_compute", lambda gpus: {lost: 2})
    monkeypatch.setattr(where_they_lie, "_copies", lambda snapshot, me: Counter({lost: 1}))
    snapshots = [SnapshotData(s, (), al4.ldos(s).stored()) for s in al4.split("train")]

    @ray.remote(num_cpus=ray.cluster_resources()["CPU"])
    class Holder:
        def holds(self):
            return True

    holder = Holder.remote()  # a task that begins elsewhere would wait for it
    try:
        assert ray.get(holder.holds.remote(), timeout=120)
        monkeypatch.setattr(ray, "get", partial(ray.get, timeout=120))
        found = getattr(WhereTheyLie(), way)(_size, None, snapshots)
    finally:
        ray.kill(holder)
    assert found == pytest.approx(getattr(Here(), way)(_size, None, snapshots), rel=1e-12)


ON_NODES = """
import json, os, sys, tempfile, time
from functools import partial
import numpy as np, ray
from ray.cluster_utils import Cluster
from dftune.cluster.connection import SETTINGS, connected
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.cluster.descriptors.grid_points import publish
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.neighbours import Neighbours
from dftune.trainables.ldos.places import Here
from dftune.trainables.ldos.readout import fit as fitting
from dftune.trainables.ldos.readout.weighted import rows_of
from dftune.trainables.ldos.training_data import read_training_data

os.environ.update(SETTINGS)
n, data, found = int(sys.argv[2]), Dataset.open(sys.argv[1]), {}
settings = BispectrumSettings(cutoff=3.0, two_j_max=4)
config = SurrogateConfig.of({"training": "none", "width": 256, "penalty": 1.0})


class Timed:
    def __init__(self, value, cpu, pid):
        self.value, self.cpu, self.pids = value, cpu, {pid}

    def __add__(self, other):
        found = Timed(self.value + other.value, self.cpu + other.cpu, 0)
        found.pids = self.pids | other.pids
        return found


def timed(network, snapshot, *, data):
    started = time.process_time()
    return Timed(fitting._gram(network, snapshot, data=data), time.process_time() - started, os.getpid())


def damaged(network, snapshot):
    raise DatasetError(f"snapshot {snapshot.snapshot.id}: is damaged")


def differs(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


@ray.remote(num_cpus=1, num_gpus=1)
def with_a_gpu(data):
    def where(network, snapshot):
        return ray.get_runtime_context().get_node_id(), len(ray.get_gpu_ids())

    found = data.training_data()
    return found.places.each(where, None, found.train)


with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as temporary:
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": temporary, "object_store_memory": 10**8}
    os.makedirs("/tmp/ray", exist_ok=True)  # Ray writes the address there, wherever its own folder is
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=10**8) for _ in range(n)]
    with connected(cluster.address):
        made = compute_descriptors(data, settings, keep=True)
        stored = publish(data, settings, made)
        refs = [ref for split in stored.splits.values() for s in split for ref in (*s.descriptors, *s.ldos)]

        def copies():
            places = ray.experimental.get_object_locations(refs)
            return [places[ref]["node_ids"] for ref in refs]

        there, here = stored.training_data(), read_training_data(data, settings)
        found["nodes"] = len({node for nodes in copies() for node in nodes})
        found["together"] = all(
            places[d]["node_ids"] == places[l]["node_ids"]
            for split in stored.splits.values() for s in split for d, l in zip(s.descriptors, s.ldos)
            for places in [ray.experimental.get_object_locations([d, l])]
        )
        scalings = [d.scaling.tensors() for d in (there, here)]
        found["scaling"] = all((scalings[0][name] == values).all() for name, values in scalings[1].items())
        network = fitting.random_network(config, settings.n_components, data.info.energy_grid.n_energy, [1])
        function = partial(timed, data=there.about)
        there.places.total(function, network, there.train)  # starts the processes
        gram = there.places.total(function, network, there.train)
        alone = Here().total(function, network, here.train)
        found["processes"], found["cpu"], found["cpu_alone"] = len(gram.pids), gram.cpu, alone.cpu
        sums = [vars(timed.value) for timed in (gram, alone)]
        found["gram"] = max(differs(sums[0][name], sums[1][name]) for name in ("phi_phi", "phi_y", "y_y"))
        rows = [
            fitting.Rows.join(d.places.each(partial(rows_of, data=d.about, config=config), network, d.train))
            for d in (there, here)
        ]
        found["rows"] = max(differs(getattr(rows[0], k), getattr(rows[1], k)) for k in ("left", "right", "target"))
        fits = [fitting.fit(config, d, seeds=[1]) for d in (there, here)]
        found["losses"] = [fit.best_loss[0] for fit in fits]
        neighbours = [Neighbours.fit(d) for d in (there, here)]
        found["neighbours"] = differs(neighbours[0].points, neighbours[1].points)
        found["copies"] = sorted({len(nodes) for nodes in copies()})
        try:
            there.places.each(damaged, None, there.train)
        except DatasetError as error:
            found["error"] = str(error)
        if n == 2:
            found["gpus"] = ray.get(with_a_gpu.remote(stored))
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            again = there.places.total(function, network, there.train)
            found["after_a_loss"] = differs(again.value.phi_phi, alone.value.phi_phi)
        made.close()
    cluster.shutdown()
print(json.dumps(found))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 4])
def test_nodes_sum_what_they_hold_and_no_shard_is_copied(al4, n, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", ON_NODES, al4.path, str(n)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    print(found)
    assert found["nodes"] == n == found["processes"]
    assert found["together"], "descriptors and LDOS of the same points are on the same node"
    assert found["scaling"], "to the last bit"
    assert found["gram"] < 1e-10
    assert found["rows"] < 1e-10
    assert found["neighbours"] == 0
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-5)
    assert found["copies"] == [1]
    assert found["cpu"] < 1.5 * found["cpu_alone"]
    assert found["error"].startswith("snapshot 00")
    assert found["error"].endswith("is damaged")
    if n == 2:
        assert {gpus for _, gpus in found["gpus"]} == {1}
        assert len({node for node, _ in found["gpus"]}) == 2
        assert found["after_a_loss"] < 1e-10
