"""A structure over the web is read as one of a file or of Python is, and refused in the same words."""

import json

import ase.build
import ase.io
import numpy as np
import pytest

from dftune.trainables.errors import InputError, Malformed
from dftune.trainables.json_body import JSON
from dftune.trainables.ldos.request import XYZ, parse
from dftune.trainables.structures import (
    StructureError,
    as_atoms,
    check_distances,
    check_structure,
    left_out,
    read_structures,
)

ALUMINIUM = ase.build.bulk("Al", cubic=True)


def by_json(atoms: ase.Atoms) -> ase.Atoms:
    """What the endpoint makes of ``Atoms.todict()``, its arrays as lists."""
    plain = json.dumps({"structure": atoms.todict()}, default=lambda array: array.tolist())
    return parse(plain.encode(), JSON, {})[0]


def test_what_ase_makes_of_atoms_is_a_body():
    atoms = ALUMINIUM.copy()
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_initial_magnetic_moments([1.0, 0, 0, 0])
    atoms.set_momenta(np.ones((4, 3)))
    found = by_json(atoms)
    assert (found.cell == atoms.cell).all()
    assert found.pbc.all()
    np.testing.assert_array_equal(found.positions, atoms.positions)
    np.testing.assert_array_equal(found.numbers, atoms.numbers)
    assert left_out(found) == left_out(as_atoms(atoms.todict())) != []


def check(atoms: ase.Atoms) -> None:
    check_structure(atoms, ["Al"])
    check_distances(atoms)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.set_pbc([True, True, False]),
        lambda a: a.set_pbc(False),
        lambda a: a.info.update(occupancy={"0": {"Al": 0.75, "Cu": 0.25}}),
        lambda a: a.positions.__setitem__((0, 0), 1e12),
        lambda a: a.set_cell(np.zeros((3, 3))),
        lambda a: a.set_cell(a.cell * 1e5),
        lambda a: a.__delitem__(slice(None)),
        lambda a: a.positions.__setitem__(0, a.positions[1]),
        lambda a: a.set_chemical_symbols("Cu4"),
        lambda a: a.info.update(charge=-1),
        lambda a: a.info.update(charge="much"),
        lambda a: a.set_initial_charges([0.5, 0, 0, 0.5]),
    ],
)
def test_files_python_and_the_endpoint_refuse_the_same_in_the_same_words(tmp_path, change):
    atoms = ALUMINIUM.copy()
    change(atoms)
    ase.io.write(tmp_path / "a.traj", atoms)
    said = []
    for structure in (read_structures(tmp_path / "a.traj")[0], as_atoms(atoms.todict()), by_json(atoms)):
        with pytest.raises(StructureError) as error:
            check(structure)
        said.append(str(error.value))
    assert len(set(said)) == 1


@pytest.mark.parametrize("charge, charges", [(0, [1, 0, 0, 0]), (None, [1, -1, 0.004, 0]), (0.0, None)])
def test_a_cell_that_is_neutral_as_a_whole_is_taken(charge, charges):
    atoms = ALUMINIUM.copy()
    atoms.info["charge"] = charge
    atoms.set_initial_charges(charges)
    check(by_json(atoms))
    said = [] if charges is None else ["the structure has charges of its atoms; the prediction does not depend on them"]
    assert left_out(by_json(atoms)) == said


def test_charges_and_moments_are_as_many_as_the_atoms():
    plain = {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"], "initial_charges": [1, -1]}
    with pytest.raises(InputError, match="1 atoms, but 2 initial_charges"):
        parse(json.dumps({"structure": plain}).encode(), JSON, {})


@pytest.mark.parametrize("pbc", ["F F F", "T T F"])
def test_an_extended_xyz_that_is_not_periodic_is_refused(pbc):
    text = f'1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="{pbc}"\nAl 0 0 0\n'
    with pytest.raises(StructureError, match="not periodic in three dimensions"):
        check_structure(parse(text.encode(), XYZ, {})[0], ["Al"])


def test_a_byte_order_mark_before_a_body_is_passed_over():
    body = {"structure": {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}}
    assert parse(json.dumps(body).encode("utf-8-sig"), JSON, {})[0].symbols == "Al"
    text = '1\nLattice="4 0 0 0 4 0 0 0 4"\nAl 0 0 0\n'
    assert parse(text.encode("utf-8-sig"), XYZ, {})[0].symbols == "Al"


def test_temperatures_stand_in_a_body_or_a_query():
    body = {"structure": {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}}
    asked = parse(json.dumps(body | {"temperatures": [300, 1000]}).encode(), JSON, {})[1]
    text = b'1\nLattice="4 0 0 0 4 0 0 0 4"\nAl 0 0 0\n'
    assert asked == parse(text, XYZ, {"temperatures": "300,1000"})[1]
    assert asked["temperatures"] == (300.0, 1000.0)
    for wrong in ("warm", ",".join(["300"] * 1001)):
        with pytest.raises(InputError, match="temperatures"):
            parse(text, XYZ, {"temperatures": wrong})


@pytest.mark.parametrize(
    "content, error",
    [
        (b"\xef\xbb\xbf", Malformed),
        (b"[" * 100_000, Malformed),
        (b'{"structure": {"pbc": "x"}}', InputError),
        (
            b'{"structure": {"cell": [[NaN,0,0],[0,4,0],[0,0,4]], "positions": [[0,0,0]], "symbols": ["Al"]}}',
            InputError,
        ),
        (
            b'{"structure": {"cell": [[1e999,0,0],[0,4,0],[0,0,4]], "positions": [[0,0,0]], "symbols": ["Al"]}}',
            InputError,
        ),
        (b'{"structure": []}', InputError),
        (b'{"structure": {"unknown": 1}}', InputError),
        (b"\xff\xfe{", Malformed),
    ],
)
def test_what_is_no_body_is_refused(content, error):
    with pytest.raises(error):
        parse(content, JSON, {})
