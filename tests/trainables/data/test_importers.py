import dataclasses
import os
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.forked import Forked
from dftune.tests.plugins import install
from dftune.trainables.data.importing.importer import Found, FoundSnapshot, GridValues
from dftune.trainables.data.importing.importers import IMPORTERS, import_dataset
from dftune.trainables.errors import DatasetError, InputError

PLUGGED = """
from dftune.tests.trainables.data.test_importers import Planes
from dftune.trainables.data.dataset import Dataset

PLANES = Planes(Dataset.open({dataset!r}))
"""


class Planes:
    """An importer of one's own: a snapshot a folder NNN with a file a plane of x, which are read one by one."""

    name = "planes"
    about = "folders NNN with files plane-N.npy"

    def __init__(self, reference, **changed):
        self.reference = reference
        self.changed = changed
        self.events = []

    def recognises(self, path):
        return (path / "plane-0.npy").exists()

    def read(self, sources, *, told, report):
        report(f"{len(sources)} folders of planes")
        return Found(snapshots=[self.found(path) for path in sources], source="planes of a test")

    def found(self, path):
        row = self.reference[path.name].to_row()
        names = ("id", "cell", "positions", "numbers", "grid", "temperature", "n_electrons")
        known = type(self.reference[path.name]).from_row(row)
        snapshot = type(known)(**{name: getattr(known, name) for name in names})
        info = self.reference.info
        found = FoundSnapshot(
            where=path,
            snapshot=snapshot,
            species=info.species,
            energy_grid=info.energy_grid,
            ldos=GridValues(path, lambda: self.planes(path)),
        )
        return dataclasses.replace(found, **self.changed)

    def planes(self, path):
        for n in range(20):
            self.events.append(f"{path.name} plane {n}")
            yield np.load(path / f"plane-{n}.npy")


@pytest.fixture
def planes(al4, tmp_path):
    """Folders 000, 001 and 002 of planes of the bundled dataset."""
    folders = [tmp_path / name for name in ("000", "001", "002")]
    for folder in folders:
        folder.mkdir()
        ldos = al4.ldos(al4[folder.name]).array().reshape(20, 400, 37)
        for n in range(20):
            np.save(folder / f"plane-{n}.npy", ldos[n])
    return folders


def test_an_importer_of_ones_own_streams_planes(al4, planes, tmp_path):
    importer, lines = Planes(al4), []

    def report(line):
        lines.append(line)
        importer.events.append(line.split()[0])

    made = import_dataset(planes, tmp_path / "made", importer=importer, report=report)
    assert [(s.id, s.split, s.group) for s in made] == [
        ("000", "train", "all"),
        ("001", "validation", "all"),
        ("002", "test", "all"),
    ]
    assert lines[1].startswith("rule of integration: least-squares; ")
    assert [lines[0], *lines[2:5]] == [
        "3 folders of planes",
        "000  train      4 atoms, grid (20, 20, 20), all",
        "001  validation 4 atoms, grid (20, 20, 20), all",
        "002  test       4 atoms, grid (20, 20, 20), all",
    ]
    # A snapshot is written before the next is read.
    events = ["3", "rule"]
    events += (event for name in ("000", "001", "002") for event in (*(f"{name} plane {n}" for n in range(20)), name))
    assert importer.events[: len(events)] == events
    for snapshot in made:
        assert snapshot.ldos_sha256 == al4[snapshot.id].ldos_sha256
        assert snapshot.density_sha256 is None
    assert made.info.source == "planes of a test"
    assert made.info.dft is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda ldos: ldos[:19], "000: has 7600 grid points, but the snapshot 8000"),
        (lambda ldos: ldos[..., :36], r"000: has values \(36,\) of float16 at each grid point, expected \(37,\) float"),
        (lambda ldos: ldos.astype(int), r"000: has values \(37,\) of int64 at each grid point, expected \(37,\) float"),
        (
            lambda ldos: np.where(np.arange(20)[:, None, None] == 3, np.nan, ldos),
            r"at 400 grid points, first at \(3, 0",
        ),
        (lambda ldos: ldos[:0], "000: has 0 grid points, but the snapshot 8000"),
    ],
)
def test_planes_that_are_not_those_of_the_snapshot_are_refused(al4, planes, tmp_path, change, message):
    ldos = change(al4.ldos(al4["000"]).array().reshape(20, 400, 37))
    importer = Planes(al4, ldos=GridValues(planes[0], lambda: iter(ldos)))
    with pytest.raises(DatasetError, match=message):
        import_dataset(planes[:1], tmp_path / "made", importer=importer)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"id": "../000"}, "'../000' cannot be the id of a snapshot; give it a plain name"),
        ({"id": ".000"}, "'.000' cannot be the id of a snapshot"),
        ({"id": "0,1"}, "'0,1' cannot be the id of a snapshot"),
        ({"numbers": np.full(4, 4)}, "gives no valence of Be"),
        ({"n_electrons": 11.0}, "4 Al with 3 valence electrons each are not the 11 electrons it gives; charged cells"),
        ({"forces": np.zeros((3, 3))}, "has forces of 3 atoms, but positions of 4"),
        ({"cell": np.diag([4.0, 4.0, -4.0])}, "the cell vectors are left-handed or coplanar"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_whichever_the_importer(al4, planes, tmp_path, changed, message):
    wrong = dataclasses.replace(al4["000"], **changed)
    with pytest.raises(DatasetError, match=message):
        import_dataset(planes[:1], tmp_path / "made", importer=Planes(al4, snapshot=wrong))
    assert not (tmp_path / "made").exists()


def test_an_importer_that_finds_nothing_is_refused(al4, tmp_path):
    with pytest.raises(DatasetError, match="nothing to import: the importer found no snapshot"):
        import_dataset([], tmp_path / "made", importer=Planes(al4))


def test_sources_that_no_importer_recognises_are_refused_with_those_there_are(planes, tmp_path):
    with pytest.raises(DatasetError, match=r"000: holds no snapshot that an importer recognises; there are arrays: "):
        import_dataset(planes, tmp_path / "made")
    with pytest.raises(DatasetError, match=r"nowhere: missing; there are arrays: folders of NNN.json"):
        import_dataset([tmp_path / "nowhere"], tmp_path / "made")
    with pytest.raises(InputError, match="there is no importer 'array'; did you mean 'arrays'"):
        import_dataset(planes, tmp_path / "made", importer="array")
    assert list(IMPORTERS)[:3] == ["arrays", "mala", "quantum-espresso"]


def test_the_importer_of_an_installed_package_is_found_by_its_files(al4, planes, tmp_path):
    (site := tmp_path / "site").mkdir()
    made = PLUGGED.format(dataset=str(al4.path))
    install(site, "plugged", {"planes": "plugged:PLANES"}, made, group="dftune.importers")

    def last_line(*options):
        words = ["data", "import", *map(str, planes), *options]
        print(CliRunner().invoke(cli, words).output.splitlines()[-1])

    def act():
        os.chdir(tmp_path)
        sys.path.insert(0, str(site))
        IMPORTERS._found = None  # as in a new process
        last_line("found")
        for name in ("000.json", "000.ldos.npy"):
            (planes[0] / name).touch()
        last_line("ambiguous")
        last_line("named", "--format", "planes")
        last_line("unknown", "--format", "cubes")

    with Forked(act) as process:
        out, said = process.communicate()
    assert process.returncode == 0, said
    found, ambiguous, named, unknown = out.splitlines()
    assert found == f"3 snapshots in {tmp_path / 'found'}"
    assert ambiguous == (
        f"Error: {planes[0]}: arrays and planes recognise the sources; choose one with --format, or import apart"
    )
    assert named == f"3 snapshots in {tmp_path / 'named'}"
    assert unknown.startswith("Error: there is no importer 'cubes'; there are arrays, ")
    assert unknown.endswith(", planes")
