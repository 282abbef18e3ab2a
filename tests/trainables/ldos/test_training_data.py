import dataclasses
import tracemalloc

import numpy as np
import pytest

from dftune.trainables.data.shards import StoredShard
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData, read_split, read_training_data

SETTINGS = BispectrumSettings(cutoff=4.0, two_j_max=2)  # 5 components


def shards(rng, sizes, n, dtype):
    """Shards of random numbers far from zero mean, read-only as they are when mapped from a file."""
    arrays = [rng.normal(5.0, 0.2, size=(size, n)).astype(dtype) for size in sizes]
    for array in arrays:
        array.flags.writeable = False
    return arrays


@pytest.fixture
def snapshots(al4):
    """Two snapshots of 40 and 25 grid points in shards, 5 components, 37 energies."""
    rng = np.random.default_rng(0)
    return [
        SnapshotData(al4["000"], shards(rng, [30, 10], 5, np.float32), shards(rng, [30, 10], 37, np.float16)),
        SnapshotData(al4["001"], shards(rng, [25], 5, np.float32), shards(rng, [25], 37, np.float16)),
    ]


def joined(snapshots, kind):
    return np.concatenate([shard for s in snapshots for shard in getattr(s, kind)]).astype(float)


def test_the_scaling_is_that_of_all_grid_points_together(snapshots):
    scaling = Scaling.fit(snapshots)
    x, y = joined(snapshots, "descriptors"), joined(snapshots, "ldos")
    np.testing.assert_allclose(scaling.descriptor_mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scaling.descriptor_std, x.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scaling.ldos_mean, y.mean(axis=0), rtol=1e-6)
    assert scaling.ldos_scale == pytest.approx(np.sqrt(y.var(axis=0).mean()), rel=1e-6)


def test_scaled_descriptors_are_standardised_and_the_mean_ldos_has_a_loss_of_one(snapshots):
    scaling = Scaling.fit(snapshots)
    x = scaling.descriptors(joined(snapshots, "descriptors"))
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0), 1.0, rtol=1e-5)
    y = scaling.ldos(joined(snapshots, "ldos"))
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-5)
    assert (y**2).mean() == pytest.approx(1.0, rel=1e-5)
    assert np.ptp(y.std(axis=0)) > 0.1  # one scale for all energies


def test_scaling_leaves_what_it_scales_as_it_was(snapshots):
    # Targets un-scaled in place would give the second trial of a study other data than the first.
    before = [joined(snapshots, kind).copy() for kind in ("descriptors", "ldos")]
    scaling = Scaling.fit(snapshots)
    for s in snapshots:
        for x, y in zip(s.descriptors, s.ldos, strict=True):
            assert not np.shares_memory(scaling.descriptors(x), x)
            assert not np.shares_memory(scaling.ldos(y.astype(np.float32)), y)
    for kind, array in zip(("descriptors", "ldos"), before, strict=True):
        np.testing.assert_array_equal(joined(snapshots, kind), array)


@pytest.mark.parametrize("value, ulps", [(0.0, 0), (1.0, 0), (223.4463, 0), (223.4463, 1)])
def test_a_component_that_varies_by_rounding_at_most_is_about_zero(snapshots, value, ulps):
    constant, rng = [], np.random.default_rng(0)
    for s in snapshots:
        arrays = [a.copy() for a in s.descriptors]
        for a in arrays:
            a[:, 2] = value + ulps * np.spacing(np.float32(value)) * rng.integers(2, size=len(a))
        constant.append(dataclasses.replace(s, descriptors=arrays))
    scaled = Scaling.fit(constant).descriptors(constant[0].descriptors[0])
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled[:, 2], 0.0, atol=1e-4)


def test_float16_is_summed_in_double_precision():
    values = np.full((70_000, 2), 0.1, dtype=np.float16)  # the sum is 7000, where float16 has steps of 4
    values[::2, 1] = 0.2
    scaling = Scaling.fit([SnapshotData(None, [values.astype(np.float32)], [values])])
    np.testing.assert_allclose(scaling.ldos_mean, values.astype(float).mean(axis=0), rtol=1e-6)


def test_fitting_needs_the_memory_of_a_shard_and_not_of_the_data():
    shard = np.ones((20_000, 37), dtype=np.float32)
    data = [SnapshotData(None, [shard] * 20, [shard] * 20)]
    tracemalloc.start()
    Scaling.fit(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * shard.nbytes  # of 40 shards


def training_data(snapshots, grid):
    return TrainingData(snapshots, snapshots[:1], grid, Scaling.fit(snapshots))


def test_a_mini_batch_pairs_each_descriptor_with_its_own_ldos(al4, snapshots):
    data = training_data(snapshots, al4.info.energy_grid)
    x, y = joined(snapshots, "descriptors"), joined(snapshots, "ldos")
    x, y = data.scaling.descriptors(x.astype(np.float32)), data.scaling.ldos(y)
    batch = data.sample(50, np.random.default_rng(1))
    rows = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in batch.descriptors]
    np.testing.assert_array_equal(batch.ldos, y[rows])
    assert len(set(rows)) == 50  # no grid point twice
    assert rows != sorted(rows)  # a part of the batch is as random as the whole
    assert min(rows) < 30 < 40 < max(rows)


def test_a_mini_batch_larger_than_the_data_is_all_of_them(al4, snapshots):
    batch = training_data(snapshots, al4.info.energy_grid).sample(1000, np.random.default_rng(1))
    assert batch.descriptors.shape == (65, 5)
    assert len(np.unique(batch.descriptors, axis=0)) == 65


def test_equal_seeds_draw_equal_mini_batches(al4, snapshots):
    data = training_data(snapshots, al4.info.energy_grid)
    first, again, other = (data.sample(20, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.descriptors, again.descriptors)
    np.testing.assert_array_equal(first.ldos, again.ldos)
    assert not np.array_equal(first.descriptors, other.descriptors)


def test_training_data_of_a_dataset_are_its_splits_scaled_by_the_training_split(fresh_al4):
    rng = np.random.default_rng(0)
    for s in fresh_al4.snapshots:
        if s.split != "test":
            values = rng.normal(float(s.id), 1.0, size=(s.n_points, 5)).astype(np.float32)
            fresh_al4.write_descriptors(s, SETTINGS, values)
    data = read_training_data(fresh_al4, SETTINGS)
    assert [d.snapshot.id for d in data.train] == ["000", "001", "002", "003", "004", "005"]
    assert [d.snapshot.id for d in data.validation] == ["006", "007", "008"]
    # The validation snapshots have means of 6, 7 and 8.
    np.testing.assert_allclose(data.scaling.descriptor_mean, 2.5, atol=0.05)
    ldos = np.concatenate([fresh_al4.ldos(s).array() for s in fresh_al4.split("train")]).astype(float)
    np.testing.assert_allclose(data.scaling.ldos_mean, ldos.mean(axis=0), rtol=1e-6)
    assert all(isinstance(shard, StoredShard) for d in data.train for shard in (*d.ldos, *d.descriptors))


def test_a_mini_batch_of_points_in_files_is_that_of_points_in_memory(fresh_al4):
    rng, shards = np.random.default_rng(0), {}
    for s in fresh_al4.snapshots:
        shards[s.id] = rng.normal(size=(s.n_points, 5)).astype(np.float32)
        fresh_al4.write_descriptors(s, SETTINGS, shards[s.id])
    stored = read_training_data(fresh_al4, SETTINGS)
    here = [SnapshotData(d.snapshot, [shards[d.snapshot.id]], [d.ldos[0][:]]) for d in stored.train]
    found, expected = (
        data.sample(300, np.random.default_rng(2)) for data in (stored, dataclasses.replace(stored, train=here))
    )
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)
    np.testing.assert_array_equal(found.ldos, expected.ldos)


def test_a_split_without_its_descriptors_is_refused(al4):
    with pytest.raises(DatasetError, match="missing; run `dftune descriptors compute"):
        read_split(al4, SETTINGS, "train")
