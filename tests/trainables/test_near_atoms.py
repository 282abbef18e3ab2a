"""The search for atoms that are too close: right in any cell, and bounded in memory."""

import tracemalloc

import numpy as np
import pytest
from ase.neighborlist import primitive_neighbor_list

from dftune.trainables.near_atoms import closest

CELLS = {
    "cube": 4 * np.eye(3),
    "triclinic": np.array([[4.0, 0, 0], [1.5, 3.5, 0], [-1.2, 0.7, 3.8]]),
    "skewed": np.array([[3.0, 0, 0], [4.5, 3.0, 0], [2.3, -5.1, 3.0]]),
    "one atom thick": np.diag([1.05, 1.05, 30.0]),
    "shorter than the distance": np.diag([0.7, 5.0, 5.0]),
    "left-handed": np.diag([-4.0, 4.0, 4.0]),
}


@pytest.mark.parametrize("name", CELLS)
def test_the_smallest_distance_is_that_of_ase(name):
    cell, rng = CELLS[name], np.random.default_rng(7)
    for n_atoms in (1, 2, 4):
        for _ in range(4):
            positions = rng.uniform(-2, 3, (n_atoms, 3)) @ cell  # outside the cell, too
            expected = primitive_neighbor_list("d", [True] * 3, cell, positions, 1.0).min(initial=np.inf)
            found = closest(cell, positions, 1.0)
            if found is None:
                assert expected >= 1.0
            else:
                every = primitive_neighbor_list("d", [True] * 3, cell, positions, 1.0)
                assert np.abs(every - found).min() < 1e-9, (expected, found)


def test_many_atoms_take_little_memory():
    """ASE's search took 62 kB an atom here, and 300,763 of them a machine of 23 GB."""
    n = 25
    grid = 1.2 * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    tracemalloc.start()
    try:
        assert closest(1.2 * n * np.eye(3), grid, 1.0) is None
        grid[7, 2] += 0.3  # towards the next one
        assert closest(1.2 * n * np.eye(3), grid, 1.0) == pytest.approx(0.9)
        assert tracemalloc.get_traced_memory()[1] < 1000 * len(grid)
    finally:
        tracemalloc.stop()


def test_atoms_in_one_place_are_found_at_once():
    assert closest(900 * np.eye(3), np.zeros((20_000, 3)), 1.0) == 0
    crowd = np.random.default_rng(0).uniform(0, 0.4, (300, 3))
    found = closest(9 * np.eye(3), crowd, 1.0)
    distances = np.linalg.norm(crowd[:, None] - crowd, axis=-1)[np.triu_indices(300, 1)]
    assert np.abs(distances - found).min() < 1e-9, "that of two atoms which are there"
