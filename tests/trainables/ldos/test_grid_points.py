"""Grid points on the device, and streamed through two buffers."""

import subprocess
import sys
import time
from itertools import chain

import numpy as np
import pytest
import torch

from dftune.trainables.data.shards import ShardFile, to_batches, write
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.ldos.grid_points import BLOCK, Resident, Streamed, pieces, place
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

SIZES = [[700, 300], [400], [1, 650]]  # grid points in the shards of three snapshots
N = 2051


@pytest.fixture(scope="module")
def snapshots():
    """Point k of all has descriptors (k, -k) and the LDOS (k / 2,)."""
    starts = iter(np.cumsum([0, *(n for sizes in SIZES for n in sizes)]))
    found = []
    for sizes in SIZES:
        numbers = [np.arange(n, dtype=np.float32)[:, None] + next(starts) for n in sizes]
        found.append(SnapshotData(None, [np.hstack([k, -k]) for k in numbers], [k / 2 for k in numbers]))
    return found


PLAIN = Scaling(*(np.full(2, v, dtype=np.float32) for v in (0, 1, 0, N)), np.zeros(1, dtype=np.float32), 1.0)


def streamed(snapshots, room, scaling=PLAIN):
    widths = len(scaling.descriptor_mean), len(scaling.ldos_mean)
    return Streamed(snapshots, scaling, tuple(tuple(torch.full((room, w), torch.nan) for w in widths) for _ in "12"))


def numbers(batches):
    """The numbers of the points of each batch, which must have descriptors and LDOS of the same."""
    found = []
    for x, y in batches:
        assert torch.equal(x[:, :1], 2 * y)
        assert torch.equal(x[:, 1:], -x[:, :1])
        found.append(x[:, 0].long().tolist())
    return found


@pytest.mark.parametrize("room", [64, 100, 1000, N, 5000])
@pytest.mark.parametrize("size", [1, 60, 64])
def test_an_epoch_has_each_grid_point_once_with_its_own_ldos_in_whole_mini_batches(snapshots, room, size):
    points = streamed(snapshots, room)
    batches = numbers(points.shuffled(3, size))
    assert sorted(chain(*batches)) == list(range(N))
    assert [len(b) for b in batches] == [size] * (N // size) + [N % size] * (N % size > 0)


def test_an_epoch_is_a_function_of_its_number_alone(snapshots):
    points = streamed(snapshots, 300)
    first = numbers(points.shuffled(1, 50))
    assert numbers(points.shuffled(2, 50)) != first
    assert numbers(streamed(snapshots, 300).shuffled(1, 50)) == first


def test_with_buffers_for_all_points_streaming_gives_what_is_given_without(snapshots):
    scaling = Scaling.fit(snapshots)
    points, resident = streamed(snapshots, N, scaling), Resident(snapshots, scaling, "cpu")
    assert (points.share, resident.share) == (1.0, 1.0)
    for ways in ([p.shuffled(7, 60) for p in (points, resident)], [p.chunks(500) for p in (points, resident)]):
        for ours, theirs in zip(*ways, strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])


def test_chunks_are_in_order_and_stay_as_they_are_while_they_are_used(snapshots):
    seen = []
    for x, y in streamed(snapshots, 200).chunks(16_384):
        time.sleep(0.01)  # the thread could fill many buffers meanwhile
        seen += numbers([(x, y)])
    assert [len(s) for s in seen] == [200] * 10 + [51]
    assert list(chain(*seen)) == list(range(N))


def test_a_buffer_has_points_from_all_over_the_data(snapshots):
    # 512 of 2051 points in blocks of 8: of any tenth of the data it should have a tenth, that is 51.
    first = list(chain(*numbers(streamed(snapshots, 512).shuffled(1, 64))[:8]))
    counts, _ = np.histogram(first, bins=10, range=(0, N))
    assert counts.min() >= 20
    steps = np.abs(np.diff(first))
    assert np.median(steps) > 300  # neighbours in a batch are as far apart as in a random order: 0.29 N = 600


def test_blocks_are_no_longer_than_a_disk_needs():
    n, room = 3_000_000, 1_000_000
    parts = list(pieces(n, room, np.random.default_rng(0)))
    lengths = np.array([stop - start for part in parts for start, stop in part])
    assert [sum(stop - start for start, stop in part) for part in parts] == [room] * 3
    assert lengths.max() == BLOCK
    assert len(lengths) <= np.ceil(n / BLOCK) + 2


def data(snapshots):
    return TrainingData(snapshots[:2], snapshots[2:], None, PLAIN)


def test_points_are_held_where_they_fit_and_streamed_where_they_do_not(snapshots):
    enough = 4 * 3 * (2 * 1400 + 651)  # twice, to shuffle them; those of validation once
    train, (validation,) = place(data(snapshots), 64, "cpu", enough)
    assert (type(train), type(validation)) == (Resident, Resident)
    train, (validation,) = place(data(snapshots), 64, "cpu", enough - 1)
    assert (type(train), type(validation)) == (Streamed, Streamed)
    assert (len(train), len(validation)) == (1400, 651)
    train, _ = place(data(snapshots), 64, "cpu", 4 * 3 * 2 * 350)
    assert train.share == 0.25


def test_memory_for_less_than_two_mini_batches_is_refused(snapshots):
    with pytest.raises(
        InputError, match=r"1.2e-06 GB hold 100 grid points of 12 bytes, less than two mini-batches of 64"
    ):
        place(data(snapshots), 64, "cpu", 1200)


@pytest.fixture
def stored(tmp_path):
    """A snapshot of 40,000 points in files."""
    rng, files = np.random.default_rng(0), {}
    for name, width, dtype in (("descriptor", 91, np.float32), ("ldos", 37, np.float16)):
        values = rng.normal(size=(40_000, width)).astype(dtype)
        write(tmp_path / f"{name}.arrow", to_batches(values, name, {}))
        files[name] = ShardFile(tmp_path / f"{name}.arrow", name, n_points=40_000, n=width, remedy="").stored()
    return SnapshotData(None, files["descriptor"], files["ldos"])


def test_a_file_that_vanishes_is_an_error_of_the_one_who_reads(stored):
    points = streamed([stored], 1000, Scaling.fit([stored]))
    batches = points.shuffled(1, 100)
    next(batches)
    stored.ldos[0].path.unlink()
    with pytest.raises(DatasetError, match=r"ldos.arrow: cannot be read any more"):
        list(batches)


# ---------------------------------------------------------------- in a process of its own

CHILD = """
import resource, sys
from pathlib import Path
import numpy as np, torch
import dftune.trainables.ldos.surrogate  # what predicts
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.grid_points import place
from dftune.trainables.data.shards import ShardFile
from dftune.trainables.ldos.training import _optimizer
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

def high_water():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

folder = sys.argv[1]
shards = [ShardFile(Path(folder, f"{name}.arrow"), name, n_points=40_000, n=n, remedy="").stored()
          for name, n in (("descriptor", 91), ("ldos", 37))]
one = SnapshotData(None, *shards)
scaling = Scaling.fit([one])
before = high_water()
for copies in (2, 5):
    train, (validation,) = place(TrainingData([one] * copies, [one], None, scaling), 256, "cpu", 32e6)
    seen = sum(len(x) for x, _ in train.shuffled(1, 256)) + sum(len(x) for x, _ in validation.chunks(16_384))
    assert seen == 40_000 * (copies + 1), seen
    print(high_water() - before)

for name in ("adam", "adamw", "sgd"):
    p = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = _optimizer(SurrogateConfig.of({"optimizer": name, "learning_rate": 0.01, "weight_decay": 0.1}), [p])
    optimizer.zero_grad(set_to_none=True)
    (p**3).sum().backward()
    optimizer.step()
print([name for name in ("torch._dynamo", "matplotlib") if name in sys.modules])
"""


def test_a_process_takes_the_memory_it_was_given_and_neither_compiler_nor_figures(stored):
    # 5 copies would be 206 MB on the device.  Fitting the scaling before has needed some memory that is used again.
    folder = stored.ldos[0].path.parent
    out = subprocess.run([sys.executable, "-c", CHILD, folder], capture_output=True, text=True, check=True)
    two, five, imported = out.stdout.splitlines()
    assert float(two) <= float(five) < 45, "MB, however large the data"
    assert imported == "[]", "nobody waits for torch's compiler or Matplotlib who does not need it"
