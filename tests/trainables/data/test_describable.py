from dataclasses import replace

import ase
import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.describable import check_settings
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError


@pytest.fixture
def alloy(al4):
    """Two snapshots of aluminium, with one atom called magnesium."""
    snapshots = [replace(s, numbers=np.array([13, 13, 13, 12])) for s in al4.snapshots[:2]]
    return Dataset(al4.path, al4.info.model_copy(update={"species": {"Al": 3.0, "Mg": 3.0}}), snapshots)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "descriptors cannot tell Al, Mg apart; give each a weight"),
        ({"weights": {"Al": 1}}, "descriptors for Al do not know Mg; name all species in weights"),
        ({"chem": ["Be", "Mg"]}, "descriptors for Be, Mg do not know Al; name all species in chem"),
    ],
)
def test_settings_must_know_every_species_of_a_dataset(alloy, settings, message):
    with pytest.raises(InputError, match=f"{alloy.path}: {message}"):
        check_settings(alloy, BispectrumSettings(**settings))


def test_settings_of_all_species_are_taken(al4, alloy):
    check_settings(alloy, BispectrumSettings(weights={"Al": 1, "Mg": 0.5}))
    check_settings(alloy, BispectrumSettings(chem=["Al", "Mg", "Be"]))
    check_settings(al4, BispectrumSettings())


def test_a_cutoff_below_the_nearest_neighbours_is_refused(al4):
    structures = [ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True) for s in al4.snapshots]
    distance = min(neighbor_list("d", atoms, 4.0).min() for atoms in structures)
    nearest = f"below the distance of the nearest atoms, {distance:.2f} Å, .*; choose a larger one"
    with pytest.raises(InputError, match=rf"a cutoff of 2 Å is {nearest}"):
        check_settings(al4, BispectrumSettings(cutoff=2.0))
    with pytest.raises(InputError, match=rf"a cutoff of 1.6 Å is {nearest}"):
        check_settings(al4, BispectrumSettings(cutoff=4.0, radii={"Al": 0.2}))
    check_settings(al4, BispectrumSettings(cutoff=2.0, radii={"Al": 1.0}))


def test_single_atoms_in_wide_cells_have_no_nearest_neighbour(al4):
    lonely = replace(al4.snapshots[0], cell=30 * np.eye(3), positions=np.ones((1, 3)), numbers=np.array([13]))
    check_settings(Dataset(al4.path, al4.info, [lonely]), BispectrumSettings(cutoff=2.0))
