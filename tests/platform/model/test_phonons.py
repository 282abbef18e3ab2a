"""The example of phonons: Phonopy's frequencies are those of ASE's own phonons, with a potential that both ask."""

import importlib.util

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.phonons import Phonons
from ase.units import _e, _hplanck

from dftune.tests.places import ROOT


def test_the_example_has_the_phonons_of_ase(tmp_path):
    spec = importlib.util.spec_from_file_location("phonons", ROOT / "examples" / "phonons.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found = example.phonons(EMT(), bulk("Al", cubic=True, a=3.994), cells=2)
    other = Phonons(bulk("Al", a=3.994), EMT(), supercell=(4, 4, 4), delta=0.05, name=str(tmp_path / "forces"))
    other.run()
    other.read(acoustic=True)
    for point in ("X", "L"):
        q = example.POINTS[point]
        energies = other.band_structure([q])[0]  # eV
        assert found.run_qpoints([q]).frequencies[0] == pytest.approx(energies * _e / _hplanck / 1e12, rel=1e-5)
    assert np.abs(found.run_qpoints([example.POINTS["Γ"]]).frequencies).max() < 1e-5
    found.save(tmp_path / "phonopy_params.yaml", settings={"force_sets": True})
    assert "forces" in (tmp_path / "phonopy_params.yaml").read_text()
