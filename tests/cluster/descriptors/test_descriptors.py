"""Descriptors of large snapshots, piece by piece, on one node and on several, some of which die."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from dftune.cluster.connection import ClusterError
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.trainables.data.dataset import Dataset, descriptor_path
from dftune.trainables.data.shards import to_numpy
from dftune.trainables.data.snapshot import SNAPSHOTS
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.descriptors.slabs import pieces
from dftune.trainables.errors import DatasetError, InputError

CHEAP = BispectrumSettings(cutoff=4.0, two_j_max=4)  # 14 numbers and some 10 µs a grid point
LARGE = (48, 40, 36)  # 69,120 grid points: two shards, five pieces


def with_grids(al4, path, *grids) -> Dataset:
    """The first snapshots of the example on other grids; it has no LDOS, which descriptors do not need."""
    path.mkdir()
    shutil.copy(al4.path / "dataset.json", path)
    rows = [replace(s, grid=grid).to_row() for s, grid in zip(al4.snapshots, grids)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SNAPSHOTS), path / "snapshots.parquet")
    return Dataset.open(path)


def whole(snapshot):
    return bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, CHEAP)


def descriptor_actors() -> list[int]:
    """Process ids of the descriptor actors that are alive."""
    actors = ray._private.state.actors().values()
    alive = [a["Pid"] for a in actors if a["ActorClassName"] == "DescriptorActor" and a["State"] == "ALIVE"]
    return [process for process in alive if process > 0]


def test_a_large_snapshot_is_computed_in_pieces_and_is_the_same(al4, tmp_path, local_ray):
    data, steps = with_grids(al4, tmp_path / "d", LARGE, (20, 20, 20)), []
    made = compute_descriptors(data, CHEAP, keep=True, progress=lambda *step: steps.append(step))
    assert made.counts.computed == 6
    assert [len(to_numpy(batch)) for batch in ray.get(made.shards["000"])] == [65_536, 69_120 - 65_536]
    for snapshot in data.snapshots:
        expected, file = whole(snapshot), data.descriptors(snapshot, CHEAP)
        np.testing.assert_allclose(file.array(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
        shared = [to_numpy(batch) for batch in ray.get(made.shards[snapshot.id])]
        np.testing.assert_array_equal(np.concatenate(shared), file.array())
        assert [len(a) for a in shared] == [len(a) for a in file.arrays()]
        assert not any(a.flags.writeable for a in shared)
    made.close()
    folder = descriptor_path(data.path, CHEAP, "000").parent
    assert sorted(p.name for p in folder.iterdir()) == ["000.arrow", "001.arrow"], "pieces are removed"
    texts = [text for *_, text in steps]
    assert [f"snapshot 000: {n} of 5 pieces" in texts for n in (1, 2, 3, 4, 5)] == [True] * 5
    assert [done for _, done, _, _ in steps] == sorted(done for _, done, _, _ in steps)
    assert steps[-1][1:3] == (2, 2)


def test_a_snapshot_stopped_half_done_goes_on_with_the_pieces_that_it_has(al4, tmp_path, local_ray):
    class Stopped(Exception):
        pass

    def stop(stage, done, total, text):
        if "3 of 5" in text:
            raise Stopped

    data, before = with_grids(al4, tmp_path / "d", LARGE), set(descriptor_actors())
    with pytest.raises(Stopped):
        compute_descriptors(data, CHEAP, actors=1, progress=stop)
    while set(descriptor_actors()) - before:  # one that is not dead yet may write another piece
        time.sleep(0.1)
    with pytest.raises(DatasetError, match="missing"):
        data.descriptors(data["000"], CHEAP)
    kept = list((descriptor_path(data.path, CHEAP, "000").parent / ".000.pieces").glob("*.arrow"))
    assert len(kept) in (3, 4)
    damaged = kept[0]
    damaged.write_bytes(damaged.read_bytes()[:5000])
    made = compute_descriptors(data, CHEAP, actors=1)
    made.close()
    assert made.counts.computed == 5 - len(kept) + 1
    np.testing.assert_array_equal(data.descriptors(data["000"], CHEAP).array(), whole(data["000"]))


def test_the_work_of_a_killed_process_is_done_by_others_and_nothing_else_again(al4, tmp_path, local_ray):
    data, struck = with_grids(al4, tmp_path / "d", LARGE, LARGE), []
    before = set(descriptor_actors())

    def strike(stage, done, total, text):
        if "2 of 5" in text and not struck:
            struck.append(min(set(descriptor_actors()) - before))
            os.kill(struck[0], signal.SIGKILL)

    made = compute_descriptors(data, CHEAP, actors=2, progress=strike)
    made.close()
    assert struck
    assert made.counts.lost in (1, 2), "what it had before it"
    assert made.counts.computed in (9, 10), "one that was written, but not yet reported, is found"
    for snapshot in data.snapshots:
        np.testing.assert_array_equal(data.descriptors(snapshot, CHEAP).array(), whole(snapshot))


def test_work_that_kills_every_process_is_given_up_with_the_place(al4, tmp_path, local_ray):
    data = with_grids(al4, tmp_path / "d", (20, 20, 20))
    dear = BispectrumSettings(cutoff=9.0, two_j_max=14)  # many seconds
    before, struck = set(descriptor_actors()), []

    def strike(stage, done, total, text):
        struck.extend(new := set(descriptor_actors()) - before - set(struck))
        for process in new:
            os.kill(process, signal.SIGKILL)

    with pytest.raises(InputError, match=r"processes died .*, 3 in a row \(") as error:
        compute_descriptors(data, dear, actors=1, progress=strike)
    assert "\n" not in str(error.value)
    assert 3 <= len(struck) <= 30, "three over the piece; those between were struck before they had it"


def test_mpi_ranks_compute_the_same_and_more_of_them_than_a_node_has_are_refused(al4, tmp_path, local_ray):
    data = with_grids(al4, tmp_path / "d", (40, 36, 30))
    made = compute_descriptors(data, CHEAP.model_copy(update={"engine": "lammps"}), cpus=2)
    made.close()
    assert made.counts.computed == 3
    expected = whole(data["000"])
    found = data.descriptors(data["000"], CHEAP).array()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    with pytest.raises(ClusterError, match=r"an actor for descriptors asks for 999 CPUs .*; lower --cpus"):
        compute_descriptors(data, BispectrumSettings(cutoff=3.9, two_j_max=4), cpus=999)


ON_NODES = """
import json, os, sys, tempfile, time
import ray
from ray.cluster_utils import Cluster
from dftune.cluster.connection import SETTINGS, ClusterError, connected
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.descriptors.slabs import pieces
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.shards import to_numpy

os.environ.update(SETTINGS)
data, found = Dataset.open(sys.argv[1]), {}
settings = BispectrumSettings(cutoff=4.0, two_j_max=10)
folder = descriptor_path(data.path, settings, "").parent
with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as temporary:
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": temporary, "object_store_memory": 10**8}
    os.makedirs("/tmp/ray", exist_ok=True)  # Ray writes the address there, wherever its own folder is
    cluster = Cluster(initialize_head=True, head_node_args=head | {"_system_config": quick})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(2)]
    with connected(cluster.address):
        written = {}

        def strike(stage, done, total, text):
            if "3 of" in text and not written:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                written.update({str(p): p.stat().st_mtime_ns for p in folder.rglob("*.arrow")})

        made = compute_descriptors(data, settings, keep=True, progress=strike)
        now = {str(p): p.stat().st_mtime_ns for p in folder.rglob("*.arrow")}
        found["written"] = len(written)
        found["rewritten"] = [p for p in written if p in now and now[p] != written[p]]
        found["computed"], found["lost"] = made.counts.computed, made.counts.lost
        refs = [ref for name in made.shards for ref in made.shards[name]]
        places = ray.experimental.get_object_locations(refs)
        found["copies"] = [len(places[ref]["node_ids"]) for ref in refs]
        found["bytes"] = sum(places[ref]["object_size"] for ref in refs)
        doomed = nodes.pop()
        found["lost_shards"] = sum(places[ref]["node_ids"] == [doomed.node_id] for ref in refs)
        cluster.remove_node(doomed, allow_graceful=False)
        found["sums"] = {
            name: float(sum(to_numpy(batch).sum(dtype="f8") for batch in ray.get(shards)))
            for name, shards in made.shards.items()
        }
        made.close()
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=10**8))
        other = BispectrumSettings(cutoff=3.9, two_j_max=10)

        def strike_all(stage, done, total, text):
            if "2 of" in text and nodes:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                found["struck"] = time.monotonic()

        try:
            compute_descriptors(data, other, progress=strike_all)
        except ClusterError as error:
            found["error"], found["waited"] = str(error), time.monotonic() - found.pop("struck")
    cluster.shutdown()
print(json.dumps(found))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_dies_costs_what_it_was_computing_and_shards_it_held_are_read_again(al4, tmp_path):
    data = with_grids(al4, tmp_path / "d", (60, 40, 40), (20, 20, 20), (50, 40, 40))
    run = subprocess.run(
        [sys.executable, "-c", ON_NODES, data.path], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    settings, n_pieces = BispectrumSettings(cutoff=4.0, two_j_max=10), sum(len(pieces(s.grid)) for s in data.snapshots)
    expected = {s.id: bispectrum(s.cell, s.positions, s.numbers, s.grid, settings) for s in data.snapshots}
    assert found["written"] >= 3
    assert found["rewritten"] == []
    assert found["lost"] in (1, 2)
    assert found["computed"] in (n_pieces - 1, n_pieces), "one that was written, but not yet reported, is found"
    assert set(found["copies"]) == {1}
    assert found["bytes"] == pytest.approx(sum(v.nbytes for v in expected.values()), rel=1e-3)
    assert found["lost_shards"] >= 1
    for s in data.snapshots:
        np.testing.assert_array_equal(data.descriptors(s, settings).array(), expected[s.id])
        assert found["sums"][s.id] == pytest.approx(expected[s.id].sum(dtype="f8"), rel=1e-9)
    assert "asks for 1 CPUs and 0 GPUs, but the nodes have 0 CPUs" in found["error"]
    assert found["waited"] < 300
