from types import SimpleNamespace

import ase
import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from ase.constraints import FixAtoms

from dftune.trainables.ldos.files import write_density


@pytest.mark.parametrize("grid", [(3, 4, 5), (3, 4, 7), (2, 1, 2)])
def test_ase_reads_a_chgcar_of_any_grid_and_cell(tmp_path, grid):
    density = np.random.default_rng(0).random(grid)
    atoms = ase.Atoms("AlMgAl", np.diag([1.0, 2.0, 3.0]), cell=[[4, 0, 1], [1, 5, 0], [0, 2, 6]], pbc=True)
    atoms.set_constraint(FixAtoms([0]))
    write_density(tmp_path / "a.CHGCAR", SimpleNamespace(density=density), atoms)
    found = VaspChargeDensity(str(tmp_path / "a.CHGCAR"))
    np.testing.assert_allclose(found.chg[0], density, rtol=1e-9)
    np.testing.assert_allclose(found.atoms[0].positions, atoms.positions, atol=1e-9)
    assert found.atoms[0].get_chemical_symbols() == ["Al", "Mg", "Al"]
    lines = (tmp_path / "a.CHGCAR").read_text().split("\n\n")[1].splitlines()
    assert lines[0].split() == list(map(str, grid))
    assert sum(len(line.split()) for line in lines[1:]) == density.size
    assert max(len(line.split()) for line in lines[1:]) <= 5
