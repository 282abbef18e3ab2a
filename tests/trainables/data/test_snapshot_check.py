"""A table from somewhere else: nothing in it leads out of its folder, and no number in it is nonsense."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.mirror import refuse_to_leave
from dftune.trainables.data.snapshot import SNAPSHOTS
from dftune.trainables.data.snapshot_check import check_id
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError

SETTINGS = BispectrumSettings(cutoff=4.0, two_j_max=2)
NAN, INF = float("nan"), float("inf")


def with_row(path, **changes):
    """Change the second row of a table."""
    rows = pq.read_table(path / "snapshots.parquet").to_pylist()
    rows[1] |= changes
    pq.write_table(pa.Table.from_pylist(rows, schema=SNAPSHOTS), path / "snapshots.parquet")


@pytest.fixture
def heads(al4, tmp_path):
    """A dataset without its large files: dataset.json and the table."""
    path = tmp_path / "heads"
    path.mkdir()
    for name in ("dataset.json", "snapshots.parquet"):
        shutil.copy(al4.path / name, path)
    return path


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"id": "../../other/descriptors/x"}, r"'\.\./\.\./other/descriptors/x' cannot be the id"),
        ({"id": "/etc/passwd"}, "cannot be the id"),
        ({"id": "a\0b"}, "cannot be the id"),
        ({"id": ""}, "'' cannot be the id"),
        ({"id": ".."}, "cannot be the id"),
        ({"id": "\x1b]0;owned\x07"}, r"'\\x1b\]0;owned\\x07' cannot be the id"),
        ({"id": "x" * 231}, "cannot be the id"),
        ({"id": "000"}, "'000' stands there twice"),
        ({"split": "everything"}, "'001': split 'everything' is none of train, validation, test"),
        ({"cell": [[0.0] * 3] * 3}, "not periodic in three dimensions"),
        ({"cell": [[NAN, 0, 0], [0, 4, 0], [0, 0, 4]]}, "not finite"),
        ({"cell": [[0, 4.05, 0], [4.05, 0, 0], [0, 0, 4.05]]}, "left-handed"),
        ({"cell": [[4e4, 0, 0], [0, 4, 0], [0, 0, 4]]}, "4e.04 Å long"),
        ({"positions": [[0.0, 0.0, 0.0]]}, "1 positions, 4 atomic numbers"),
        ({"positions": [[1e12, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]}, r"an atom is at 1e\+12 Å"),
        ({"positions": []}, "0 positions, 4 atomic numbers"),
        ({"positions": [[None, 0, 0]] * 4}, "not finite"),
        ({"positions": [None, [0, 0, 0], [0, 0, 0], [0, 0, 0]]}, "damaged"),
        ({"numbers": [13, 13, 13, 0]}, "atomic numbers are 1 to 118"),
        ({"numbers": [13, 13, 13, -1]}, "atomic numbers are 1 to 118"),
        ({"numbers": [13, 13, 13, 29]}, "no valence of Cu"),
        ({"grid": [20, 20, 0]}, "a grid of"),
        ({"grid": [20, 20, -20]}, "a grid of"),
        ({"temperature": NAN}, "temperature of nan K"),
        ({"temperature": 1e30}, r"temperature of 1e\+30 K"),
        ({"temperature": -1.0}, "temperature of -1 K"),
        ({"n_electrons": NAN}, "are not the nan electrons"),
        ({"n_electrons": 13.0}, "are not the 13 electrons"),
        ({"band_energy": NAN}, "band_energy is nan"),
        ({"total_energy": INF}, "total_energy is inf"),
        ({"forces": [[0.0] * 3] * 3}, "forces of 3 atoms"),
        ({"forces": [[NAN] * 3] * 4}, "forces that are not finite"),
        ({"forces": [[2e4, 0.0, 0.0]] * 4}, r"a force of 2e\+04 eV/Å is none"),
    ],
)
def test_a_row_that_cannot_be_is_refused_when_the_dataset_is_opened(heads, changes, said):
    with_row(heads, **changes)
    with pytest.raises(DatasetError, match=said) as refused:
        Dataset.open(heads)
    assert str(heads / "snapshots.parquet") in str(refused.value)


@pytest.mark.parametrize("name", ["000", "Al4 T=300K", "μ-phase", "a.b.c", "x" * 230])
def test_names_that_people_give_are_ids(name):
    check_id(name)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"species": {"Al": -3.0}}, "species.Al: input should be greater than 0"),
        ({"species": {"Al": "nan"}}, "species.Al"),
        ({"species": {"../Al": 3.0}}, "'../Al' is no chemical symbol"),
        ({"species": {"X": 3.0}}, "'X' is no chemical symbol"),
        ({"species": {}}, "species"),
        ({"units": {"length": "bohr"}}, "length in 'bohr'; a dataset has 'Å'"),
        (
            {"energy_grid": {"minimum": -6.0, "spacing": 1e999, "n_energy": 37, "kernel": "gaussian", "width": 0.5}},
            "spac",
        ),
        (
            {"energy_grid": {"minimum": "nan", "spacing": 0.5, "n_energy": 37, "kernel": "gaussian", "width": 0.5}},
            "mini",
        ),
        (
            {"energy_grid": {"minimum": 1e30, "spacing": 0.5, "n_energy": 37, "kernel": "gaussian", "width": 0.5}},
            "mini",
        ),
        (
            {"energy_grid": {"minimum": -6, "spacing": 0.5, "n_energy": 37, "kernel": "gaussian", "width": 1e30}},
            "width",
        ),
    ],
)
def test_a_dataset_json_that_cannot_be_is_refused(heads, change, said):
    head = heads / "dataset.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | change))
    with pytest.raises(DatasetError, match=said):
        Dataset.open(heads)


def test_descriptors_are_not_written_through_a_link_that_leads_out(heads, tmp_path):
    (tmp_path / "victim").mkdir()
    (heads / "descriptors").symlink_to(tmp_path / "victim")
    opened = Dataset.open(heads)
    snapshot = opened["000"]
    values = np.zeros((snapshot.n_points, SETTINGS.n_components), dtype=np.float32)
    points = range(snapshot.n_points)
    for write in (
        lambda: opened.write_descriptors(snapshot, SETTINGS, values),
        lambda: opened.write_piece_of_descriptors(snapshot, SETTINGS, points, values),
    ):
        with pytest.raises(DatasetError, match="a link leads out of the dataset"):
            write()
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_dataset_that_is_itself_reached_by_a_link_is_written(heads, tmp_path):
    (tmp_path / "link").symlink_to(heads)
    opened = Dataset.open(tmp_path / "link")
    snapshot = opened["000"]
    opened.write_descriptors(snapshot, SETTINGS, np.zeros((snapshot.n_points, SETTINGS.n_components), dtype=np.float32))
    assert [p.name for p in (heads / "descriptors" / SETTINGS.key).iterdir()] == ["000.arrow"]


def test_a_mirror_writes_nothing_through_a_link_of_its_url(heads, tmp_path, monkeypatch):
    monkeypatch.setenv("DFTUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "victim").mkdir()
    (heads / "descriptors").symlink_to(tmp_path / "victim")
    opened = Dataset.open(heads.as_uri())
    snapshot = opened["000"]
    opened.write_descriptors(snapshot, SETTINGS, np.zeros((snapshot.n_points, SETTINGS.n_components), dtype=np.float32))
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_url_dataset_with_a_path_as_an_id_is_refused(heads, tmp_path, monkeypatch):
    monkeypatch.setenv("DFTUNE_CACHE", str(tmp_path / "cache"))
    with_row(heads, id="../../../evil")
    with pytest.raises(DatasetError, match="cannot be the id"):
        Dataset.open(heads.as_uri())


def test_a_copy_follows_no_name_that_leads_out():
    refuse_to_leave(["dataset.json", "ldos/a..b.arrow", "ldos/...arrow"], "s3://bucket/al4")
    with pytest.raises(DatasetError, match="leads out"):
        refuse_to_leave(["dataset.json", "ldos/../../.bashrc"], "s3://bucket/al4")
