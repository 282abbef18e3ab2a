"""The core charges of a structure: of all its species with a nonlinear core correction.  Lengths in Å."""

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ..physics.core_charge import core_density
from ..physics.reciprocal import DensitySphere, fractional
from .kohn_sham import KohnSham

Float64 = NDArray[np.float64]


def core_on(
    dft: KohnSham, sphere: DensitySphere, cell: Float64, positions: Float64, numbers: NDArray[np.integer]
) -> Float64 | None:
    """Core charge of the nonlinear core correction on a grid, None without one, (nx, ny, nz) [1/Å³].

    Args:
        dft: with the charges of species.
        sphere: whose cell may be a strained one, and takes the atoms with it.
        cell, positions, numbers: of the atoms, (3, 3), (n_atoms, 3) [Å] and (n_atoms,).
    """
    there = fractional(positions, cell) @ sphere.cell
    cores = [core_density(sphere, there[atoms], *charge) for atoms, *charge in core_charges(dft, numbers)]
    return np.sum(cores, axis=0) if cores else None


def core_charges(dft: KohnSham, numbers: NDArray[np.integer]) -> list[tuple[NDArray[np.bool_], Float64, Float64]]:
    """For each species with a core charge: which atoms, radii [Å] and densities [1/Å³]."""
    return [
        (numbers == atomic_numbers[symbol], np.array(charge.radius), np.array(charge.density))
        for symbol, charge in dft.core_charges.items()
    ]
