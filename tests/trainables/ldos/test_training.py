import dataclasses
import math
from contextlib import suppress
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from dftune.trainables.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.kind import TrainingFailed
from dftune.trainables.ldos import training
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

CHEAP = BispectrumSettings(cutoff=4.68, two_j_max=4)
CLOCK = ("seconds", "points_per_second", "memory_mb")

# Learning rates, among which some initialisations diverge and others do not: mostly a little above 1.
RATES = np.roll(np.geomspace(0.5, 8.0, 25), -6)


def every_second_point(dataset, name):
    """A snapshot on a 10³ grid in shards of 600 and 400 points, read-only."""
    snapshot = dataclasses.replace(dataset[name], grid=(10, 10, 10))
    ldos = dataset.ldos(dataset[name]).array().reshape(20, 20, 20, -1)[::2, ::2, ::2].reshape(1000, -1).copy()
    descriptors = bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, CHEAP)
    for array in (ldos, descriptors):
        array.flags.writeable = False
    return SnapshotData(snapshot, [descriptors[:600], descriptors[600:]], [ldos[:600], ldos[600:]])


@pytest.fixture(scope="module")
def data(al4):
    """Two snapshots to train on, one to validate with; not to be changed."""
    snapshots = [every_second_point(al4, name) for name in ("000", "001", "006")]
    return TrainingData(snapshots[:2], snapshots[2:], al4.info.energy_grid, Scaling.fit(snapshots[:2]))


def config(**values):
    common = {"widths": (16, 16), "batch_size": 128, "epochs": 6, "learning_rate": 0.01}
    return SurrogateConfig.of(common | values)


def tensors(data, kind="train"):
    """Scaled descriptors and LDOS of all points of a split."""
    snapshots, scaling = getattr(data, kind), data.scaling
    x = np.concatenate([scaling.descriptors(a) for s in snapshots for a in s.descriptors])
    y = np.concatenate([scaling.ldos(a) for s in snapshots for a in s.ldos])
    return torch.from_numpy(x), torch.from_numpy(y)


def losses(network, data):
    """Validation loss of each initialisation, at once and in double precision."""
    x, y = tensors(data, "validation")
    with torch.no_grad():
        return ((network.double()(x.double()) - y.double()) ** 2).mean(dim=(1, 2)).tolist()


def weights(trained):
    return [p.detach().clone() for p in trained.network.parameters()]


def plain_loop(chosen, x, y, n_steps):
    """Weights after ``n_steps`` steps of torch's own optimizer on all points of (x, y), from seed 3."""
    network = Network(chosen, 14, 37, seeds=[3])
    options = {"momentum": 0.9} if chosen.optimizer == "sgd" else {}
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[chosen.optimizer]
    optimizer = kind(network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay, **options)
    for step in range(n_steps):
        factor = 1.0 if chosen.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / n_steps))
        optimizer.param_groups[0]["lr"] = chosen.learning_rate * factor
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(x)[0], y).backward()
        optimizer.step()
    return list(network.parameters())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_training_on_one_batch_takes_the_steps_of_torchs_own_optimizer(data, optimizer, schedule):
    # A batch of all points has no order, so a plain loop must arrive at the same weights.
    chosen = config(batch_size=10_000, optimizer=optimizer, schedule=schedule, weight_decay=0.01, patience=100)
    found = train(chosen, data, seeds=[3])
    assert found.best_epoch == (6,)  # the last weights are the best, hence those returned
    for ours, theirs in zip(weights(found), plain_loop(chosen, *tensors(data), n_steps=6), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_training_on_mini_batches_takes_a_step_a_batch(data, schedule):
    # All points the same one, so that the order does not matter: 4 steps an epoch, the last on 58 points.
    first = data.train[0]
    same = [np.tile(a[0][:1], (250, 1)) for a in (first.descriptors, first.ldos)]
    one = [SnapshotData(first.snapshot, *([a] for a in same))]
    repeated = TrainingData(one, one, data.energy_grid, data.scaling)
    chosen = config(batch_size=64, optimizer="sgd", learning_rate=0.002, schedule=schedule, patience=100)
    found = train(chosen, repeated, seeds=[3])
    assert found.best_epoch == (6,)
    for ours, theirs in zip(weights(found), plain_loop(chosen, *tensors(repeated), n_steps=24), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_training_learns_the_ldos(data):
    # Measured: a loss of 0.018, where the mean LDOS has 1.
    reports = []
    found = train(config(epochs=10), data, seeds=[1], report=reports.append)
    assert found.best_loss[0] < 0.05
    assert [r.epoch for r in reports] == list(range(1, 11))
    assert reports[-1].train_loss < 0.1 * reports[0].train_loss
    assert reports[-1].validation_loss < 0.1 * reports[0].validation_loss
    assert reports[-1].dos_rmse < reports[0].dos_rmse


@pytest.mark.parametrize("values", [{}, {"optimizer": "sgd", "learning_rate": 0.1}, {"learning_rate": 0.03}])
def test_initialisations_trained_at_once_end_as_they_would_alone(data, values):
    chosen = config(epochs=12, patience=2, schedule="constant", batch_size=256, **values)
    together = train(chosen, data, seeds=[1, 2, 3])
    alone = [train(chosen, data, seeds=[seed]) for seed in (1, 2, 3)]
    assert together.best_epoch == tuple(a.best_epoch[0] for a in alone)
    assert together.best_loss == pytest.approx([a.best_loss[0] for a in alone], rel=1e-3)
    assert together.last.epoch == max(a.last.epoch for a in alone)
    for t, one in enumerate(alone):
        for many, single in zip(weights(together), weights(one), strict=True):
            torch.testing.assert_close(many[t], single[0], rtol=1e-2, atol=1e-3)


def test_initialisations_differ(data):
    found = train(config(), data, seeds=[1, 2, 3])
    assert len(set(found.best_loss)) == 3
    for p in weights(found):
        assert not torch.equal(p[0], p[1])
        assert not torch.equal(p[1], p[2])


def test_a_second_training_is_the_first_bit_for_bit(data):
    # Also: nothing in the data was changed by the first; un-scaling targets in place once did.
    runs = []
    for _ in range(2):
        reports = []
        found = train(config(), data, seeds=[4, 5], report=reports.append)
        history = [[v for k, v in dataclasses.asdict(r).items() if k not in CLOCK] for r in reports]
        runs.append((found.best_loss, history, weights(found)))
        torch.manual_seed(99)  # a global random state must not matter
    assert runs[0][0] == runs[1][0]
    assert runs[0][1] == runs[1][1]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][2], runs[1][2], strict=True))


def test_a_gpu_multiplies_in_tf32_in_the_steps_of_a_training_that_may_and_nowhere_else(data, monkeypatch):
    matmul, seen = torch.backends.cuda.matmul, []
    before = matmul.fp32_precision
    for part in (training._steps, training._validation_sums):

        def watched(*arguments, part=part):
            seen.append((part.__name__, matmul.fp32_precision))
            return part(*arguments)

        monkeypatch.setattr(training, part.__name__, watched)
    reduced, full = (weights(train(config(epochs=1), data, seeds=[1], tf32=tf32)) for tf32 in (True, False))
    assert seen == [("_steps", "tf32"), ("_validation_sums", before), ("_steps", "ieee"), ("_validation_sums", before)]
    assert before != "tf32"
    assert matmul.fp32_precision == before
    assert all(torch.equal(a, b) for a, b in zip(reduced, full, strict=True)), "a CPU always multiplies in float32"


def test_shards_do_not_matter(data):
    def whole(s):
        return dataclasses.replace(s, descriptors=[np.concatenate(s.descriptors)], ldos=[np.concatenate(s.ldos)])

    joined = dataclasses.replace(data, train=[*map(whole, data.train)], validation=[*map(whole, data.validation)])
    found, expected = (train(config(), d, seeds=[1]) for d in (joined, data))
    assert found.best_loss == expected.best_loss


def test_the_best_weights_are_kept_and_not_the_last(data):
    reports = []
    chosen = config(epochs=40, learning_rate=0.05, schedule="constant", patience=4)
    found = train(chosen, data, seeds=[1], report=reports.append)
    validation = [r.validation_loss for r in reports]
    assert validation[-1] > 1.05 * min(validation)  # the last are not the best here
    assert found.best_loss[0] == min(validation) == reports[-1].best_loss
    assert found.best_epoch[0] == 1 + validation.index(min(validation))
    assert losses(found.network, data) == pytest.approx(found.best_loss, rel=1e-5)


def test_each_initialisation_keeps_the_weights_of_its_own_best_epoch(data):
    found = train(config(epochs=40, learning_rate=0.05, schedule="constant", patience=4), data, seeds=range(5))
    assert len(set(found.best_epoch)) > 1
    assert losses(found.network, data) == pytest.approx(found.best_loss, rel=1e-5)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_is_exhausted(data, patience):
    reports = []
    chosen = config(epochs=200, learning_rate=0.05, schedule="constant", patience=patience)
    found = train(chosen, data, seeds=[1], report=reports.append)
    assert found.last.epoch == len(reports) == found.best_epoch[0] + patience < 200
    later = [r.validation_loss for r in reports[-patience:]]
    assert min(later) >= found.best_loss[0]


def test_reported_errors_are_those_of_judging_the_networks_returned(data):
    reports = []
    found = train(config(patience=100), data, seeds=[1, 2], report=reports.append)
    accuracy = judge(found.network, found.scaling, data.energy_grid, data.validation).accuracy
    assert reports[-1].best_band_energy_mae == pytest.approx(accuracy.band_energy_mae, rel=1e-4)
    assert found.best_epoch == (6, 6)
    assert reports[-1].dos_rmse == pytest.approx(accuracy.dos_rmse, rel=1e-4)
    assert reports[-1].validation_loss == pytest.approx(np.mean(losses(found.network, data)), rel=1e-5)


def test_without_a_dft_band_energy_the_loss_is_still_minimised(data):
    validation = [
        dataclasses.replace(s, snapshot=dataclasses.replace(s.snapshot, band_energy=None)) for s in data.validation
    ]
    reports = []
    found = train(config(), dataclasses.replace(data, validation=validation), seeds=[1], report=reports.append)
    assert math.isnan(reports[-1].band_energy_mae)
    assert found.best_loss == train(config(), data, seeds=[1]).best_loss


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3]])
def test_a_diverging_training_fails_with_its_reason(data, seeds):
    chosen = config(optimizer="sgd", learning_rate=10, schedule="constant")
    reports = []
    message = "the loss was NaN or infinite after epoch 1 at learning rate 10"
    with pytest.raises(TrainingFailed, match=message):
        train(chosen, data, seeds=seeds, report=reports.append)
    assert reports == []


def test_an_initialisation_that_diverges_is_left_out_and_does_not_touch_the_others(data):
    # Where some of eight diverge in the first epoch and some do not depends on the machine's rounding: look for it.
    seeds = list(range(8))
    for learning_rate in RATES:
        chosen = config(optimizer="sgd", learning_rate=learning_rate, schedule="constant", epochs=1)
        alone = {}
        for seed in seeds:
            with suppress(TrainingFailed):
                alone[seed] = train(chosen, data, seeds=[seed]).best_loss[0]
        if 0 < len(alone) < 8:
            break
    assert 0 < len(alone) < 8
    found = train(chosen, data, seeds=seeds)
    assert found.seeds == tuple(alone)
    assert found.network.n_initializations == len(alone)
    assert found.best_loss == pytest.approx(list(alone.values()), rel=1e-2)
    assert losses(found.network, data) == pytest.approx(found.best_loss, rel=1e-4)


# ---------------------------------------------------------------- streaming

ROW = 4 * (14 + 37)  # bytes of a grid point


def test_a_streamed_training_with_buffers_for_all_points_is_the_one_in_memory_bit_for_bit(data):
    reports = {}
    for memory in (math.inf, 2 * 2000 * ROW):  # in memory it needs those of the validation snapshot, too
        reports[memory] = []
        found = train(config(), data, seeds=[4, 5], memory=memory, report=reports[memory].append)
        reports[memory] += weights(found)
    resident, streamed = ([r if torch.is_tensor(r) else dataclasses.asdict(r) for r in v] for v in reports.values())
    for ours, theirs in zip(streamed, resident, strict=True):
        if torch.is_tensor(ours):
            assert torch.equal(ours, theirs)
        else:
            assert {k: v for k, v in ours.items() if k not in CLOCK} == {
                k: v for k, v in theirs.items() if k not in CLOCK
            }


def test_a_streamed_training_comes_as_far_as_one_in_memory(data):
    # A tenth of the points in a buffer.
    reports = []
    streamed = train(config(), data, seeds=range(5), memory=2 * 200 * ROW, report=reports.append)
    assert reports[-1].share_in_memory == 0.1
    assert reports[-1].grid_points == 6 * 2000
    resident = train(config(), data, seeds=range(5))
    ours, theirs = np.log(streamed.best_loss), np.log(resident.best_loss)
    assert abs(ours.mean() - theirs.mean()) < 2 * np.hypot(ours.std(), theirs.std())
    accuracy = judge(streamed.network, streamed.scaling, data.energy_grid, data.validation).accuracy
    assert reports[-1].best_band_energy_mae == pytest.approx(accuracy.band_energy_mae, rel=1e-4)
    assert losses(streamed.network, data) == pytest.approx(streamed.best_loss, rel=1e-5)


# ---------------------------------------------------------------- checkpoints


class Killed(Exception):
    """Stands for the end of a process."""


def in_sessions(chosen, data, seeds, path, epochs, **options):
    """Train in sessions of so many ``epochs``, each from the file that the one before left: result and reports."""
    reports, killed = [], True

    def report(epoch):
        reports.append(epoch)
        if epoch.epoch % epochs == 0:
            raise Killed

    while killed:
        torch.manual_seed(len(reports))  # a global random state must not matter
        try:
            return train(chosen, data, seeds=seeds, report=report, checkpoint=path, **options), reports
        except Killed:
            continue


def assert_same(found, expected, reports, expected_reports):
    """Bit for bit, clocks apart."""
    for ours, theirs in zip(weights(found), weights(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert (found.seeds, found.best_loss, found.best_epoch) == (expected.seeds, expected.best_loss, expected.best_epoch)
    histories = [
        [[v for k, v in dataclasses.asdict(r).items() if k not in CLOCK] for r in some]
        for some in ([*reports, found.last], [*expected_reports, expected.last])
    ]
    np.testing.assert_array_equal(*histories)


@pytest.mark.parametrize("memory", [math.inf, 2 * 400 * ROW], ids=["resident", "streamed"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_training_in_sessions_ends_bit_for_bit_as_without_a_break(data, tmp_path, optimizer, memory):
    # The mini-batches, the last of 80 points, must come in the order of the uninterrupted training.
    chosen = config(optimizer=optimizer, weight_decay=0.01, epochs=6, learning_rate=0.02, patience=2, batch_size=384)
    expected_reports = []
    expected = train(chosen, data, seeds=[1, 2, 3], memory=memory, report=expected_reports.append)
    for epochs in (1, 4):  # of a session
        found, reports = in_sessions(chosen, data, [1, 2, 3], tmp_path / f"c{epochs}", epochs, memory=memory)
        assert_same(found, expected, reports, expected_reports)


def test_early_stops_and_failures_are_remembered_across_sessions(data, tmp_path):
    # At this rate some initialisations diverge and others stop early; where exactly depends on the machine's rounding.
    seeds = list(range(8))
    for learning_rate in RATES:
        chosen = config(
            optimizer="sgd", learning_rate=learning_rate, schedule="constant", epochs=12, patience=2, batch_size=512
        )
        expected_reports = []
        with suppress(TrainingFailed):
            expected = train(chosen, data, seeds=seeds, report=expected_reports.append)
            if len(expected.seeds) < 8 and len(set(expected.best_epoch)) > 1:
                break
    assert len(expected.seeds) < 8
    assert len(set(expected.best_epoch)) > 1
    found, reports = in_sessions(chosen, data, seeds, tmp_path / "c", 1)
    assert_same(found, expected, reports, expected_reports)


def test_a_training_that_had_ended_is_only_read(data, tmp_path):
    expected = train(config(), data, seeds=[1], checkpoint=tmp_path / "c")
    reports = []
    found = train(config(), data, seeds=[1], report=reports.append, checkpoint=tmp_path / "c")
    assert reports == []
    assert repr(found.last) == repr(expected.last), "NaN too"
    assert all(torch.equal(a, b) for a, b in zip(weights(found), weights(expected), strict=True))


def test_grid_points_and_seconds_count_over_all_sessions(data, tmp_path):
    _, reports = in_sessions(config(), data, [1, 2], tmp_path / "c", 2)
    assert [r.grid_points for r in reports] == [2000 * epoch for epoch in range(1, 7)]
    assert all(a.seconds < b.seconds for a, b in pairwise(reports))


def test_the_checkpoint_of_another_training_is_refused(data, tmp_path):
    path = tmp_path / "c"
    train(config(epochs=1), data, seeds=[1], checkpoint=path)
    for other, what in [(config(epochs=2), "hyperparameters"), (config(epochs=1, widths=(8,)), "hyperparameters")]:
        with pytest.raises(CheckpointError, match=f"belongs to a training with other {what}; remove it"):
            train(other, data, seeds=[1], checkpoint=path)
    with pytest.raises(CheckpointError, match="with other seeds"):
        train(config(epochs=1), data, seeds=[2], checkpoint=path)
    fewer = dataclasses.replace(data, train=data.train[:1], scaling=Scaling.fit(data.train[:1]))
    for changed in (fewer, dataclasses.replace(data, validation=data.train[:1])):
        with pytest.raises(CheckpointError, match="with other data"):
            train(config(epochs=1), changed, seeds=[1], checkpoint=path)


def test_a_checkpoint_that_lacks_something_is_refused(data, tmp_path):
    path, lacking = tmp_path / "c", tmp_path / "lacking"
    train(config(epochs=1), data, seeds=[1], checkpoint=path)
    tensors, header = read_checkpoint(path)
    for changed, head in [
        ({k: v for k, v in tensors.items() if k != "best.1"}, header),
        (tensors | {"alive": torch.ones(2, dtype=torch.bool)}, header),
        (tensors, {k: v for k, v in header.items() if k != "last"}),
        (tensors, header | {"last": {"epoch": 1}}),
    ]:
        write_checkpoint(lacking, changed, head)
        with pytest.raises(CheckpointError, match="not the checkpoint of a training of this version"):
            train(config(epochs=1), data, seeds=[1], checkpoint=lacking)


def test_a_damaged_checkpoint_is_refused_and_kept(data, tmp_path):
    path = tmp_path / "c"
    train(config(epochs=1), data, seeds=[1], checkpoint=path)
    path.write_bytes(path.read_bytes()[:-7])
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        train(config(epochs=1), data, seeds=[1], checkpoint=path)
    assert path.read_bytes() == before


def end_of(make):
    """A parameter after five steps of the optimizer that ``make`` gives."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = make([p])
    for _ in range(5):
        optimizer.zero_grad(set_to_none=True)
        (p**3).sum().backward()
        optimizer.step()
    return p.detach()


OWN = {
    "adam": partial(torch.optim.Adam, fused=True, lr=0.01, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, fused=True, lr=0.01, weight_decay=0.1),
    "sgd": partial(torch.optim.SGD, momentum=0.9, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OWN)
def test_optimizers_step_as_torchs_own(name):
    chosen = SurrogateConfig.of({"optimizer": name, "learning_rate": 0.01, "weight_decay": 0.1})
    assert torch.equal(end_of(lambda p: training._optimizer(chosen, p)), end_of(OWN[name]))
