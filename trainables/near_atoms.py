"""Distances between the atoms of a periodic cell, and whether any are too close to each other.  Å."""

import itertools

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from scipy.spatial import cKDTree


def closest(cell: NDArray[np.float64], positions: NDArray[np.float64], within: float) -> float | None:
    """The smallest distance between two atoms, images of one among them, if it is below ``within``.

    Memory and time grow with the number of atoms, however many of them lie in one place.

    Args:
        cell: lattice vectors as rows, (3, 3), with a volume [Å].
        positions: (n_atoms, 3) [Å].
        within: the distance that is too small [Å].

    Returns:
        The distance [Å]; where two are within ``within`` / 2 along each axis, that of some such pair.
    """
    # Of a reduced cell the first vector is the shortest distance of an atom to its own image, and the planes are at
    # least half as far apart as that.
    reduced, _ = minkowski_reduce(cell)
    shortest = float(np.linalg.norm(reduced, axis=1).min())
    if shortest < within:
        return shortest
    fractions = positions @ np.linalg.inv(reduced)
    fractions -= np.floor(fractions)
    # Atoms in one small box are found first: a tree of very many in one place would be slow.
    places = fractions @ reduced
    _, first, box = np.unique(np.floor(2 * places / within), axis=0, return_index=True, return_inverse=True)
    apart = np.linalg.norm(places - places[first[box.reshape(-1)]], axis=1)
    if len(first) < len(positions):
        return float(np.delete(apart, first).min())
    tree = cKDTree(_images(reduced, fractions, within) @ reduced)
    # The nearest point to an atom is the atom itself.
    distances = np.asarray(tree.query(tree.data[: len(positions)], k=2, distance_upper_bound=within)[0])
    smallest = float(distances[:, 1].min(initial=np.inf))
    return smallest if np.isfinite(smallest) else None


def distances(cell: NDArray[np.float64], positions: NDArray[np.float64], within: float) -> NDArray[np.float64]:
    """Distances of each atom to all others and to the images of all, each pair from both its ends, up to ``within``.

    Args:
        cell, positions: as in ``closest``.
        within: the largest distance [Å].

    Returns:
        Shape (n_pairs,), in no order [Å].
    """
    reduced, _ = minkowski_reduce(cell)
    fractions = positions @ np.linalg.inv(reduced)
    fractions -= np.floor(fractions)
    places = _images(reduced, fractions, within) @ reduced
    own = cKDTree(places[: len(positions)])
    found = own.sparse_distance_matrix(cKDTree(places), within, output_type="ndarray")
    return found["v"][found["i"] != found["j"]]


def _images(cell: NDArray[np.float64], fractions: NDArray[np.float64], within: float) -> NDArray[np.float64]:
    """Fractional coordinates in [0, 1), and behind them those of the images within a distance of the cell."""
    areas = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    margin = within * areas / abs(np.linalg.det(cell))  # as a share of the distance between the cell's planes
    images = [fractions]
    for shift in itertools.product(*(range(-int(np.ceil(m)), int(np.ceil(m)) + 1) for m in margin)):
        if any(shift):
            moved = fractions + shift
            images.append(moved[((moved > -margin) & (moved < 1 + margin)).all(axis=1)])
    return np.concatenate(images)
