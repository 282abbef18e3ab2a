"""Structures in texts from whoever sends them: the same atoms in each format, and bounded work."""

import io
import json
import time

import ase
import ase.build
import ase.io
import ase.io.jsonio
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from dftune.trainables.cells import StructureError
from dftune.trainables.errors import InputError, TooLarge
from dftune.trainables.json_body import JSON, one_each
from dftune.trainables.ldos.request import CIF, POSCAR, XYZ, parse
from dftune.trainables.structure_texts import read_cif_text, read_poscar_text, xyz_frames
from dftune.trainables.structures import check_structure


@pytest.fixture(scope="module")
def atoms():
    cell = [[4, 0, 0], [0.3, 4.2, 0], [0, 1, 5]]
    return ase.Atoms("AlBeAl", [[0, 0, 0], [2.1, 0.2, 2.0], [0.1, 2.2, 1.9]], cell=cell, pbc=True)


def written(atoms, form) -> bytes:
    sink = io.BytesIO() if form == "cif" else io.StringIO()
    ase.io.write(sink, atoms, format=form)
    return sink.getvalue() if form == "cif" else sink.getvalue().encode()


def computed(atoms) -> ase.Atoms:
    """The same with results, which a file then holds as well."""
    found = atoms.copy()
    found.calc = SinglePointCalculator(found, energy=-1.0, forces=np.zeros((len(atoms), 3)))
    return found


def as_pymatgen(atoms) -> dict:
    """What pymatgen 2025.10's `Structure.as_dict()` holds."""
    sites = [
        {"species": [{"element": s, "occu": 1}], "abc": list(abc), "xyz": list(xyz), "label": s, "properties": {}}
        for s, abc, xyz in zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions(), atoms.positions)
    ]
    lattice = {"matrix": atoms.cell.tolist(), "pbc": [True] * 3, "a": 4.0, "b": 4.2, "c": 5.1, "volume": 84.0}
    about = {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0, "properties": {}}
    return about | {"lattice": lattice, "sites": sites}


@pytest.mark.parametrize("way", ["cif", "vasp", "extxyz", "todict", "jsonio", "atoms", "file", "pymatgen"])
def test_every_way_to_write_a_structure_gives_its_atoms(atoms, way):
    lists = {name: np.asarray(value).tolist() for name, value in atoms.todict().items()}
    bodies = {
        "cif": (CIF, lambda: written(atoms, "cif")),
        "vasp": (POSCAR, lambda: written(atoms, "vasp")),
        "extxyz": (XYZ, lambda: written(atoms, "extxyz")),
        "todict": (JSON, lambda: json.dumps({"structure": lists}).encode()),
        "jsonio": (JSON, lambda: ase.io.jsonio.encode({"structure": atoms.todict()}).encode()),
        "atoms": (JSON, lambda: ase.io.jsonio.encode({"structure": atoms}).encode()),
        "file": (JSON, lambda: b'{"structure": %s}' % written(computed(atoms), "json")),
        "pymatgen": (JSON, lambda: json.dumps({"structure": as_pymatgen(atoms)}).encode()),
    }
    kind, content = bodies[way]
    found, _ = parse(content(), kind, {})
    assert found.get_chemical_formula() == "Al2Be"
    assert found.pbc.all()
    order = np.argsort(found.numbers, kind="stable"), np.argsort(atoms.numbers, kind="stable")
    ours, theirs = found[order[0]].get_all_distances(mic=True), atoms[order[1]].get_all_distances(mic=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(found.cell.cellpar(), atoms.cell.cellpar(), atol=1e-6)


def test_a_file_of_ase_with_several_structures_is_a_batch(atoms, tmp_path):
    ase.io.write(tmp_path / "two.json", [atoms, atoms.repeat((2, 1, 1))])
    file = json.loads((tmp_path / "two.json").read_text())
    first, second = one_each(json.dumps({"structures": file, "forces": "mean"}).encode())
    assert [len(parse(one, JSON, {})[0]) for one in (first, second)] == [3, 6]
    assert parse(second, JSON, {})[1]["forces"] == "mean"
    with pytest.raises(InputError, match="a file of 2 structures; give it as structures"):
        parse(json.dumps({"structure": file}).encode(), JSON, {})
    for broken in ({"ids": [1], "nextid": 2}, {"ids": [1], "nextid": 2, "1": [3]}, {"ids": [], "nextid": 1}):
        with pytest.raises(InputError):
            parse(json.dumps({"structure": broken}).encode(), JSON, {})


def test_charge_and_moments_of_pymatgens_structures_are_read(atoms):
    structure = as_pymatgen(atoms)
    structure["sites"][0]["properties"]["magmom"] = 2.0
    structure["sites"][1]["properties"]["magmom"] = {"@class": "Magmom", "moment": -1.0}
    found, _ = parse(json.dumps({"structure": structure}).encode(), JSON, {})
    assert found.get_initial_magnetic_moments().tolist() == [2.0, -1.0, 0.0]
    check_structure(found, {"Al", "Be"})
    found, _ = parse(json.dumps({"structure": structure | {"charge": 1}}).encode(), JSON, {})
    with pytest.raises(InputError, match="a total charge of 1 e"):
        check_structure(found, {"Al", "Be"})


def test_the_symmetry_of_a_cif_makes_all_its_atoms():
    text = """data_al
_cell_length_a 4.05
_cell_length_b 4.05
_cell_length_c 4.05
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Al1 0 0 0 {share}
"""
    found = read_cif_text(text.format(share=1))
    assert (len(found), found.pbc.all()) == (4, True)
    np.testing.assert_allclose(found.get_distance(0, 1, mic=True), 4.05 / np.sqrt(2))
    partly = read_cif_text(text.format(share=0.5))
    with pytest.raises(InputError, match="partly occupied"):
        check_structure(partly, {"Al"})
    many = text.format(share=1) + "".join(f"Al{n} 0.{n} 0.1 0.2 1\n" for n in range(2, 9))
    with pytest.raises(TooLarge, match="8 sites with 1,536 images, more than 1,000"):
        read_cif_text(many)


def test_a_partly_occupied_site_of_a_cif_without_symmetry_is_seen(atoms):
    text = written(atoms, "cif").decode()
    check_structure(read_cif_text(text), {"Al", "Be"})
    partly = read_cif_text(text.replace(*occupancy(text)))
    with pytest.raises(InputError, match=r"site 2 is partly occupied: Be 0\.5"):
        check_structure(partly, {"Al", "Be"})


def occupancy(text: str) -> tuple[str, str]:
    """The line of the second site, and the same with half of an atom."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["Be"]]
    words = line.split()
    assert words[-1] == "1.0000"
    return line, line.replace(words[-1], "0.5000")


@pytest.mark.parametrize(
    "kind, text, said",
    [
        (CIF, "", "a CIF of 0 structures"),
        (CIF, "data_a\n_cell_length_a x\n", "a CIF of 0 structures"),
        (CIF, "data_a\nloop_\n_atom_site_label\n_atom_site_fract_x\nAl", "CIF"),
        (CIF, "\x00", "not a CIF that ASE can read"),
        (POSCAR, "", "symbols on its sixth line"),
        (
            POSCAR,
            "a\n1\n4 0 0\n0 4 0\n0 0 4\nAl\n999999999\nDirect\n0 0 0\n",
            "says 999,999,999 atoms, and has 9 lines",
        ),
        (POSCAR, "a\n1\n4 0 0\n0 4 0\n0 0 4\n1\nDirect\n0 0 0\n", "symbols on its sixth line"),
        (POSCAR, "a\n1\n4 0 0\n0 4 0\n0 0 4\nQq\n1\nDirect\n0 0 0\n", "not a POSCAR that ASE can read"),
        (POSCAR, "a\n1\n4 0 0\n0 4 0\n0 0 4\nAl\n1\nDirect\n0 0\n", "not a POSCAR that ASE can read"),
        (POSCAR, "a\n1\n4 0 0\n0 4 0\n0 0 x\nAl\n1\nDirect\n0 0 0\n", "not a POSCAR that ASE can read"),
    ],
)
def test_a_text_that_is_none_is_refused_in_one_line(kind, text, said):
    with pytest.raises(StructureError, match=said) as error:
        parse(text.encode(), kind, {})
    assert "\n" not in str(error.value)


def test_a_cif_takes_no_longer_than_its_text(atoms):
    large = ase.build.bulk("Al", cubic=True).repeat(9)
    large.rattle(0.05, seed=1)
    text = written(large, "cif").decode()
    started = time.process_time()
    assert len(read_cif_text(text)) == 2916
    assert time.process_time() - started < 3, "pair by pair it takes 40 s"
    with pytest.raises(TooLarge, match="characters, more than 2,000,000"):
        read_cif_text(" " * 2_000_001)


@pytest.mark.parametrize(
    "site, said",
    [
        ({"species": [{"element": "Al", "occu": 0.5}]}, "site 2 is partly occupied: Al 0.5"),
        ({"species": [{"element": "Al", "occu": 0.5}, {"element": "Be", "occu": 0.5}]}, "Al 0.5, Be 0.5"),
        ({"species": []}, "site 2 is partly occupied: nothing"),
        ({"species": "Al"}, "not what pymatgen's as_dict"),
        ({}, "not what pymatgen's as_dict"),
    ],
)
def test_sites_of_pymatgen_are_whole_atoms(atoms, site, said):
    structure = as_pymatgen(atoms)
    structure["sites"][1] = site if not site else structure["sites"][1] | site
    with pytest.raises(InputError, match=said):
        parse(json.dumps({"structure": structure}).encode(), JSON, {})


@pytest.mark.parametrize(
    "array", [[[3], "float64", [1, 2]], [], "x", [["a"], "int64", [1]], [[2, 2], "o", [{}, 1, 2, 3]]]
)
def test_an_array_of_ase_that_is_none_is_refused(atoms, array):
    body = {"structure": {"cell": np.eye(3).tolist(), "numbers": [13], "positions": {"__ndarray__": array}}}
    with pytest.raises(InputError, match="structure"):
        parse(json.dumps(body).encode(), JSON, {})


def test_frames_of_an_extended_xyz_are_told_apart_by_their_counts():
    frame = b'2\nLattice="4 0 0 0 4 0 0 0 4"\nAl 0 0 0\nAl 2 2 0\n'
    assert xyz_frames(frame) is None
    assert xyz_frames(frame * 3 + b"\n \n") == [frame] * 3
    assert xyz_frames(frame + b"x\n") is None, "left to the reader, which says what is wrong"
    with pytest.raises(TooLarge, match="1,001 of them"):
        xyz_frames(frame * 1001)


def test_poscars_of_both_coordinates_and_a_scale_are_read():
    text = "al\n2.0\n2 0 0\n0 2 0\n0 0 2\nAl Be\n1 1\n{way}\n0 0 0\n{x} 0.5 0.5\n"
    direct = read_poscar_text(text.format(way="Direct", x=0.5))
    cartesian = read_poscar_text(text.format(way="Cartesian", x=0.5))
    assert direct.get_chemical_symbols() == ["Al", "Be"]
    np.testing.assert_allclose(direct.positions[1], [2, 2, 2])
    np.testing.assert_allclose(cartesian.positions[1], [1, 1, 1])
