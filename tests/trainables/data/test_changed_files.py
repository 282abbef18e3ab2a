"""Files that changed since they were written are noticed when a process first reads them."""

import numpy as np
import pytest

from dftune.trainables.data import shards
from dftune.trainables.data.dataset import Dataset, descriptor_path
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError

SETTINGS = BispectrumSettings(cutoff=4.0, two_j_max=2)  # 5 components


def flip(path, place):
    """Change one bit of a value, which leaves the file a whole Arrow file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["ldos", "density"])
def test_a_value_that_changed_in_a_file_of_the_table_is_noticed(fresh_al4, kind):
    path = fresh_al4.path / kind / "001.arrow"
    getattr(fresh_al4, kind)(fresh_al4["001"])
    flip(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError) as caught:
        getattr(Dataset.open(fresh_al4.path), kind)(fresh_al4["001"])
    assert str(caught.value) == f"{path}: its SHA-256 differs from the table's; import the dataset again"
    getattr(fresh_al4, kind)(fresh_al4["000"])


def test_files_of_two_snapshots_that_were_exchanged_are_noticed(fresh_al4):
    (fresh_al4.path / "ldos" / "000.arrow").rename(fresh_al4.path / "ldos" / "aside")
    (fresh_al4.path / "ldos" / "001.arrow").rename(fresh_al4.path / "ldos" / "000.arrow")
    with pytest.raises(DatasetError, match=r"000.arrow: its SHA-256 differs"):
        fresh_al4.ldos(fresh_al4["000"])


def written(dataset, joined):
    snapshot = dataset["000"]
    values = np.random.default_rng(0).normal(size=(8000, 5)).astype(np.float32)
    if joined:
        pieces = [range(3000), range(3000, 8000)]
        for piece in pieces:
            dataset.write_piece_of_descriptors(snapshot, SETTINGS, piece, values[piece.start : piece.stop])
        dataset.join_descriptors(snapshot, SETTINGS, pieces)
    else:
        dataset.write_descriptors(snapshot, SETTINGS, values)
    assert (dataset.descriptors(snapshot, SETTINGS).array() == values).all()
    return descriptor_path(dataset.path, SETTINGS, "000")


@pytest.mark.parametrize("joined", [False, True])
def test_a_descriptor_that_changed_is_noticed_and_computed_again(fresh_al4, joined):
    path = written(fresh_al4, joined)
    assert "000" not in [s.id for s in fresh_al4.without_descriptors(SETTINGS)]
    flip(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError, match=r"000.arrow: has changed since it was written .*; run `dftune descriptors"):
        fresh_al4.descriptors(fresh_al4["000"], SETTINGS)
    assert "000" in [s.id for s in fresh_al4.without_descriptors(SETTINGS)]


def test_descriptors_of_before_which_have_no_checksum_are_read(fresh_al4):
    path = written(fresh_al4, joined=False)
    file = fresh_al4.descriptors(fresh_al4["000"], SETTINGS)
    shards.write(path, file.batches)
    assert (fresh_al4.descriptors(fresh_al4["000"], SETTINGS).array() == file.array()).all()


def test_a_file_is_read_for_its_checksum_once(fresh_al4, monkeypatch):
    read = []
    real = shards.file_sha256
    monkeypatch.setattr(shards, "file_sha256", lambda path: read.append(path) or real(path))
    for _ in range(3):
        Dataset.open(fresh_al4.path).ldos(fresh_al4["002"])
    assert read == [fresh_al4.path / "ldos" / "002.arrow"]
