"""Descriptor actors, scorer actors, resources: on a real local Ray."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from dftune.cluster.connection import ClusterError, connected
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.cluster.descriptors.grid_points import fits_object_store, publish
from dftune.cluster.resources import MemoryShare, most_cpus, slots
from dftune.cluster.trials.scoring import ClusterScorer
from dftune.cluster.trials.training import train_trial
from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.data.shards import ShardFile, to_batches, to_numpy, write
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import n_parameters
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training_data import MiniBatch, Scaling, read_training_data
from dftune.trainables.memory import host_memory

SIZES = {"n_in": 14, "n_out": 37, "n_train": 48_000, "n_validation": 24_000}
CHEAP = BispectrumSettings(cutoff=4.0, two_j_max=4)  # 14 numbers a grid point, 0.07 s a snapshot
pytestmark = pytest.mark.usefixtures("local_ray")


def test_actors_compute_what_lammps_gives_in_the_object_store_and_in_the_dataset(fresh_al4):
    steps = []
    made = compute_descriptors(fresh_al4, CHEAP, actors=2, keep=True, progress=lambda *step: steps.append(step))
    for snapshot in fresh_al4.snapshots[:3]:
        expected = bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, CHEAP)
        (batch,) = ray.get(made.shards[snapshot.id])
        shared = to_numpy(batch)
        np.testing.assert_array_equal(shared, expected)
        np.testing.assert_array_equal(fresh_al4.descriptors(snapshot, CHEAP).array(), expected)
        assert not shared.flags.owndata
        assert not shared.flags.writeable
    done = [step[1] for step in steps]
    assert done == sorted(done)
    assert set(done) == set(range(13))
    made.close()


def test_finished_snapshots_are_not_computed_again_and_damaged_ones_are(fresh_al4):
    compute_descriptors(fresh_al4, CHEAP, actors=1).close()
    before = {s.id: descriptor_path(fresh_al4.path, CHEAP, s.id).stat().st_mtime_ns for s in fresh_al4.snapshots}
    descriptor_path(fresh_al4.path, CHEAP, "003").unlink()
    cut = descriptor_path(fresh_al4.path, CHEAP, "007")
    cut.write_bytes(cut.read_bytes()[:1000])
    assert [s.id for s in fresh_al4.without_descriptors(CHEAP)] == ["003", "007"]
    compute_descriptors(fresh_al4, CHEAP, actors=1).close()
    after = {s.id: descriptor_path(fresh_al4.path, CHEAP, s.id).stat().st_mtime_ns for s in fresh_al4.snapshots}
    assert {i for i in before if before[i] != after[i]} == {"003", "007"}
    assert fresh_al4.without_descriptors(CHEAP) == []


def descriptor_actors() -> set[int]:
    """Process ids of the descriptor actors that are alive."""
    actors = ray._private.state.actors().values()
    found = [a for a in actors if a["ActorClassName"] == "DescriptorActor" and a["State"] == "ALIVE"]
    return {a["Pid"] for a in found if a["Pid"] > 0}  # a signal to process 0 reaches all of this process group


def test_an_actor_killed_in_the_middle_loses_only_what_it_was_computing(fresh_al4):
    before, killed = descriptor_actors(), []

    def kill_one(stage, done, total, text):
        if done == 3 and not killed:
            killed.append(min(descriptor_actors() - before))
            os.kill(killed[0], signal.SIGKILL)

    compute_descriptors(fresh_al4, CHEAP, actors=2, progress=kill_one).close()
    assert killed
    assert fresh_al4.without_descriptors(CHEAP) == []


def test_a_computation_that_is_stopped_gives_its_cpus_back_and_can_be_repeated(fresh_al4):
    class Stopped(Exception):
        pass

    def stop(stage, done, total, text):
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        compute_descriptors(fresh_al4, CHEAP, actors=1, progress=stop)
    assert len(fresh_al4.without_descriptors(CHEAP)) in range(1, 11)
    compute_descriptors(fresh_al4, CHEAP).close()
    assert fresh_al4.without_descriptors(CHEAP) == []


def test_a_folder_that_cannot_be_written_is_said_in_one_line(fresh_al4):
    (fresh_al4.path / "descriptors").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written") as error:
        compute_descriptors(fresh_al4, CHEAP, actors=1)
    assert "\n" not in str(error.value)
    assert str(fresh_al4.path) in str(error.value)


@pytest.fixture(scope="module")
def published(al4, local_ray):
    """The dataset with cheap descriptors, in the object store."""
    shards = compute_descriptors(al4, CHEAP, actors=1, keep=True)
    yield publish(al4, CHEAP, shards)
    shards.close()


def test_workers_read_the_same_training_data_from_the_object_store(al4, published):
    @ray.remote
    def digest(published):
        training = published.worker_data()
        again = published.worker_data()
        assert again is training, "fetched once a process"
        arrays = [s[:] for d in (*training.train, *training.validation) for s in (*d.descriptors, *d.ldos)]
        return [float(a.sum(dtype=np.float64)) for a in arrays], any(a.flags.writeable for a in arrays)

    sums, writeable = ray.get(digest.remote(published))
    local = read_training_data(al4, CHEAP)
    assert sums == [
        float(a[:].sum(dtype=np.float64)) for d in (*local.train, *local.validation) for a in (*d.descriptors, *d.ldos)
    ]
    assert not writeable, "shared memory is read in place"
    for name in Scaling.__annotations__:
        np.testing.assert_array_equal(getattr(published.scaling, name), getattr(local.scaling, name))


class PauseTwice(FIFOScheduler):
    """Pauses trials where they may be paused, once at each such epoch; they go on at once."""

    def __init__(self):
        super().__init__()
        self.results, self.paused = [], []

    def on_trial_result(self, controller, trial, result):
        if not trial.config["pauses"]:
            return TrialScheduler.CONTINUE
        self.results.append(result)
        if result.get("epoch") in trial.config["pauses"] and result["epoch"] not in self.paused:
            self.paused.append(result["epoch"])
            return TrialScheduler.PAUSE
        return TrialScheduler.CONTINUE


def trainable(data):
    """What Ray Tune runs for a trial of a study with these data."""
    found = tune.with_parameters(train_trial, kind=KINDS["ldos"], data=data, memory=MemoryShare())
    return tune.with_resources(found, {"CPU": 1})


def test_a_paused_trial_goes_on_where_it_was_and_ends_as_without_a_break(published, tmp_path):
    task = {
        "config": {"widths": [8], "epochs": 4, "batch_size": 1024, "patience": 100}, "seed": 3, "cpus": 1,
        "sizes": SIZES,
        "complete_key": "complete", "failure_key": "failure", "pauses": tune.grid_search([(), (2, 4)]),
    }  # fmt: skip
    scheduler = PauseTwice()
    results = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train_trial, kind=KINDS["ldos"], data=published, memory=MemoryShare()), {"CPU": 1}
        ),
        param_space=task,
        tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    whole, paused = sorted(results, key=lambda result: result.config["pauses"])
    assert (whole.checkpoint is None, paused.checkpoint is None) == (True, False)
    assert scheduler.paused == [2, 4]
    assert [r["epoch"] for r in scheduler.results] == [1, 2, 3, 4, 4]  # the last once more, to say that it is the last
    for name in ("epoch", "train_loss", "validation_loss", "band_energy_mae", "best_loss", "complete"):
        assert whole.metrics[name] == paused.metrics[name], name
    for metrics in (whole.metrics, paused.metrics):
        assert metrics["grid_points"] == 4 * 6 * 8000
        assert metrics["n_parameters"] == n_parameters(SurrogateConfig(widths=(8,)), 14, 37) == 15 * 8 + 9 * 37
        assert 1e-3 < metrics["inference_time"] < 10


class PauseAndDamage(PauseTwice):
    """Pauses the first trial, and damages its checkpoint before it goes on."""

    def choose_trial_to_run(self, controller):
        for trial in controller.get_trials():
            if trial.status == "PAUSED" and trial.config["seed"] == 0:
                Path(trial.checkpoint.path, "training.safetensors").write_bytes(b"torn")
        return super().choose_trial_to_run(controller)

    def on_trial_result(self, controller, trial, result):
        return super().on_trial_result(controller, trial, result) if trial.config["seed"] == 0 else self.CONTINUE


def test_a_trial_whose_checkpoint_is_damaged_fails_with_the_reason_and_alone(published, tmp_path):
    task = {
        "config": {"widths": [8], "epochs": 3, "batch_size": 1024}, "seed": tune.grid_search([0, 1]), "cpus": 1,
        "sizes": SIZES,
        "complete_key": "complete", "failure_key": "failure", "pauses": (1,),
    }  # fmt: skip
    results = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train_trial, kind=KINDS["ldos"], data=published, memory=MemoryShare()), {"CPU": 1}
        ),
        param_space=task,
        tune_config=tune.TuneConfig(scheduler=PauseAndDamage(), max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    damaged, whole = sorted(results, key=lambda result: result.config["seed"])
    assert re.match(r"CheckpointError: .*training.safetensors: not a readable checkpoint", damaged.metrics["failure"])
    assert "\n" not in damaged.metrics["failure"]
    assert whole.metrics["complete"]


def test_asking_for_more_than_any_node_has_is_refused_at_once():
    with pytest.raises(ClusterError, match=r"asks for 1000 CPUs and 0 GPUs, but the nodes have"):
        slots(1000)
    with pytest.raises(ClusterError, match=r"asks for 1 CPUs and 1 GPUs"):
        slots(1, 1)
    with pytest.raises(
        ClusterError, match=r"asks for 1e\+06 GB of memory, but no node has more than \d+\.\d GB beside"
    ):
        slots(1, memory=1e6)
    room = ray.cluster_resources()["memory"] / 1e9
    assert slots(1, memory=room / 1.5) == 1
    assert slots(1) == ray.cluster_resources()["CPU"]
    assert slots(1, at_most=1) == 1
    assert most_cpus(1, 0) == ray.cluster_resources()["CPU"]


def test_trials_share_half_of_the_memory_of_their_node_unless_they_are_given_some():
    share = MemoryShare.of_trials(None, 1, 0, concurrent=2)
    assert share.bytes("cpu") == pytest.approx(host_memory() / 4)
    assert MemoryShare().bytes("cpu") == pytest.approx(host_memory() / 2)
    assert MemoryShare.of_trials(1.5, 1, 0, concurrent=2).bytes("cpu") == 1.5e9
    assert 0 < host_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


THREADS = """
import sys
from dftune.cluster.resources import use_cpus
use_cpus(2)
assert "torch" not in sys.modules
import torch
print(torch.get_num_threads())
use_cpus(1.5)
print(torch.get_num_threads())
"""


def test_a_worker_has_as_many_threads_as_cpus_whether_torch_comes_before_or_after(tmp_path):
    elsewhere = os.environ | {"OMP_NUM_THREADS": "7"}
    out = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, env=elsewhere, check=True)
    assert out.stdout.split() == ["2", "1"]


def test_data_that_are_not_kept_in_the_object_store_are_read_from_the_dataset(al4, published):
    shards = compute_descriptors(al4, CHEAP, keep=False)
    assert shards.shards == {}
    stored = publish(al4, CHEAP, shards)
    shards.close()
    assert fits_object_store(al4, CHEAP)
    assert len(pickle.dumps(stored)) < 100_000, "places in files, and no data"
    for name in Scaling.__annotations__:
        np.testing.assert_array_equal(getattr(stored.scaling, name), getattr(published.scaling, name))
    pairs = zip(stored.training_data().train + stored.test(), published.training_data().train + published.test())
    for ours, theirs in pairs:
        for a, b in zip([*ours.descriptors, *ours.ldos], [*theirs.descriptors, *theirs.ldos], strict=True):
            np.testing.assert_array_equal(a[:], b)


def full_with(**constants):
    """Makes full configs of those proposed, as a study with these hyperparameters held does."""
    return lambda config: SurrogateConfig.of({**constants, **config})


def test_scorer_actors_give_the_scores_of_the_function_without_waiting():
    rng = np.random.default_rng(0)
    batch = MiniBatch(rng.normal(size=(90, 14)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32))
    configs = [{"width": w, "n_layers": n} for w in (8, 16, 32, 64) for n in (1, 2, 3)]
    seen = []
    full = full_with(activation="tanh")
    scorer = ClusterScorer(SCORES["rfr"], batch, full, 7, progress=lambda *step: seen.append(step))
    assert scorer(configs) == [None] * 12
    assert seen == [], "asking starts the work and returns"
    while None in (answer := scorer(configs)):
        time.sleep(0.05)
    assert answer == pytest.approx(SCORES["rfr"].function([full(c) for c in configs], batch, 7), rel=1e-5)
    assert seen[-1] == (12, 12)
    assert scorer._actors == [], "the CPUs go back to the trials"


@pytest.mark.parametrize("seconds, n_actors", [(1e-3, 2), (1e3, 1)])
def test_another_actor_is_started_where_there_is_more_work_than_starting_it_takes(seconds, n_actors, monkeypatch):
    monkeypatch.setattr("dftune.cluster.trials.scoring.START_SECONDS", seconds)
    monkeypatch.setattr("dftune.cluster.trials.scoring.slots", lambda cpus: 2)
    rng = np.random.default_rng(0)
    batch = MiniBatch(rng.normal(size=(90, 14)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32))
    configs, seen = [{"width": width} for width in range(8, 108)], []
    scorer = ClusterScorer(SCORES["rfr"], batch, full_with(), 7)
    while None in scorer(configs):
        seen.append(len(scorer._actors))
        time.sleep(0.01)
    assert seen[0] == 1
    assert max(seen) == n_actors


def test_known_scores_are_not_computed_again():
    config = {"width": 8}
    scorer = ClusterScorer(SCORES["rfr"], None, full_with(), 0, known={SurrogateConfig.of(config).seen_by_scores: 1.25})
    assert scorer([config]) == [1.25]
    assert scorer._actors == []


def test_scores_along_the_search_come_while_trials_have_all_slots_and_those_not_asked_for_any_more_do_not():
    rng = np.random.default_rng(0)
    batch = MiniBatch(rng.normal(size=(90, 14)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32))
    trials = ray.remote(num_cpus=ray.cluster_resources()["CPU"])(Busy).remote()
    ray.get(trials.ready.remote())
    scorer = ClusterScorer(SCORES["rfr"], batch, full_with(n_layers=1), 7, beside_trials=True)
    withdrawn, wanted = [{"width": w} for w in range(1, 41)], {"width": 99}
    assert scorer(withdrawn) == [None] * 40
    deadline = time.monotonic() + 600
    while (answer := scorer([wanted])) == [None]:
        assert time.monotonic() < deadline, "waited for a slot"
        time.sleep(0.05)
    assert answer == pytest.approx(SCORES["rfr"].function([SurrogateConfig(width=99, n_layers=1)], batch, 7), rel=1e-5)
    assert scorer.score_of(withdrawn[0]) is not None, "what an actor had begun"
    assert scorer.score_of(withdrawn[-1]) is None
    assert scorer._queue == []
    assert len(scorer._actors) == 1, "it is there for the next candidates"
    while scorer(withdrawn[-1:]) == [None]:
        assert time.monotonic() < deadline, "asked for again it is scored"
        time.sleep(0.05)
    scorer.close()
    ray.kill(trials)


class Busy:
    """Trials that take all slots."""

    def ready(self):
        return True


def test_no_cluster_at_the_address_is_said_in_one_line(tmp_path):
    code = (
        "from dftune.cluster.connection import connected\n"
        "try:\n"
        "    with connected('127.0.0.1:1'): pass\n"
        "except ValueError as error: print(type(error).__name__, error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600
    )
    assert out.stdout.startswith("ClusterError cannot reach Ray at 127.0.0.1:1")
    assert "Traceback" not in out.stderr


def test_an_open_connection_is_used_and_left_open():
    with connected():
        assert ray.is_initialized()
    assert ray.is_initialized()


def test_a_shard_read_from_a_file_carries_only_itself_into_the_object_store(tmp_path):
    values = np.zeros((150_000, 4), dtype=np.float32)
    write(tmp_path / "x.arrow", to_batches(values, "x", {}))
    sizes = []
    for batch in ShardFile(tmp_path / "x.arrow", "x", n_points=150_000, n=4, remedy="").batches:
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(batch, protocol=5, buffer_callback=buffers.append)
        sizes.append(len(head) + sum(b.raw().nbytes for b in buffers))
    expected = [16 * n for n in (65_536, 65_536, 150_000 - 2 * 65_536)]
    assert sizes == pytest.approx(expected, rel=0.05)
