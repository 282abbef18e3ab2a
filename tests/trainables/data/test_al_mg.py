"""The bundled cells of two species are those that examples/al_mg.py describes, and the product's defaults fit them."""

import importlib.util
import sys

import numpy as np
import pytest

from dftune.tests.places import ROOT, unpack
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.generating.spec import GenerateSpec
from dftune.trainables.data.generating.structures import plan_structures
from dftune.trainables.kinds import KINDS


@pytest.fixture(scope="module")
def al_mg(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("bundled")
    unpack(ROOT / "examples" / "al_mg.tar.xz", folder)
    return Dataset.open(str(folder / "al_mg"))


def test_the_bundled_cells_are_those_of_their_script(al_mg, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("al_mg", ROOT / "examples" / "al_mg.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["al_mg.py", str(tmp_path)])
    script.main()
    planned = {one.id: one for one in plan_structures(GenerateSpec.read(tmp_path / "al_mg.toml"))}
    assert len(planned) == 31
    assert len(plan_structures(GenerateSpec.read(tmp_path / "orders.toml"))) == 8
    assert len(al_mg.snapshots) == 8
    for s in al_mg.snapshots:
        one = planned[s.id]
        np.testing.assert_array_equal(one.atoms.numbers, s.numbers)
        np.testing.assert_allclose(one.atoms.positions, s.positions, atol=1e-7)
        assert (one.split, one.group) == (s.split, s.group)


def test_their_energies_are_those_of_their_ldos(al_mg):
    """0.05 meV/atom at most, and 0.19 of all 39 snapshots, with energies 0.4 eV apart."""
    assert al_mg.info.species == {"Al": 3.0, "Mg": 2.0}
    assert list(al_mg.info.dft.core_charges) == ["Mg"]
    reports = list(al_mg.check())
    assert max(abs(one.total_error) for one in reports) < 0.2


def test_five_compositions_of_five_volumes_are_learnt_relative_to_the_fermi_level(al_mg):
    assert len({s.numbers.sum() for s in al_mg.split("train")}) == 5
    assert KINDS["ldos"].suited(al_mg, {}, ())["energies"][0] == "fermi"
