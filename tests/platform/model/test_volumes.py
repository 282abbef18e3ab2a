"""The bundled cells of several volumes: a surrogate of them has Quantum ESPRESSO's equation of state."""

import importlib.util
import json

import numpy as np
import pytest
from ase.eos import EquationOfState
from ase.units import GPa

import dftune
from dftune import BispectrumSettings, Model
from dftune.tests.places import DATA, ROOT, unpack
from dftune.trainables.data.composing.merge import merge
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.training_data import read_training_data

SETTINGS = BispectrumSettings(cutoff=3.0, two_j_max=8)
CONFIG = SurrogateConfig.of({"training": "none", "width": 256, "penalty": 1.0, "energies": "fermi"})


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("volumes")
    unpack(ROOT / "examples" / "al_volumes.tar.xz", folder)
    return Dataset.open(str(folder / "al_volumes"))


def test_the_bundled_cells_are_those_that_quantum_espresso_printed(volumes):
    known = {row["name"]: row for row in json.loads((DATA / "al_volumes.json").read_text())}
    assert len(volumes.snapshots) == 16
    for s in volumes.snapshots:
        row = known[s.id]
        assert s.total_energy == pytest.approx(row["total_energy_ev"], abs=1e-6)
        assert s.fermi_level == pytest.approx(row["fermi_level_ev"], abs=1e-3)
        np.testing.assert_allclose(s.cell, row["cell"], atol=1e-8)
        np.testing.assert_allclose(s.positions, row["positions"], atol=1e-8)


@pytest.mark.slow
def test_a_surrogate_has_the_equation_of_state_of_the_dft(al4, volumes, tmp_path):
    both = merge([al4, volumes], tmp_path / "both")
    for s in both.snapshots:
        both.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    data = read_training_data(both, SETTINGS).relative_to_fermi_levels()
    trained = fit(CONFIG, data, seeds=[1])
    judged = judge(
        trained.network, data.scaling, data.energy_grid, data.validation, ingredients=data.ingredients
    ).accuracy
    card = card_for("by hand", CONFIG, [1], both, SETTINGS, judged)
    Model.assemble(card, trained.network.arrays() | data.scaling.tensors()).save(tmp_path / "both.model")

    spec = importlib.util.spec_from_file_location("elastic_constants", ROOT / "examples" / "elastic_constants.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    calculator = dftune.Calculator(tmp_path / "both.model")
    rows = json.loads((DATA / "al_volumes.json").read_text())
    known = {row["name"]: (np.linalg.det(row["cell"]), row["total_energy_ev"]) for row in rows}
    v, e = np.transpose([known[name] for name in known if name.startswith("volume")])
    volume, _, modulus = EquationOfState(v, e, eos="birchmurnaghan").fit()
    length, found = example.equation_of_state(calculator, np.sort(v)[::-1])
    assert length == pytest.approx(np.cbrt(volume), rel=0.003)
    assert found == pytest.approx(modulus / GPa, rel=0.05)

    atoms = example.relaxed(calculator, guess=length)
    assert atoms.cell.lengths().mean() == pytest.approx(length, rel=0.003)
    constants = example.elastic_constants(atoms)
    assert (constants["C11"] + 2 * constants["C12"]) / 3 == pytest.approx(modulus / GPa, rel=0.1)
    assert constants["C11"] > constants["C12"] > constants["C44"] > 0
    length, pressure = example.under_pressure(atoms, steps=10, temperature=100, pressure=2.0)
    assert abs(pressure) < 10  # GPa
    assert length == pytest.approx(atoms.cell.lengths().mean(), rel=0.01)
