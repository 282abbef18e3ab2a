"""The symmetry of a lattice, its shells, and atoms on it."""

import math

import ase.build
import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from dftune.trainables.alloys.lattice import Lattice, orbit_key
from dftune.trainables.cells import StructureError

FCC = ase.build.bulk("Cu", "fcc", a=3.84, cubic=True).repeat((2, 2, 2))
BCC = ase.build.bulk("Fe", "bcc", a=3.05, cubic=True).repeat((2, 2, 4))


HCP = ase.build.bulk("Co", "hcp").repeat(2)  # of 16 sites
CUBE = ase.build.bulk("Cu", "fcc").repeat(4)  # of 64


@pytest.mark.parametrize("atoms, count", [(FCC, 1536), (BCC, 512), (FCC[:1], 1), (HCP, 8 * 24), (CUBE, 64 * 48)])
def test_the_symmetry_of_the_papers_cells(atoms, count):
    if len(atoms) == 1:
        atoms.cell = np.diag([3.0, 4.0, 5.0])
    found = Lattice.of(atoms).permutations
    assert found.shape == (count, len(atoms))
    assert (found[0] == np.arange(len(atoms))).all()


@pytest.mark.parametrize("atoms", [FCC, BCC])
def test_it_is_a_group_that_keeps_all_distances(atoms):
    lattice = Lattice.of(atoms)
    rows = lattice.permutations
    known = {row.tobytes() for row in rows}
    rng = np.random.default_rng(0)
    for a, b in rng.integers(len(rows), size=(50, 2)):
        assert rows[a][rows[b]].tobytes() in known
        assert np.argsort(rows[a]).tobytes() in known
    distances = atoms.get_all_distances(mic=True)
    for row in rows[rng.integers(len(rows), size=20)]:
        assert distances[np.ix_(row, row)] == pytest.approx(distances)


@pytest.mark.parametrize("atoms, sizes", [(FCC, (12, 6, 24, 12)), (BCC, (8, 6, 12, 24))])
def test_the_shells_have_the_sizes_of_fcc_and_bcc(atoms, sizes):
    radii, shells = Lattice.of(atoms).shells(4)
    assert tuple(s.shape[1] for s in shells) == sizes
    i, j = neighbor_list("ij", atoms, radii[0] + 0.01)
    for site in (0, 17):
        assert sorted(shells[0][site]) == sorted(j[i == site])


@pytest.mark.parametrize("atoms", [ase.build.bulk("Cu", "fcc", a=3.84), ase.build.bulk("Fe", "bcc", a=3.05), BCC[:2]])
def test_the_shells_of_a_small_or_skew_cell_hold_all_images(atoms):
    if len(atoms) == 2:
        atoms.set_cell(np.diag([3.05, 3.05, 3.05]))
    radii, shells = Lattice.of(atoms).shells(5)
    for radius, shell in zip(radii, shells, strict=True):
        i, j, d = neighbor_list("ijd", atoms, radius + 0.01)
        for site in range(len(atoms)):
            assert sorted(shell[site]) == sorted(j[(i == site) & (d > radius - 0.01)])


def test_a_repeated_lattice_has_the_same_shells_copy_by_copy():
    small = Lattice.of(FCC)
    large = small.repeated((1, 1, 2))
    assert large.positions[32:] == pytest.approx(small.positions + FCC.cell[2])
    (_, near), (_, wide) = small.shells(2), large.shells(2)
    for shell, wider in zip(near, wide, strict=True):
        assert (np.sort(wider[40] % 32) == np.sort(shell[8])).all()


def test_atoms_are_found_on_their_sites():
    lattice, rng = Lattice.of(FCC), np.random.default_rng(1)
    order = rng.permutation(32)
    moved = FCC[order]
    moved.positions += rng.normal(scale=0.05, size=(32, 3)) + moved.cell[0]
    assert (lattice.sites_of(moved) == order).all()
    assert Lattice.of(lattice.atoms(["Cu"] * 32)) == lattice


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda atoms: atoms[:31], "31 atoms, and the lattice has 32 sites"),
        (lambda atoms: atoms.positions.__setitem__((3, 0), 0.9), r"atom 3 \(Cu\) is 1.02 Å from the next site"),
        (lambda atoms: atoms.positions.__setitem__(3, atoms.positions[5]), "two atoms are on site 5"),
        (lambda atoms: atoms.set_cell(1.1 * np.array(atoms.cell), scale_atoms=True), "its cell is not the one of"),
    ],
)
def test_atoms_of_another_lattice_are_refused(change, text):
    atoms = FCC.copy()
    changed = change(atoms)
    with pytest.raises(StructureError, match=text):
        Lattice.of(FCC).sites_of(atoms if changed is None else changed)


def test_all_images_of_a_configuration_have_one_key_and_others_have_others():
    lattice, rng = Lattice.of(FCC), np.random.default_rng(2)
    rows = lattice.permutations
    species = rng.integers(2, size=32).astype(np.uint8)
    key = orbit_key(species, rows)
    assert {orbit_key(species[row], rows) for row in rows[rng.integers(len(rows), size=10)]} == {key}
    two = [orbit_key(np.isin(np.arange(32), (0, site)).astype(np.uint8), rows) for site in range(1, 32)]
    shells = math.comb(32, 2)
    assert len(set(two)) == 5, f"pairs of {shells}: at 5 distances in this cell"


@pytest.mark.parametrize(
    "sites, text", [(((0, 0, 0), (1, 0, 0)), "same place"), (((0, 0, 0), (np.nan, 0, 0)), "finite")]
)
def test_what_is_no_lattice_is_refused(sites, text):
    with pytest.raises(ValueError, match=text):
        Lattice(cell=((3, 0, 0), (0, 3, 0), (0, 0, 3)), sites=sites)
