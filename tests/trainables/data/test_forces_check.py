"""Forces against the free energies of snapshots near each other: aluminium by the effective medium theory."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from dftune.tests.exported import edit, refused
from dftune.trainables.data.forces_check import FARTHEST, MOST_FORCES_ERROR, check_forces
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.snapshot import Snapshot
from dftune.trainables.errors import DatasetError

RYDBERG_PER_BOHR = 25.711  # [eV/Å], CODATA
MISTAKES = {
    "sign": lambda forces: -forces,
    "unit": lambda forces: forces / RYDBERG_PER_BOHR,
    "axes": lambda forces: forces[:, ::-1],
    "order of atoms": lambda forces: np.roll(forces, 1, axis=0),
}


def snapshots(*, sigma: float = 0.1, n: int = 6) -> list[Snapshot]:
    found, rng = [], np.random.default_rng(1)
    for i in range(n):
        atoms = bulk("Al", cubic=True)
        atoms.positions += rng.normal(scale=sigma, size=(4, 3))
        atoms.wrap()  # so that atoms jump by a lattice vector from one snapshot to the next
        atoms.calc = EMT()
        one = Snapshot(
            id=str(i),
            split="train",
            cell=atoms.cell.array,
            positions=atoms.positions.copy(),
            numbers=atoms.numbers,
            grid=(1, 1, 1),
            temperature=900.0,
            n_electrons=12.0,
            total_energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
        )
        found.append(one)
    return found


def test_right_forces_do_the_work_that_the_energies_say():
    near, far = (check_forces(snapshots(sigma=sigma)) for sigma in (0.02, 0.1))
    assert max(near) < 0.03  # the trapezoidal rule is off by the third power of the way
    assert max(near) < max(far) < 0.5 * MOST_FORCES_ERROR


@pytest.mark.parametrize("mistake", MISTAKES)
def test_forces_that_are_not_those_of_the_energies_are_refused(mistake):
    wrong = [replace(s, forces=MISTAKES[mistake](s.forces)) for s in snapshots()]
    with pytest.raises(
        DatasetError, match=r"^\d: its forces do not fit the total energies \([3-6] snapshots have such"
    ):
        check_forces(wrong)


def test_one_snapshot_with_wrong_forces_is_named():
    given, said = snapshots(), []
    given[2] = replace(given[2], forces=-given[2].forces)
    found = check_forces(given, [f"{s.id}.json" for s in given], fail=said.append)
    (problem,) = said
    assert problem.startswith("2.json: its forces do not fit")
    assert found[2] == max(found) > MOST_FORCES_ERROR


def test_what_cannot_be_compared_is_none():
    one, two, *_ = snapshots()
    assert check_forces([one]) == [None]
    assert check_forces([one, replace(two, forces=None)]) == [None, None]
    assert check_forces([one, replace(two, temperature=1800.0)]) == [None, None]
    assert check_forces([one, replace(two, cell=1.01 * two.cell)]) == [None, None]
    moved = two.positions + FARTHEST * np.eye(4, 1) * np.eye(1, 3) * 2
    assert check_forces([one, replace(two, positions=moved)]) == [None, None]
    # Two mirror images have one energy, so their forces fit it with either sign.
    mirrored = replace(one, positions=-one.positions, forces=-one.forces)
    assert check_forces([one, mirrored]) == [None, None]


def test_an_import_and_a_check_say_how_far_forces_are_off(raw, tmp_path):
    lines = []
    data = import_dataset([raw], tmp_path / "data", report=lines.append)
    again = [report.forces_error for report in data.check()]
    (checked,) = (line for line in lines if line.startswith("checked: forces"))
    assert checked in data.checked_lines()
    assert checked.endswith(f"at most {max(again):.3g} of their work off")


def test_an_import_refuses_forces_of_the_other_sign(raw, tmp_path):
    for file in raw.glob("*.json"):
        record = json.loads(file.read_text())
        edit(file, key="forces_ev_per_angstrom", value=(-np.array(record["forces_ev_per_angstrom"])).tolist())
    assert "its forces do not fit the total energies" in refused([raw], tmp_path / "data")
