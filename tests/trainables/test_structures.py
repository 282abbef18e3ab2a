import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.io.trajectory import Trajectory

from dftune.trainables.errors import TooLarge
from dftune.trainables.structures import StructureError, check_distances, check_structure, read_structures

ALUMINIUM = ase.build.bulk("Al", cubic=True)


def displaced(step: int) -> ase.Atoms:
    atoms = ALUMINIUM.copy()
    atoms.positions[0, 0] += 0.01 * step
    return atoms


@pytest.mark.parametrize("name", ["POSCAR", "a.xyz", "a.cif", "a.traj", "a.json"])
def test_structure_files_of_many_formats_are_read(tmp_path, name):
    path = tmp_path / name
    ase.io.write(path, displaced(3), format={"a.xyz": "extxyz"}.get(name))
    (found,) = read_structures(path)
    np.testing.assert_allclose(found.positions, displaced(3).positions, atol=1e-5)
    np.testing.assert_allclose(np.array(found.cell), np.array(ALUMINIUM.cell), atol=1e-5)
    assert found.pbc.all()


@pytest.mark.parametrize(
    "frames, expected", [("-1", [9]), (":", range(10)), ("0", [0]), ("2:8:3", [2, 5]), ("::5", [0, 5]), ("-2:", [8, 9])]
)
def test_frames_of_a_trajectory_are_chosen_as_in_python(tmp_path, frames, expected):
    with Trajectory(tmp_path / "md.traj", "w") as trajectory:
        for step in range(10):
            trajectory.write(displaced(step))
    found = read_structures(tmp_path / "md.traj", frames)
    assert [round((a.positions[0, 0]) / 0.01) for a in found] == list(expected)


def test_an_at_sign_belongs_to_the_name(tmp_path):
    ase.io.write(tmp_path / "md@300K.xyz", [displaced(1), displaced(2)], format="extxyz")
    assert len(read_structures(tmp_path / "md@300K.xyz", ":")) == 2


@pytest.mark.parametrize("frames", ["last", "1:2:3:4", "", "1.5", "a.xyz@1"])
def test_frames_that_are_no_range_are_refused(tmp_path, frames):
    ase.io.write(tmp_path / "a.xyz", ALUMINIUM, format="extxyz")
    with pytest.raises(StructureError, match="give a number as -1, or a range as : or 0:100:10"):
        read_structures(tmp_path / "a.xyz", frames)


@pytest.mark.parametrize(
    "frames, text", [("5:9", "has no frame 5:9"), ("7", "has no frame 7"), ("-9", "has no frame -9")]
)
def test_frames_that_do_not_exist_are_refused(tmp_path, frames, text):
    ase.io.write(tmp_path / "a.xyz", ALUMINIUM, format="extxyz")
    with pytest.raises(StructureError, match=text):
        read_structures(tmp_path / "a.xyz", frames)


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("missing.xyz", None, "no such file"),
        ("a.cif", "nonsense", "ASE cannot read it"),
        ("a.traj", "whatever", "ASE cannot read it"),
        ("a.traj", "\x80\x04\x95pickle", "ASE cannot read it"),
        ("a.pckl", "whatever", "ASE cannot read it"),
        ("a.py", "print('run')", "ASE cannot read it"),
        ("a.db", "whatever", "db is not read, for safety"),
        ("empty.xyz", "", "ASE cannot read it"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StructureError, match=text) as error:
        read_structures(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda a: a.set_chemical_symbols(["Cu", "Al", "Al", "Al"]), "the model knows Al but not Cu"),
        (lambda a: a.set_pbc(False), "not periodic in three dimensions"),
        (lambda a: a.set_cell(np.zeros((3, 3))), "not periodic in three dimensions"),
        (lambda a: a.positions.__setitem__(0, a.positions[1] + 0.1), "apart, closer than 1 Å"),
        (lambda a: a.positions.__setitem__((0, 0), np.nan), "positions or cell are not finite"),
        (lambda a: a.set_cell(a.cell * 1e200), "check its unit"),
        (lambda a: (a.__delitem__(slice(1, None)), a.set_cell(0.2 * np.eye(3))), "or images of one, are 0.20 Å apart"),
        (lambda a: a.__delitem__(slice(None)), "has no atoms"),
        (lambda a: a.set_cell([100, 100, 1e-3]), r"the cell is only 0\.001 Å thick"),
    ],
)
def test_a_structure_that_cannot_be_predicted_is_refused(change, text):
    def check(atoms):
        check_structure(atoms, ["Al"])
        check_distances(atoms)

    atoms = ALUMINIUM.copy()
    check(atoms)
    change(atoms)
    with pytest.raises(StructureError, match=text):
        check(atoms)


def test_more_atoms_than_any_grid_would_take_are_refused():
    atoms = ase.Atoms("Al", cell=[900, 900, 900], pbc=True)
    check_structure(ase.Atoms(["Al"] * 100_000, cell=atoms.cell, pbc=True), ["Al"])
    with pytest.raises(TooLarge, match="100,001 atoms, more than 100,000"):
        check_structure(ase.Atoms(["Al"] * 100_001, cell=atoms.cell, pbc=True), ["Al"])
