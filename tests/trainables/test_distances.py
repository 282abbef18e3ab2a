"""Distances in periodic cells, beside those of ASE."""

import ase.build
import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from dftune.trainables.near_atoms import distances

SLANTED = ase.Atoms("Al2", [[0, 0, 0], [25, 3, 1]], cell=[[5, 0, 0], [12, 3, 0], [7, 1, 4]], pbc=True)


@pytest.mark.parametrize(
    "atoms", [ase.build.bulk("Al"), ase.build.bulk("Mg").repeat((1, 2, 1)), SLANTED], ids=["one", "four", "slanted"]
)
def test_distances_are_those_of_ase_wherever_the_cell_begins(atoms):
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=1)
    atoms.positions += [9.3, -40.0, 0.7]
    expected = np.sort(neighbor_list("d", atoms, 6.0))
    assert len(expected) > 50
    np.testing.assert_allclose(np.sort(distances(atoms.cell.array, atoms.positions, 6.0)), expected, rtol=1e-12)
