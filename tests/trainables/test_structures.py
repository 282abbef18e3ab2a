import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.io.trajectory import Trajectory

from dftune.trainables.errors import TooLarge
from dftune.trainables.structures import (
    StructureError,
    as_atoms,
    check_distances,
    check_structure,
    left_out,
    read_extended_xyz,
    read_structures,
)

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


@pytest.mark.parametrize("frames, n", [("-1", 1), (":", 1), ("-2:", 1), ("0", 1), ("::10", 1)])
@pytest.mark.parametrize("name", ["POSCAR", "a.xsf", "a.data"])
def test_a_file_that_holds_one_structure_has_frames_as_well(tmp_path, name, frames, n):
    ase.io.write(tmp_path / name, ALUMINIUM, **({"format": "lammps-data", "masses": True} if name == "a.data" else {}))
    assert len(read_structures(tmp_path / name, frames)) == n
    with pytest.raises(StructureError, match="has no frame 1"):
        read_structures(tmp_path / name, "1")


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
        ("9" * 400, None, "no such file"),
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
        (lambda a: a.set_cell(0.02 * np.eye(3)), "volume of 8e-06 Å³, which is none; check its vectors and unit"),
        (lambda a: a.set_cell([[1, 0, 0], [2, 0, 0], [0, 0, 5]]), "volume of 0 Å³, which is none"),
        (lambda a: a.positions.__setitem__(0, a.positions[1] + 0.1), "apart, closer than 1 Å"),
        (lambda a: a.positions.__setitem__((0, 0), np.nan), "positions or cell are not finite"),
        (lambda a: a.set_cell(a.cell * 1e200), "check its unit"),
        (lambda a: (a.__delitem__(slice(1, None)), a.set_cell(0.2 * np.eye(3))), "or images of one, are 0.20 Å apart"),
        (lambda a: a.__delitem__(slice(None)), "has no atoms"),
        (lambda a: a.set_cell([100, 100, 1e-3]), r"the cell is only 0\.001 Å thick"),
        (lambda a: a.positions.__setitem__((0, 0), 1e12), r"an atom is at 1e\+12 Å, farther than"),
        (lambda a: a.set_atomic_numbers([13, 13, 13, 999]), "atomic numbers are 1 to 118"),
        (lambda a: a.set_atomic_numbers([13, 13, 13, -7]), "atomic numbers are 1 to 118"),
        (lambda a: a.set_pbc([True, True, False]), "not periodic in three dimensions"),
        (lambda a: a.info.update(occupancy={"0": {"Al": 0.5}}), r"site 1 is partly occupied: Al 0\.5; give a cell"),
        (lambda a: a.info.update(occupancy={"0": {"Al": 0.0}}), r"site 1 is partly occupied: Al 0; give a cell"),
        (lambda a: a.info.update(occupancy={1: {"Al": 0.75, "Cu": 0.25}}), r"site 2 .*: Al 0\.75, Cu 0\.25"),
        (lambda a: a.set_array("occupancy", np.array([1, 1, 0.5, 1])), r"site 3 is partly occupied: Al 0\.5"),
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


CIF = """data_x
_cell_length_a 4.05
_cell_length_b 4.05
_cell_length_c 4.05
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


@pytest.mark.parametrize(
    "sites, said",
    [
        ("Al1 Al 0 0 0 1.0", None),
        ("Al1 Al 0 0 0 1.00(2)", None),
        ("Al1 Al 0 0 0 ?", None),  # the dictionary of CIF has 1 where nothing is said
        ("Al1 Al 0 0 0 .", None),
        ("Al1 Al 0 0 0 half", "partly occupied: Al half"),
        ("Al1 Al 0 0 0 0.5", "partly occupied: Al 0.5"),
        ("Al1 Al 0 0 0 0.0", "partly occupied: Al 0"),
        ("Al1 Al 0 0 0 0.75\nCu1 Cu 0 0 0 0.25", "partly occupied: Al 0.75, Cu 0.25"),
    ],
)
def test_a_cif_with_partly_occupied_sites_is_no_crystal_of_its_main_element(tmp_path, sites, said):
    (tmp_path / "a.cif").write_text(CIF + sites + "\n")
    (found,) = read_structures(tmp_path / "a.cif")
    if said is None:
        check_structure(found, ["Al"])
    else:
        with pytest.raises(StructureError, match=said):
            check_structure(found, ["Al"])


@pytest.mark.parametrize("share, said", [("1.0", None), ("11.00000", None), ("0.5", "Al 0.5"), ("10.25", "Al 0.25")])
def test_a_res_file_with_partly_occupied_sites_is_refused(tmp_path, share, said):
    """ASE's reader drops the occupancy; SHELX adds 10 where it is not to be refined."""
    head = "TITL a\nCELL 1.0 4 4 4 90 90 90\nLATT -1\nSFAC Al\n"
    (tmp_path / "a.res").write_text(f"{head}Al 1 0 0 0 1.0\nAl 1 0.5 0.5 0 {share}\nEND\n")
    if said is None:
        assert len(read_structures(tmp_path / "a.res")[0]) == 2
    else:
        with pytest.raises(StructureError, match=f"site 2 is partly occupied: {said}; give"):
            read_structures(tmp_path / "a.res")


@pytest.mark.parametrize(
    "pbc, expected",
    [
        ("", [True] * 3),
        ('pbc="T T F"', [True, True, False]),
        ("pbc='F F F'", [False] * 3),
        ("pbc=T", [True] * 3),
        ("pbc=[1, 0, 1]", [True, False, True]),
        ('pbc = "T F T"', [True, False, True]),
    ],
)
def test_the_readers_of_extended_xyz_agree_on_what_is_periodic(tmp_path, pbc, expected):
    """Ours, for the endpoint, and ASE's, for files."""
    text = f'1\nLattice="4 0 0 0 4 0 0 0 4" {pbc} Properties=species:S:1:pos:R:3\nAl 0 0 0\n'
    (tmp_path / "a.xyz").write_text(text)
    assert read_extended_xyz(text).pbc.tolist() == expected
    assert read_structures(tmp_path / "a.xyz")[0].pbc.tolist() == expected


@pytest.mark.parametrize(
    "line, columns, said",
    [
        ('occupancy="_JSON {\\"0\\": {\\"Al\\": 0.5}}"', "", "site 1 is partly occupied: Al 0.5"),
        ("Properties=species:S:1:pos:R:3:occupancy:R:1", "0.25", "site 1 is partly occupied: Al 0.25"),
        ('pbc="T T T" pbc="F F F"', "", "the second line says pbc twice; leave one of them"),
        ('Lattice="9 0 0 0 9 0 0 0 9"', "", "the second line says Lattice twice"),
        ("charge=1", "", "a total charge of 1 e, and only neutral cells"),
        ("Properties=species:S:1:pos:R:3:initial_charges:R:1", "-2", "a total charge of -2 e"),
        ("Properties=species:S:1:pos:R:3:occupancy:R:3", "0.25 1 1", "site 1 is partly occupied: Al 0.25"),
        ('PBC="F F F"', "", "the second line says PBC, which extended XYZ spells pbc"),
        ('pbc="T T F"', "", "not periodic in three dimensions"),
    ],
)
def test_the_readers_of_extended_xyz_refuse_the_same_structures(tmp_path, line, columns, said):
    """What one of them takes in silence is another structure for the other."""
    text = f'1\nLattice="4 0 0 0 4 0 0 0 4" {line}\nAl 0 0 0 {columns}\n'
    (tmp_path / "a.xyz").write_text(text)
    for reader in (lambda: read_extended_xyz(text), lambda: read_structures(tmp_path / "a.xyz")[0]):
        with pytest.raises(StructureError, match=said):
            check_structure(reader(), ["Al"])


@pytest.mark.parametrize("field, values", [("R:1", "1.5"), ("R:3", "0 0 -1"), ("I:1", "2")])
def test_the_readers_of_extended_xyz_agree_on_magnetic_moments(tmp_path, field, values):
    columns = f"Properties=species:S:1:pos:R:3:initial_magmoms:{field}"
    text = f'1\nLattice="4 0 0 0 4 0 0 0 4" {columns}\nAl 0 0 0 {values}\n'
    (tmp_path / "a.xyz").write_text(text)
    for atoms in (read_extended_xyz(text), read_structures(tmp_path / "a.xyz")[0]):
        assert np.ravel(atoms.get_initial_magnetic_moments()).tolist() == [float(v) for v in values.split()]
        (said,) = left_out(atoms)
        assert said.startswith("the structure has magnetic moments, and the prediction none")


def test_a_cell_that_is_not_symmetric_is_the_same_for_both_readers_of_extended_xyz(tmp_path):
    text = '1\nLattice="4 0 0 1 4 0 2 0.5 4"\nAl 0 0 0\n'
    (tmp_path / "a.xyz").write_text(text)
    assert read_extended_xyz(text).cell.tolist() == [[4, 0, 0], [1, 4, 0], [2, 0.5, 4]]
    assert read_extended_xyz(text) == read_structures(tmp_path / "a.xyz")[0]


@pytest.mark.parametrize("line", ["x=" + "1 " * 60_000, f'x="_JSON {9000 * "["}"', "virial=7", "pbc=7"])
def test_a_second_line_that_no_reader_should_take_apart_is_refused(line):
    with pytest.raises(StructureError, match=r"second line|pbc of"):
        read_extended_xyz(f'1\nLattice="4 0 0 0 4 0 0 0 4" {line}\nAl 0 0 0\n')


def test_a_pbc_that_is_none_is_refused():
    with pytest.raises(StructureError, match='pbc of extended XYZ is as in pbc="T T T"'):
        read_extended_xyz('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="yes no"\nAl 0 0 0\n')


@pytest.mark.parametrize("name", ["a.xyz", "POSCAR", "a.cif"])
def test_structures_may_begin_with_a_byte_order_mark(tmp_path, name):
    ase.io.write(tmp_path / name, ALUMINIUM, format={"a.xyz": "extxyz"}.get(name))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert read_structures(tmp_path / name)[0].get_chemical_symbols() == ["Al"] * 4


def test_the_format_can_be_named(tmp_path):
    ase.io.write(tmp_path / "something.data", ALUMINIUM, format="extxyz")
    (found,) = read_structures(tmp_path / "something.data", format="extxyz")
    assert found == ALUMINIUM
    with pytest.raises(StructureError, match="ASE has no format 'extxzy'; did you mean 'extxyz'"):
        read_structures(tmp_path / "something.data", format="extxzy")
    with pytest.raises(StructureError, match="bundletrajectory is not read, for safety"):
        read_structures(tmp_path / "something.data", format="bundletrajectory")


def test_what_ase_makes_of_atoms_is_atoms():
    atoms = ALUMINIUM.copy()
    atoms.info["occupancy"] = {"0": {"Al": 0.5}}
    assert as_atoms(atoms) is atoms
    assert as_atoms(atoms.todict()) == atoms
    assert as_atoms(atoms.todict()).info == atoms.info


@pytest.mark.parametrize("other", [None, 3, [ALUMINIUM], "POSCAR", {"numbers": [13]}, {"positions": "x"}, {}])
def test_what_is_no_structure_is_refused(other):
    with pytest.raises(StructureError, match=r"a structure is a file|not what Atoms|has no atoms"):
        check_structure(as_atoms(other), ["Al"])


@pytest.mark.parametrize("n_atoms", ["99999999999999", "2"])
def test_an_xyz_that_says_more_atoms_than_it_has_is_refused_at_once(tmp_path, n_atoms):
    """ASE reads on behind the end of the file, once for each atom."""
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4"\nAl 0 0 0\n'
    (tmp_path / "a.xyz").write_text(frame + frame.replace("1", n_atoms, 1))
    with pytest.raises(StructureError, match=rf"a.xyz: its last frame says {n_atoms} atoms, but the file ends before"):
        read_structures(tmp_path / "a.xyz", ":")
    (tmp_path / "a.xyz").write_text(frame * 3)
    assert len(read_structures(tmp_path / "a.xyz", ":")) == 3


def test_what_ase_means_to_change_is_not_said(tmp_path, recwarn):
    rows = ["lattice_vector 4 0 0", "lattice_vector 0 4 0", "lattice_vector 0 0 4", "atom 0 0 0 Al"]
    (tmp_path / "geometry.in").write_text("\n".join(rows))
    (atoms,) = read_structures(tmp_path / "geometry.in")
    assert (len(atoms), list(recwarn)) == (1, [])
