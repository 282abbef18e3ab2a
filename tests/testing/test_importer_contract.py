"""What every importer promises, and that the check of it can fail."""

from dataclasses import replace

import numpy as np
import pytest

from dftune.testing import check_importer
from dftune.tests.exported import export
from dftune.tests.mala_project import write_openpmd
from dftune.trainables.data.exporting.exporters import export_dataset
from dftune.trainables.data.importing.arrays import ARRAYS
from dftune.trainables.data.importing.importer import GridValues
from dftune.trainables.data.importing.importers import reader_of
from dftune.trainables.data.importing.mala import MALA
from dftune.trainables.errors import InputError


@pytest.fixture(scope="module")
def raw(al4, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "runs"
    export(al4, al4.snapshots[0], folder)
    return folder


def test_arrays_keep_the_contract(raw):
    check_importer(ARRAYS, [raw])


@pytest.mark.parametrize("ending", ["npy", "h5"])
def test_mala_keeps_the_contract(al4, tmp_path, ending):
    project = export_dataset(al4.only(al4.snapshots[:1]), tmp_path / "project", "mala")
    if ending == "h5":
        write_openpmd(project / "000.out.h5", "LDOS", np.load(project / "000.out.npy"))
        (project / "000.out.npy").unlink()
    check_importer(MALA, [project])


class Broken:
    """The importer of arrays, with one promise broken."""

    name, about = "broken", "files of a test"

    def __init__(self, **broken):
        self.broken = broken
        self.reads = 0

    def recognises(self, path):
        return self.broken.get("takes_all", False) or ARRAYS.recognises(path)

    def read(self, sources, *, told, report):
        self.reads += 1
        if self.broken.get("raises"):
            for source in sources:
                next(source.glob("*.json")).read_text()
        if self.broken.get("writes"):
            (sources[0] / "index.txt").write_text(str(self.reads))
        found = ARRAYS.read(sources, told=told, report=report)
        change = self.broken.get("change")
        return found if change is None else replace(found, snapshots=[change(one, self) for one in found.snapshots])


def once(one, importer):
    """The LDOS can be read only once."""
    blocks = iter(one.ldos.blocks())
    return replace(one, ldos=GridValues(one.where, lambda: blocks))


def whole_numbers(one, importer):
    return replace(one, ldos=GridValues(one.where, lambda: (b.astype(int) for b in one.ldos.blocks())))


def transposed(one, importer):
    return replace(one, ldos=GridValues(one.where, lambda: (b.T for b in one.ldos.blocks())))


def another_name(one, importer):
    return replace(one, snapshot=replace(one.snapshot, id=f"{importer.reads}"))


def charged(one, importer):
    return replace(one, snapshot=replace(one.snapshot, n_electrons=11.0))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"takes_all": True}, "it takes an empty folder for one of its own"),
        ({"writes": True}, "files beside the sources were written or changed"),
        ({"raises": True}, "a source that is missing: raised StopIteration"),
        ({"change": once}, "has 0 grid points, the snapshot 8000"),
        ({"change": whole_numbers}, "is of int64, not of real numbers"),
        ({"change": transposed}, "numbers a grid point, not"),
        ({"change": another_name}, "reading twice gave different snapshots, or another order"),
        ({"change": charged}, "a snapshot cannot be used: "),
    ],
)
def test_a_broken_promise_is_named(raw, broken, said):
    with pytest.raises(AssertionError, match=said):
        check_importer(Broken(**broken), [raw])
    (raw / "index.txt").unlink(missing_ok=True)


SCRIPT = """
from dftune.trainables.data.importing.arrays import Arrays

class Mine(Arrays):
    name = "mine"

READER = Mine()
"""


def test_a_script_gives_its_reader(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    assert reader_of(tmp_path / "mine.py").name == "mine"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import nothing_like_it", "cannot be run (ModuleNotFoundError: No module named 'nothing_like_it')"),
        ("x = 1", "has no READER; a reader is described in docs/extending.md"),
        ("class A: name = 'a'\nREADER = A()", "its READER has no about, recognises, read"),
    ],
)
def test_a_script_without_a_reader_is_refused(tmp_path, script, said):
    (tmp_path / "mine.py").write_text(script)
    with pytest.raises(InputError) as caught:
        reader_of(tmp_path / "mine.py")
    assert str(caught.value) == f"{tmp_path / 'mine.py'}: {said}" or said in str(caught.value)
