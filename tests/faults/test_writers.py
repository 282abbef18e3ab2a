"""Every writer without room, and killed amid a write: nothing half is taken for whole, and run again it ends right.

The limit on the size of a file stands for the full disk: it fails in the same place, and needs no right to mount one.
With its signal not ignored, the system kills the process just there.  test_full_disk.py fills a real file system.
"""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dftune import Model, Study
from dftune.platform.compare.report import write_report
from dftune.platform.figures.draw import draw
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.spec import StudySpec
from dftune.platform.study.known_scores import SavedScores
from dftune.tests.exported import export
from dftune.tests.platform.cli.conftest import make_study
from dftune.tests.platform.compare.test_report import compared_of
from dftune.tests.room import files_of_at_most
from dftune.tests.toy_kind import ToyConfig
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.mirror import Mirror, copy_dataset
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError

SETTINGS = BispectrumSettings(cutoff=4.0, two_j_max=4)


@dataclass
class Writer:
    """write: what is tried, in a folder.  room: bytes of a file that are not enough.  whole: whether it is there."""

    write: Callable[[Path], Any]
    room: int
    whole: Callable[[Path], Any]
    reader_writes: bool = False  # who reads would bring what is missing


def spec(seed: int = 0) -> StudySpec:
    space = {"width": {"type": "int", "low": 4, "high": 64}}
    return StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": space, "method": "random", "seed": seed})


@pytest.fixture
def writer(request, toy, numbers, al4, tmp_path, monkeypatch) -> Writer:
    return globals()[f"writer_of_{request.param}"](request, tmp_path)


def writer_of_ledger(request, tmp_path):
    def write(folder):
        folder.mkdir(exist_ok=True)
        Ledger.create(folder / "ledger.db", spec(), "0" * 64).close()

    def whole(folder):
        with closing(Ledger.open(folder / "ledger.db")) as ledger:
            return ledger.spec == spec()

    return Writer(write, 20_000, whole)


def writer_of_model(request, tmp_path):
    toy, data = request.getfixturevalue("toy"), request.getfixturevalue("numbers")
    data = toy.open(str(data))
    training, test = toy.split_for_training(data, toy.settings())
    trained = toy.train(ToyConfig(), training, seeds=range(5000), report=lambda report: None)
    accuracy = toy.judge(trained, training, test).accuracy
    card = toy.card("by-hand", data, toy.settings(), ToyConfig(), [1], accuracy)
    model = Model.assemble(card, toy.tensors(trained))
    return Writer(model.save, 20_000, lambda folder: len(Model.open(folder).surrogate.slopes) == 5000)


def writer_of_report(request, tmp_path):
    values = {"name": "toys", "kind": "toy", "dataset": str(tmp_path), "budget": {"points": 40.0}}
    of_toys = StudySpec.of(values)

    def whole(folder):
        return "</html>" in (folder / "report.html").read_text() and "untuned" in (folder / "report.md").read_text()

    def write(folder):
        folder.mkdir(exist_ok=True)
        write_report(replace(compared_of(of_toys, folder), outcomes=[]))  # one figure, not four

    return Writer(write, 8000, whole)


def writer_of_figures(request, tmp_path):
    make_study(tmp_path / "studies", "kept")
    study = Study.open("kept", tmp_path / "studies")
    trials = study.trials()

    def whole(folder):
        return (folder / "history.png").read_bytes().endswith(b"IEND\xaeB`\x82")

    return Writer(lambda folder: draw(trials, study.spec, folder, "png", ["history"]), 8000, whole)


def writer_of_scores(request, tmp_path):
    known = {("rate", n / 7): n / 3 for n in range(1000)}

    def write(folder):
        folder.mkdir(exist_ok=True)
        SavedScores(folder / "scores.json").write(known, at_once=True)

    return Writer(write, 8000, lambda folder: SavedScores(folder / "scores.json").read() == known)


def writer_of_import(request, tmp_path):
    al4 = request.getfixturevalue("al4")
    for snapshot in al4.snapshots[:4]:
        export(al4, snapshot, tmp_path / "raw")

    def whole(folder):
        dataset = Dataset.open(folder)
        dataset.verify()
        return [s.id for s in dataset.snapshots] == ["000", "001", "002", "003"]

    return Writer(lambda folder: import_dataset([tmp_path / "raw"], folder, importer="arrays"), 100_000, whole)


def writer_of_shards(request, tmp_path):
    shutil.copytree(request.getfixturevalue("al4").path, tmp_path / "al4")
    dataset = Dataset.open(tmp_path / "al4")
    first = dataset.snapshots[0]
    values = np.random.default_rng(0).normal(size=(first.n_points, SETTINGS.n_components)).astype(np.float32)

    def whole(folder):
        return np.array_equal(Dataset.open(tmp_path / "al4").descriptors(first, SETTINGS).array(), values)

    return Writer(lambda folder: dataset.write_descriptors(first, SETTINGS, values), 100_000, whole)


def writer_of_mirror(request, tmp_path):
    al4 = request.getfixturevalue("al4")
    copy_dataset(str(al4.path), f"file://{tmp_path}/store/al4")
    url = f"file://{tmp_path}/store/al4"

    def whole(folder):
        os.environ["DFTUNE_CACHE"] = str(folder)
        mirrored = Mirror(url).fetch("ldos/000.arrow")
        return mirrored.read_bytes() == (al4.path / "ldos" / "000.arrow").read_bytes()

    request.getfixturevalue("monkeypatch").setenv("DFTUNE_CACHE", str(tmp_path))
    return Writer(whole, 100_000, whole, reader_writes=True)


def is_whole(writer: Writer, folder: Path) -> bool:
    """Whether what it writes is there for a reader, who must refuse anything else."""
    try:
        with files_of_at_most(writer.room if writer.reader_writes else resource.RLIM_INFINITY):
            return bool(writer.whole(folder))
    except (InputError, FileNotFoundError):
        return False


@pytest.fixture(autouse=True)
def no_bytecode(monkeypatch):
    """Python 3.11 takes a file of bytecode that was cut short for whole, and puts it into the source's folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


WRITERS = [name.removeprefix("writer_of_") for name in dir() if name.startswith("writer_of_")]


@pytest.mark.parametrize("writer", WRITERS, indirect=True)
def test_a_writer_without_room_leaves_nothing_half_and_with_room_it_ends_right(writer, tmp_path):
    there = tmp_path / "there"
    with files_of_at_most(writer.room), pytest.raises(InputError) as error:
        writer.write(there)
    assert "\n" not in str(error.value)
    assert "cannot be" in str(error.value), "what it could not do, and where"
    assert [*tmp_path.rglob("*.part")] == []
    assert not is_whole(writer, there)
    writer.write(there)
    assert writer.whole(there)


@pytest.mark.parametrize("writer", WRITERS, indirect=True)
def test_a_writer_killed_in_the_middle_of_a_write_ends_right_when_it_is_run_again(writer, tmp_path):
    there = tmp_path / "there"
    child = os.fork()
    if not child:
        try:
            signal.alarm(300)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (writer.room, resource.RLIM_INFINITY))
            writer.write(there)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGXFSZ, status
    assert not is_whole(writer, there)
    writer.write(there)
    assert writer.whole(there)
