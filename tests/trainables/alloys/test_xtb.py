"""GFN1-xTB as a forward code: units, symmetry, a dataset, and what goes wrong."""

import numpy as np
import pytest
from ase.build import bulk

from dftune.trainables.alloys import xtb as module
from dftune.trainables.alloys.generation import AlloyGeneration, AlloySpec
from dftune.trainables.alloys.lattice import Lattice
from dftune.trainables.alloys.xtb import XtbSettings, xtb
from dftune.trainables.errors import InputError
from dftune.trainables.progress import Silent

ase_calculator = pytest.importorskip("tblite.ase")
FCC = Lattice.of(bulk("Cu", "fcc", 3.75, cubic=True))
SPEC = """
kind = "alloys"
symbols = ["Cu", "Au"]
lattice = "sites.xyz"
[configurations]
random = 1
[xtb]
temperature = 1000
"""


def test_energy_and_charges_are_those_of_tblites_own_calculator():
    symbols, settings = ["Au", "Cu", "Cu", "Cu"], XtbSettings(accuracy=1.0, temperature=1000)
    energy, charge = xtb(FCC, symbols, settings)
    atoms = FCC.atoms(symbols)
    atoms.calc = ase_calculator.TBLite(method="GFN1-xTB", electronic_temperature=1000.0, verbosity=0)
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=2e-8)  # ASE has other constants
    np.testing.assert_allclose(charge, atoms.numbers - atoms.get_charges(), atol=1e-6)
    assert charge.sum() == pytest.approx(atoms.numbers.sum(), abs=1e-8)


def test_an_image_has_the_energy_and_the_permuted_charges():
    settings = XtbSettings(temperature=1000)
    energy, charge = xtb(FCC, ["Au", "Cu", "Cu", "Cu"], settings)
    other, moved = xtb(FCC, ["Cu", "Cu", "Au", "Cu"], settings)
    assert other == pytest.approx(energy, abs=1e-5)
    np.testing.assert_allclose(moved[[2, 1, 0, 3]], charge, atol=1e-4)


def in_turn(work, tasks):
    for number in range(len(tasks)):
        yield number, work(tasks[number])


def test_configurations_become_a_dataset(tmp_path):
    FCC.atoms(["Cu"] * 4).write(tmp_path / "sites.xyz", format="extxyz")
    (tmp_path / "x.toml").write_text(SPEC)
    generation = AlloyGeneration(AlloySpec.read(tmp_path / "x.toml"))
    generation.refuse_missing()
    (made,) = generation.run(tmp_path / "x", in_turn, without_failed=False, progress=Silent())
    assert (made.info.code, len(made.all), made.info.settings["temperature"]) == ("gfn1-xtb", 3, 1000)
    energy, _ = xtb(FCC, ["Au"] * 4, XtbSettings(temperature=1000))
    assert made.info.pure_energies[1] == pytest.approx(energy / 4, abs=1e-6)
    assert not made.all.moment.any()
    assert len(list(made.check())) == 3
    next((tmp_path / "x.runs").glob("*/xtb.json")).write_text("{}")
    made.path.rename(tmp_path / "old")
    with pytest.raises(InputError, match=r"xtb\.json: damaged \('symbols'\); remove "):
        generation.run(tmp_path / "x", in_turn, without_failed=False, progress=Silent())


def test_what_goes_wrong_is_said(monkeypatch):
    with pytest.raises(InputError, match=r"^GFN1-xTB: .*; raise \[xtb\] iterations or temperature$"):
        xtb(FCC, ["Au", "Cu", "Cu", "Cu"], XtbSettings(iterations=1))
    with pytest.raises(InputError, match="GFN1-xTB has no parameters of U"):
        module.Xtb(XtbSettings(), ("Cu", "U"))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tblite is not installed on .*; pip install 'dftune\[xtb\]'"):
        module.refuse_missing()


@pytest.mark.parametrize("codes", ["", "[xtb]\n[lsms]\nzone = 3\npotentials = {Cu = 'v'}\n"])
def test_one_code_is_given(tmp_path, codes):
    text = SPEC.split("[xtb]")[0] + codes
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(InputError, match=r"give one code, \[lsms\] or \[xtb\]"):
        AlloySpec.read(tmp_path / "x.toml")
