"""Datasets behind a URL: file:// here, and where DFTUNE_TEST_URL names other storage (s3://bucket/folder), that too."""

import os
import shutil
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import ray
from click.testing import CliRunner

from dftune import BispectrumSettings, Study, StudySpec
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.cluster.descriptors.grid_points import GridPoints, publish
from dftune.platform.cli.main import cli
from dftune.platform.spec import SpecError
from dftune.trainables.data import mirror
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.location import name_of
from dftune.trainables.data.mirror import Mirror, copy_dataset
from dftune.trainables.errors import DatasetError

CHEAP = BispectrumSettings(cutoff=4.0, two_j_max=4)
STORAGES = ["file", *(["other"] if "DFTUNE_TEST_URL" in os.environ else [])]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFTUNE_CACHE", str(tmp_path / "here"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Go to another machine: one with a cache of its own."""
    return lambda name="there": monkeypatch.setenv("DFTUNE_CACHE", str(tmp_path / name))


@pytest.fixture
def store(al4, tmp_path) -> Path:
    """Storage with the aluminium dataset."""
    copy_dataset(str(al4.path), f"file://{tmp_path}/store/al4")
    shutil.rmtree(tmp_path / "store" / "al4" / "descriptors", ignore_errors=True)
    return tmp_path / "store" / "al4"


def url(store: Path) -> str:
    return f"file://{store}"


@pytest.mark.parametrize("storage", STORAGES)
def test_a_dataset_goes_to_storage_and_comes_back_with_its_descriptors(storage, fresh_al4, tmp_path, elsewhere):
    base = f"file://{tmp_path}/store" if storage == "file" else os.environ["DFTUNE_TEST_URL"]
    base, _, options = base.partition("?")
    place = f"{base}/{uuid4().hex}" + (f"?{options}" if options else "")
    assert copy_dataset(str(fresh_al4.path), place) == 26
    remote = Dataset.open(place)
    assert remote.fingerprint == fresh_al4.fingerprint
    assert remote.location == place
    first, values = remote.snapshots[0], np.full((8000, CHEAP.n_components), 0.5, np.float32)
    np.testing.assert_array_equal(remote.ldos(first).array(), fresh_al4.ldos(first).array())
    remote.write_descriptors(first, CHEAP, values)
    assert remote.described() == [CHEAP.key]
    elsewhere()
    other = Dataset.open(place)
    assert [s.id for s in other.without_descriptors(CHEAP)] == [s.id for s in other.snapshots[1:]]
    np.testing.assert_array_equal(other.descriptors(first, CHEAP).array(), values)
    with pytest.raises(DatasetError, match="missing; run `dftune descriptors compute"):
        other.descriptors(other.snapshots[1], CHEAP)
    with pytest.raises(DatasetError, match="is a dataset already"):
        copy_dataset(str(fresh_al4.path), place)
    assert copy_dataset(place, str(tmp_path / "back")) == 27
    back = Dataset.open(tmp_path / "back")
    back.verify()
    np.testing.assert_array_equal(back.descriptors(first, CHEAP).array(), values)
    with pytest.raises(DatasetError, match=r"not a dataset .*dftune data copy"):
        Dataset.open(place.replace("?", "/none?") if options else f"{place}/none")


def test_files_come_when_they_are_first_read_and_then_never_again(store):
    remote = Dataset.open(url(store))
    assert sorted(p.name for p in remote.path.rglob("*")) == ["dataset.json", "snapshots.parquet"]
    remote.ldos(remote["003"])
    assert [p.name for p in remote.path.rglob("*.arrow")] == ["003.arrow"]
    shutil.rmtree(store / "ldos")
    Dataset.open(url(store)).ldos(remote["003"])
    with pytest.raises(DatasetError, match="missing"):
        remote.ldos(remote["004"])


def test_a_file_other_than_the_table_says_is_not_taken(store):
    with (store / "ldos" / "003.arrow").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x01")
    remote = Dataset.open(url(store))
    with pytest.raises(DatasetError, match=f"{url(store)}: the SHA-256 of ldos/003.arrow differs"):
        remote.ldos(remote["003"])
    assert list(remote.path.rglob("*.arrow*")) == [remote.path / "ldos" / ".003.arrow.lock"]
    remote.ldos(remote["004"])


def test_another_dataset_at_the_same_place_does_not_meet_files_of_the_first(store):
    first = Dataset.open(url(store))
    text = (store / "dataset.json").read_text().replace('"source": "', '"source": "again ')
    (store / "dataset.json").write_text(text)
    second = Dataset.open(url(store))
    assert second.info.source.startswith("again")
    assert second.path != first.path


def test_many_that_want_a_file_at_once_load_it_once(store, monkeypatch):
    loaded, chunks = [], mirror._chunks

    def counting(filesystem, path, where):
        loaded.append(Path(path).name)
        yield from chunks(filesystem, path, where)

    monkeypatch.setattr(mirror, "_chunks", counting)
    remotes = [Dataset.open(url(store)) for _ in range(8)]
    threads = [threading.Thread(target=r.ldos, args=[r["003"]]) for r in remotes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded.count("003.arrow") == 1


def test_a_copy_that_is_cut_off_is_no_dataset(al4, tmp_path, monkeypatch):
    chunks = mirror._chunks

    def failing(filesystem, path, where):
        if path.endswith("ldos/005.arrow"):
            raise DatasetError("away")
        return chunks(filesystem, path, where)

    monkeypatch.setattr(mirror, "_chunks", failing)
    with pytest.raises(DatasetError, match="away"):
        copy_dataset(str(al4.path), str(tmp_path / "copy"))
    assert list((tmp_path / "copy").rglob("*.arrow"))
    with pytest.raises(DatasetError, match="not a dataset"):
        Dataset.open(tmp_path / "copy")


@pytest.mark.parametrize(
    "location, words",
    [
        ("ftp://host/al4", "ftp://host/al4: not a URL that can be read"),
        ("file:///nowhere/al4", "not a dataset"),
        (
            "s3://b/al4?endpoint_override=127.0.0.1:1&scheme=http&region=x&request_timeout=x",
            "not a URL that can be read",
        ),
    ],
)
def test_a_url_that_cannot_be_read_says_so_in_one_line(location, words):
    with pytest.raises(DatasetError, match=words) as raised:
        Dataset.open(location)
    assert "\n" not in str(raised.value)


def test_a_study_file_may_name_a_url(tmp_path):
    (tmp_path / "a.toml").write_text('name = "a"\ndataset = "s3://bucket/some/al4?region=eu-1"\n')
    (tmp_path / "b.toml").write_text('name = "b"\ndataset = "data/al4"\n')
    spec = StudySpec.read(tmp_path / "a.toml")
    assert spec.dataset == "s3://bucket/some/al4?region=eu-1"
    assert StudySpec.of(spec.model_dump(mode="json")) == spec
    assert name_of(spec.dataset) == "al4"
    assert StudySpec.read(tmp_path / "b.toml").dataset == f"{tmp_path}/data/al4"
    with pytest.raises(SpecError, match="dataset"):
        StudySpec.of({"name": "a", "dataset": ""})


def test_the_commands_take_a_url(store):
    shown = CliRunner().invoke(cli, ["data", "show", url(store)])
    assert shown.output.startswith(f"{url(store)}: ")
    (store / "ldos" / "003.arrow").write_bytes(b"")
    checked = CliRunner().invoke(cli, ["data", "check", url(store)])
    assert checked.exit_code == 1
    assert "ldos/003.arrow differs" in checked.output


@pytest.mark.usefixtures("local_ray")
def test_descriptors_computed_by_actors_are_at_the_url_for_all(store, elsewhere):
    remote = Dataset.open(url(store))
    compute_descriptors(remote, CHEAP).close()
    assert len(list((store / "descriptors" / CHEAP.key).iterdir())) == 12  # whole files only
    assert remote.not_stored(CHEAP) is None
    elsewhere()
    assert Dataset.open(url(store)).without_descriptors(CHEAP) == []


@ray.remote(num_cpus=0)
def read_there(data: GridPoints) -> tuple[str, float]:
    """What a worker of another node reads: where its files are, and the sum of it all."""
    shards = [shard for s in data.training_data().train for shard in (*s.descriptors, *s.ldos)]
    return str(shards[0].path), float(sum(shard[:].sum(dtype=np.float64) for shard in shards))


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_storage_that_nobody_may_write_gives_every_node_its_descriptors_all_the_same(store, tmp_path):
    (store / "descriptors").symlink_to("/proc/nowhere")  # not even root may make that
    remote = Dataset.open(url(store))
    compute_descriptors(remote, CHEAP).close()
    assert "cannot be written, so the descriptors of 12 snapshots stay in" in remote.not_stored(CHEAP)
    data = publish(remote, CHEAP, NotKept())
    there = {"env_vars": {"DFTUNE_CACHE": str(tmp_path / "there")}}
    path, total = ray.get(read_there.options(runtime_env=there).remote(data))
    assert path.startswith(f"{tmp_path}/there/")
    here = data.training_data().train
    assert here[0].descriptors[0].path.is_relative_to(tmp_path / "here")
    shards = [shard for s in here for shard in (*s.descriptors, *s.ldos)]
    assert total == pytest.approx(float(sum(s[:].sum(dtype=np.float64) for s in shards)), rel=1e-12)


class NotKept:
    """Descriptors that are not in the object store."""

    shards = ()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_study_of_a_url_is_that_of_the_folder(al4, store, tmp_path):
    settings = {
        "method": "random",
        "trials": 2,
        "initializations": 1,
        "descriptors": {"cutoff": 4.0, "two_j_max": 4},
        "space": {"width": {"type": "int", "low": 8, "high": 32}},
        "config": {"n_layers": 1, "epochs": 2, "batch_size": 256, "activation": "silu", "learning_rate": 1e-3},
    }
    a = Study("a", url(store), studies=tmp_path / "studies", **settings)
    b = Study("b", al4, studies=tmp_path / "studies", **settings)
    found, expected = a.run(), b.run()
    assert found.value == expected.value
    assert found.accuracy == expected.accuracy
    assert a.model().card.dataset == "al4"
    assert Mirror(url(store)).names(f"descriptors/{CHEAP.key}")
