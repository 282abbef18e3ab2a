"""The example of cells that change, by ASE's own potential where the physics is known, and by a surrogate."""

import importlib.util
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from dftune.tests.places import ROOT


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("elastic_constants", ROOT / "examples" / "elastic_constants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def crystal(example) -> Atoms:
    return example.relaxed(EMT(), guess=4.1)


def curvature(atoms, strain, step=2e-3):
    """d²E/dx² / V of the cell strained by x times ``strain`` [GPa]."""

    def energy(x):
        other = atoms.copy()
        other.set_cell(np.array(atoms.cell) @ (np.eye(3) + x * strain), scale_atoms=True)
        other.calc = atoms.calc
        return other.get_potential_energy()

    return (energy(step) - 2 * energy(0) + energy(-step)) / step**2 / atoms.get_volume() * 160.21766


def test_a_relaxed_cell_has_no_stress(crystal):
    assert np.abs(crystal.get_stress()).max() < 1e-4  # eV/Å³
    assert crystal.cell.lengths() == pytest.approx(3.995, abs=0.01)


def test_elastic_constants_are_the_curvatures_of_the_energy(example, crystal):
    found = example.elastic_constants(crystal)
    stretched, tetragonal, sheared = np.diag([1, 0, 0]), np.diag([1, -1, 0]), np.zeros((3, 3))
    sheared[1, 2] = sheared[2, 1] = 0.5
    assert found["C11"] == pytest.approx(curvature(crystal, stretched), rel=0.02)
    assert found["C11"] - found["C12"] == pytest.approx(curvature(crystal, tetragonal) / 2, rel=0.05)
    assert found["C44"] == pytest.approx(curvature(crystal, sheared), rel=0.02)


def test_dynamics_under_pressure_reach_it(example, crystal):
    length, pressure = example.under_pressure(crystal, steps=150, temperature=20, pressure=2.0)
    assert pressure == pytest.approx(2.0, abs=0.5)
    assert length < crystal.cell.lengths().mean()


def test_a_model_of_one_volume_is_refused(example, model, tmp_path, monkeypatch):
    model.save(tmp_path / "al.model")
    monkeypatch.setattr(sys, "argv", ["elastic_constants.py", str(tmp_path / "al.model")])
    with pytest.raises(SystemExit, match="was trained at one volume: it knows no stress"):
        example.main()
