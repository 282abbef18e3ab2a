"""What the system does not let be read, or what is no setting, is refused in one line with its place."""

import re
import shutil

import h5py
import numpy as np
import pytest

from dftune.tests.exported import edit, edit_array, led_in_a_circle, refused
from dftune.tests.mala_project import as_mala_writes_it, described, write_openpmd
from dftune.trainables.data.importing.importer import Told
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.errors import DatasetError, InputError, one_line

KNOWN = {"kernel": "gaussian", "width": 0.5}
LOOP = "cannot be read (Too many levels of symbolic links); check its permissions, or copy it again"


@pytest.fixture(scope="module")
def written(al4, tmp_path_factory):
    return as_mala_writes_it(
        described(al4, tmp_path_factory.mktemp("described") / "al4", n=1), tmp_path_factory.mktemp("mala") / "al4"
    )


@pytest.fixture
def project(written, tmp_path):
    return shutil.copytree(written, tmp_path / "project")


@pytest.mark.parametrize("name", ["002.ldos.npy", "002.dens.npy"])
def test_an_array_that_cannot_be_read_is_named_and_not_left_out(raw, tmp_path, name):
    led_in_a_circle(raw / name)
    assert refused([raw], tmp_path / "al4") == f"{raw / name}: {LOOP}"
    (raw / name).unlink()
    (raw / name).symlink_to("nowhere")
    assert refused([raw], tmp_path / "al4").startswith(f"{raw / name}: missing; every snapshot needs its ")


@pytest.mark.parametrize("name", ["000.out.npy", "000.in.npy", "000.dens.npy", "000.out.h5"])
def test_a_file_of_mala_that_cannot_be_read_is_named(project, tmp_path, name):
    if name.endswith(".h5"):
        (project / "000.out.npy").unlink()
    led_in_a_circle(project / name)
    text = refused([project], tmp_path / "made", **KNOWN)
    assert text.startswith(f"{project / name}: cannot be read (Too many levels of symbolic links)")


def test_a_folder_below_a_project_that_cannot_be_read_is_named(project, tmp_path, monkeypatch):
    (project / "cubes").mkdir()
    listing = type(project).iterdir

    def iterdir(self):
        if self == project / "cubes":
            raise PermissionError(13, "Permission denied", str(self))
        return listing(self)

    monkeypatch.setattr(type(project), "iterdir", iterdir)
    assert refused([project], tmp_path / "made", **KNOWN).startswith(f"{project / 'cubes'}: cannot be read (Permission")


def test_a_component_that_leads_nowhere_is_named(project, tmp_path):
    values = np.load(project / "000.out.npy")
    (project / "000.out.npy").unlink()
    write_openpmd(project / "000.out.h5", "LDOS", values)
    with h5py.File(project / "000.out.h5", "a") as file:
        del file["data/0/meshes/LDOS/3"]
        file["data/0/meshes/LDOS/3"] = h5py.ExternalLink("gone.h5", "/x")
    said = refused([project], tmp_path / "made", **KNOWN)
    assert said.startswith(f"{project / '000.out.h5'}: a component of LDOS is a link that leads nowhere; copy all")


@pytest.mark.parametrize("destination", ["x" * 300, "made/of/a\0zero"])
def test_a_destination_that_no_folder_can_have_is_named(raw, tmp_path, destination):
    with pytest.raises((DatasetError, ValueError), match=r"cannot be written|null"):
        import_dataset([raw], tmp_path / destination)


@pytest.mark.parametrize("said", [{"width": float("nan")}, {"width": 0.0}, {"cutoff": -3.0}, {"cutoff": 1e9}])
def test_a_width_or_cutoff_that_is_none_is_refused(said):
    ((name, value),) = said.items()
    with pytest.raises(
        InputError, match=rf"^a {name} of {re.escape(f'{value:g}')} (eV|Å) is none; give one above 0, up to"
    ):
        Told(**said)


def test_energies_of_mala_that_are_no_grid_are_named(project, tmp_path):
    file = project / "dataset.params.json"
    file.write_text(file.read_text("utf-8").replace('"ldos_gridoffset_ev": -6.0', '"ldos_gridoffset_ev": 1e12'))
    assert refused([project], tmp_path / "made", **KNOWN).startswith(
        f"{project / '000.out.npy'}: energies of its LDOS: minimum: input should be less than or equal to 1000000"
    )


def test_objects_of_python_are_no_numbers(raw, tmp_path):
    np.save(raw / "002.ldos.npy", np.array([{}], dtype=object))
    said = refused([raw], tmp_path / "al4")
    assert said == f"{raw / '002.ldos.npy'}: holds objects of Python, not numbers; save float32 or float64"


def test_numbers_too_large_for_float32_are_refused_without_a_warning(raw, tmp_path):
    edit_array(raw / "002.ldos.npy", lambda v: np.where(v == v.max(), 1e300, v.astype(np.float64)))
    assert "002.ldos.npy: the LDOS is not finite (NaN or infinite) at 1 grid points" in refused([raw], tmp_path / "al4")


def test_coordinates_that_are_no_numbers_are_refused_as_such(project, tmp_path):
    values = np.load(project / "000.in.npy")
    values[5] = np.nan
    np.save(project / "000.in.npy", values)
    said = refused([project], tmp_path / "made", **KNOWN)
    assert said.startswith(f"{project / '000.in.npy'}: its coordinates are not finite; it is of another snapshot")


def test_a_group_of_two_lines_is_refused(raw, tmp_path):
    edit(raw / "002.json", key="group", value="a\nb")
    assert refused([raw], tmp_path / "al4").startswith(
        f"{raw / '002.json'}: group 'a\\nb' has characters that are none"
    )


def test_a_name_of_two_lines_is_no_id(raw, tmp_path):
    for ending in (".json", ".ldos.npy", ".dens.npy"):
        (raw / f"002{ending}").rename(raw / f"00\n2{ending}")
    with pytest.raises(DatasetError) as caught:
        import_dataset([raw], tmp_path / "al4")
    assert one_line(caught.value) == f"{raw}/00 2.json: '00\\n2' cannot be the id of a snapshot; give it a plain name"


def test_both_places_of_an_id_are_named(raw, tmp_path):
    twin = shutil.copytree(raw, tmp_path / "twin")
    said = refused([raw, twin], tmp_path / "al4")
    assert said.startswith(f"{twin / '000.json'}: snapshot '000' is given twice, before in {raw / '000.json'}, and ids")
