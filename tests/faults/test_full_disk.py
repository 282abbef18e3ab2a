"""A disk that is full while something is being written: what was whole stays whole, and with room it goes on."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from dftune import Study
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.platform.ledger.ledger import LedgerError
from dftune.platform.progress import Silent
from dftune.trainables.checkpoint import read_checkpoint, write_checkpoint
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError

CHEAP = {"cutoff": 4.0, "two_j_max": 4}
MEGABYTE = 2**20


@pytest.fixture
def disk(tmp_path):
    """A file system of 24 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", path], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system needs the right to mount one: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk, leave=0):
    """Take all room but ``leave`` bytes; the file to remove."""
    with (disk / "filler").open("wb", buffering=0) as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return disk / "filler"


def no_half_written(folder):
    return not [*folder.rglob("*.part")]


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(disk):
    path, weights = disk / "training.safetensors", torch.arange(500_000, dtype=torch.float32)
    write_checkpoint(path, {"weights": weights}, {"last": 1})
    filler = fill(disk, leave=MEGABYTE)
    with pytest.raises(InputError, match=r"training.safetensors: cannot be written \(No space left on device\)"):
        write_checkpoint(path, {"weights": weights + 1}, {"last": 2})
    assert no_half_written(disk)
    found, header = read_checkpoint(path)
    assert header["last"] == 1
    assert torch.equal(found["weights"], weights)
    filler.unlink()
    write_checkpoint(path, {"weights": weights + 1}, {"last": 2})
    assert read_checkpoint(path)[1]["last"] == 2


def test_descriptors_that_find_no_room_keep_those_that_were_finished(al4, disk, local_ray):
    shutil.copytree(al4.path, disk / "al4", ignore=shutil.ignore_patterns("descriptors"))  # of other tests
    dataset, settings = Dataset.open(disk / "al4"), BispectrumSettings(**CHEAP)
    room = 4 * settings.n_components * dataset.snapshots[0].n_points
    filler = fill(disk, leave=int(4.5 * room))
    with pytest.raises(InputError, match=r"cannot be written .No space left on device."):
        compute_descriptors(dataset, settings, actors=1)
    missing = dataset.without_descriptors(settings)
    assert 0 < len(missing) < len(dataset.snapshots)
    assert no_half_written(disk)
    filler.unlink()
    compute_descriptors(dataset, settings).close()
    assert not dataset.without_descriptors(settings)
    s = dataset.snapshots[-1]
    expected = bispectrum(s.cell, s.positions, s.numbers, s.grid, settings)
    np.testing.assert_array_equal(dataset.descriptors(s, settings).array(), expected)


class Filling(Silent):
    """Fills the disk when the second trial has ended; makes room again when the ledger complains, or never."""

    def __init__(self, disk, frees):
        self.disk, self.frees, self.filler, self.said = disk, frees, None, []

    def say(self, text):
        self.said.append(text)
        if text.startswith("trial 1: error"):
            self.filler = fill(self.disk)
        if "cannot be used" in text and self.frees:
            self.filler.unlink()


def study_on(disk, numbers):
    return Study(
        "full", numbers, studies=disk / "studies", method="random", trials=6, initializations=1,
        resources={"concurrent": 1},
    )  # fmt: skip


def test_a_ledger_that_finds_no_room_waits_for_it_and_the_study_goes_on(numbers, disk, local_ray, toy):
    study, progress = study_on(disk, numbers), Filling(disk, frees=True)
    study.run(progress=progress)
    assert [t.state for t in study.trials()] == ["finished"] * 6
    assert any("disk is full" in text and "trying for 60 s" in text for text in progress.said)
    assert any("can be used again" in text for text in progress.said)


@pytest.mark.slow
def test_a_study_that_ended_on_a_full_disk_goes_on_where_it_was(numbers, disk, local_ray, toy, monkeypatch):
    monkeypatch.setattr("dftune.platform.ledger.ledger.RETRY_SECONDS", 1.0)
    study, progress = study_on(disk, numbers), Filling(disk, frees=False)
    with pytest.raises(
        LedgerError, match=r"could not be used for 1 s.*disk is full; mend that, then `dftune study resume"
    ):
        study.run(progress=progress)
    before = {t.number: (t.value, t.ended_at) for t in study.trials() if t.state == "finished"}
    assert {0, 1} <= set(before) < set(range(6))
    progress.filler.unlink()
    study.resume()
    after = {t.number: (t.value, t.ended_at) for t in study.trials()}
    assert len(after) == 6
    assert {n: after[n] for n in before} == before
