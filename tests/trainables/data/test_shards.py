import hashlib
import os
import pickle
import time

import numpy as np
import pyarrow as pa
import pytest

from dftune.tests.forked import Forked
from dftune.trainables import files
from dftune.trainables.data.shards import (
    POINTS_A_SHARD,
    ShardFile,
    in_shards,
    pieces_of,
    to_batches,
    to_numpy,
    write,
    write_rows,
)
from dftune.trainables.errors import DatasetError


def read(path, values, *, column="ldos", **changed):
    """Open ``path`` as what ``values`` is, or as what ``changed`` says."""
    shape = {"n_points": len(values), "n": 0 if values.ndim == 1 else values.shape[1]}
    return ShardFile(path, column, **shape | changed, remedy="import the dataset again")


def random(shape, dtype=np.float32):
    return np.random.default_rng(0).random(shape, np.float32).astype(dtype)


def test_a_checksum_is_that_of_the_file_while_shards_are_written_over_each_other(tmp_path):
    values = random((6 * POINTS_A_SHARD + 5, 17))  # a shard is more than a piece
    batches = (to_batches(shard, "ldos", {})[0] for shard in in_shards(np.array_split(values, 41)))
    found = write(tmp_path / "a.arrow", batches)
    assert found == hashlib.sha256((tmp_path / "a.arrow").read_bytes()).hexdigest()
    assert read(tmp_path / "a.arrow", values).array().tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "shape", [(POINTS_A_SHARD + 1234, 37), (2 * POINTS_A_SHARD, 3), (300, 40_000), (70_000,), (7, 1)]
)
def test_rows_that_overwrite_each_other_give_the_file_that_shards_do(tmp_path, shape):
    values, memory = random(shape, np.float16), np.empty((1021, *shape[1:]), np.float16)

    def rows():
        for start in range(0, len(values), 1021):
            block = memory[: min(1021, len(values) - start)]
            block[:] = values[start : start + 1021]
            yield block

    about = {"unit": "1/(eV Å³)"}
    found = write_rows(tmp_path / "a.arrow", rows(), len(values), "ldos", about)
    assert found == write(tmp_path / "b.arrow", to_batches(values, "ldos", about))
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()
    for n in (999, POINTS_A_SHARD):
        pieces = [
            piece.copy() for shard in read(tmp_path / "a.arrow", values).stored() for piece in pieces_of(shard, n)
        ]
        assert np.concatenate(pieces).tobytes() == values.tobytes()


def test_a_slow_checksum_is_that_of_rows_that_overwrite_each_other(tmp_path, monkeypatch):
    class Slow:
        def __init__(self, data=b""):
            self._hash = hashlib.new("sha256", data)
            self.hexdigest = self._hash.hexdigest

        def update(self, data):
            time.sleep(0.002)
            self._hash.update(data)

    monkeypatch.setattr(files.hashlib, "sha256", Slow)
    values = np.resize(random((1000, 2048), np.float16), (20 * 1024, 2048))  # forty pieces, more than may wait
    found = write_rows(tmp_path / "a.arrow", np.array_split(values, 97), len(values), "ldos", {})
    assert found == hashlib.new("sha256", (tmp_path / "a.arrow").read_bytes()).hexdigest()


def test_a_file_that_gets_shorter_while_its_pieces_are_read_is_named(tmp_path):
    values = random((300, 3))
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {}))
    (stored,) = read(tmp_path / "a.arrow", values).stored()
    os.truncate(tmp_path / "a.arrow", stored.offset + 100)
    with pytest.raises(DatasetError, match=r"a.arrow: cannot be read any more .*; bring the file back"):
        list(pieces_of(stored, 10))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(300, 37), (300, 1), (300,)])
def test_values_come_back_bit_for_bit_with_their_metadata(tmp_path, shape, dtype):
    values = random(shape, dtype)
    values.flat[:3] = np.nan, -np.inf, -0.0
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {"unit": "1/(eV Å³)"}))
    file = read(tmp_path / "a.arrow", values)
    assert file.array().dtype == dtype
    assert file.array().shape == shape
    assert file.array().tobytes() == values.tobytes()
    assert file.metadata == {"unit": "1/(eV Å³)"}


@pytest.mark.parametrize("shape", [(300, 37), (300,)])
def test_shards_share_the_memory_of_the_array_they_were_cut_from(shape):
    values = random(shape)
    (batch,) = to_batches(values, "ldos", {})
    assert np.shares_memory(to_numpy(batch), values)
    assert not to_numpy(batch).flags.writeable


def test_a_file_is_read_where_it_is_mapped_and_cannot_be_written_to(tmp_path):
    values = random((20_000, 37))
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {}))
    before = pa.total_allocated_bytes()
    array = read(tmp_path / "a.arrow", values).array()
    assert pa.total_allocated_bytes() - before < 10_000  # of 3 MB
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0


def test_a_shard_holds_at_most_65536_grid_points_in_grid_order(tmp_path):
    values = random((2 * POINTS_A_SHARD + 1, 2))
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {}))
    file = read(tmp_path / "a.arrow", values)
    assert [len(a) for a in file.arrays()] == [65_536, 65_536, 1]
    np.testing.assert_array_equal(file.array(), values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(POINTS_A_SHARD + 1000, 3), (300,)])
def test_rows_of_a_stored_shard_are_those_of_the_file_in_memory_of_their_own(tmp_path, shape, dtype):
    values = random(shape, dtype)
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {"some": "metadata"}))
    shards = pickle.loads(pickle.dumps(read(tmp_path / "a.arrow", values).stored()))
    assert sum(map(len, shards)) == len(values)
    assert all(shard.shape[1:] == values.shape[1:] for shard in shards)
    for rows in (
        slice(None),
        slice(7, 90),
        slice(250, 10_000_000),
        slice(5, 2),
        np.array([0, 8, 3]),
        np.array([], int),
    ):
        found = shards[0][rows]
        np.testing.assert_array_equal(found, values[:POINTS_A_SHARD][rows])
        assert found.dtype == dtype
        assert found.flags.writeable
    np.testing.assert_array_equal(shards[-1][:], values[-len(shards[-1]) :])


def test_a_stored_shard_whose_file_was_cut_or_is_gone_says_so(tmp_path):
    values = random((300, 4))
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {}))
    (shard,) = read(tmp_path / "a.arrow", values).stored()
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r"a.arrow: cannot be read any more .*; bring the file back"):
        shard[:]
    (tmp_path / "a.arrow").unlink()
    with pytest.raises(DatasetError, match=r"a.arrow: cannot be read any more"):
        shard[:2]


def test_a_compressed_file_cannot_be_read_in_parts(tmp_path):
    (batch,) = to_batches(np.zeros((30_000, 4), dtype=np.float32), "ldos", {})
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), batch.schema, options=options) as writer:
        writer.write_batch(batch)
    file = ShardFile(tmp_path / "a.arrow", "ldos", n_points=30_000, n=4, remedy="")
    assert file.array().shape == (30_000, 4)
    with pytest.raises(DatasetError, match=r"a.arrow: is compressed"):
        file.stored()


def test_a_file_can_outlive_the_object_that_opened_it(tmp_path):
    values = random((POINTS_A_SHARD, 2))
    write(tmp_path / "a.arrow", to_batches(values, "ldos", {}))
    views = list(read(tmp_path / "a.arrow", values).arrays())
    (tmp_path / "a.arrow").unlink()
    np.testing.assert_array_equal(views[0], values)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"b\.arrow: missing; import the dataset again"):
        read(tmp_path / "b.arrow", random((3, 2)))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    values, path = random((300, 37)), tmp_path / "a.arrow"
    write(path, to_batches(values, "ldos", {}))
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(DatasetError, match=r"a\.arrow: not a whole Arrow file \(truncated or damaged\); import"):
        read(path, values)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.arrow").write_text("not Arrow at all\n" * 100)
    with pytest.raises(DatasetError, match="not a whole Arrow file"):
        read(tmp_path / "a.arrow", random((3, 2)))
    with pytest.raises(DatasetError, match="not a whole Arrow file"):
        read(tmp_path, random((3, 2)))


def test_a_flipped_bit_is_refused_or_changes_values_but_never_ends_the_process(tmp_path):
    # In a process of its own: before its buffers were checked, a damaged length aborted it.
    path = tmp_path / "a.arrow"
    write(path, to_batches(np.ones((10, 3), dtype=np.float32), "ldos", {"unit": "x"}))

    def act():
        whole, outcomes = path.read_bytes(), {"refused": 0, "read": 0}
        for i in range(len(whole)):
            for bit in (i % 8, (i + 4) % 8):
                path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
                try:
                    ShardFile(path, "ldos", n_points=10, n=3, remedy="").array().sum()
                    outcomes["read"] += 1
                except DatasetError:
                    outcomes["refused"] += 1
        print(outcomes["refused"] > 250 and outcomes["read"] > 250)

    with Forked(act) as process:
        out, said = process.communicate()
    assert (process.returncode, out.strip()) == (0, "True"), said


@pytest.mark.parametrize(
    "written, changed, message",
    [
        (random((30, 4)), {"column": "density"}, r"has columns \['ldos'\] where \['density'\] is expected"),
        (random((30, 4)), {"n": 5}, "holds 30 grid points of fixed_size_list.* expected 30 grid points of 5 numbers"),
        (random((30, 4)), {"n_points": 31}, "holds 30 grid points .* expected 31 grid points of 4 numbers"),
        (random((30, 4)), {"n": 0}, "holds 30 grid points .* expected 30 grid points of 1 numbers"),
        (random(30), {"n": 1}, "holds 30 grid points of float, expected 30 grid points of 1 numbers"),
        (np.ones((30, 4), dtype=np.int32), {}, "holds 30 grid points of fixed_size_list<.*int32"),
    ],
)
def test_another_column_shape_or_type_is_refused(tmp_path, written, changed, message):
    write(tmp_path / "a.arrow", to_batches(written, "ldos", {}))
    with pytest.raises(DatasetError, match=message):
        read(tmp_path / "a.arrow", written, **changed)


@pytest.mark.parametrize("lengths", [[POINTS_A_SHARD], [3 * POINTS_A_SHARD + 7], [1, POINTS_A_SHARD, 0, 90_000]])
def test_pieces_of_any_length_become_shards(tmp_path, lengths):
    values, ends = random((sum(lengths), 2)), np.cumsum(lengths)
    parts = (values[end - n : end] for n, end in zip(lengths, ends))
    write(tmp_path / "a.arrow", (to_batches(shard, "ldos", {})[0] for shard in in_shards(parts)))
    file = ShardFile(tmp_path / "a.arrow", "ldos", n_points=len(values), n=2, remedy="")
    np.testing.assert_array_equal(file.array(), values)
    write(tmp_path / "b.arrow", to_batches(values, "ldos", {}))
    whole = ShardFile(tmp_path / "b.arrow", "ldos", n_points=len(values), n=2, remedy="")
    assert [len(b) for b in file.batches] == [len(b) for b in whole.batches]
