"""Sums of phases over atoms: structure factors, and forces of a field given by its plane waves.  Lengths in Å.

Few atoms are summed as they stand; many, where atoms times plane waves would be too much work, over a mesh.
"""

from collections.abc import Iterator

import numpy as np

from . import mesh
from .reciprocal import Complex, Orders, reciprocal
from .smearing import Array

MANY = 500  # atoms from which on a mesh is faster
CHUNK = 2**20  # phases held at once: 16 MiB


def _phases(places: Array, orders: Orders) -> Iterator[tuple[slice, Complex, Complex]]:
    """A few atoms at a time: exp(-2πi (f₁m₁ + f₂m₂)), shape (atoms, n₁ n₂), and exp(-2πi f₃m₃), shape (atoms, n₃)."""
    step = max(1, CHUNK // (len(orders[0]) * len(orders[1])))
    for start in range(0, len(places), step):
        atoms = slice(start, start + step)
        x, y, z = (np.exp(-2j * np.pi * f[:, None] * m) for f, m in zip(places[atoms].T, orders))
        yield atoms, (x[:, :, None] * y[:, None, :]).reshape(len(x), -1), z


def structure_factor(places: Array, orders: Orders, charges: Array) -> Complex:
    """Structure factor S(G) = Σ_a q_a exp(-iG·R_a) on a box of plane waves.

    As products of matrices, and of ``MANY`` atoms or more over a mesh, to 1e-13 of Σ_a |q_a|.

    Args:
        places: R_a in lattice vectors, shape (n_atoms, 3).
        orders: m₁, m₂ and m₃ >= 0 along the axes of the box, G = m₁b₁ + m₂b₂ + m₃b₃.
        charges: q_a, shape (n_atoms,).

    Returns:
        Shape (n₁, n₂, n₃), in the unit of ``charges``.
    """
    if len(places) >= MANY:
        return mesh.structure_factor(places, orders, charges)
    shape = tuple(map(len, orders))
    total = np.zeros((shape[0] * shape[1], shape[2]), dtype=np.complex128)
    for atoms, plane, z in _phases(places, orders):
        total += plane.T @ (charges[atoms, None] * z)
    return total.reshape(shape)


def phase_forces(places: Array, orders: Orders, coefficients: Complex, cell: Array) -> Array:
    """Forces -Σ_G G Im[c*(G) exp(-iG·R_a)] on atoms whose energy is Σ_a Re Σ_G c*(G) exp(-iG·R_a) in a field c.

    Args:
        places, orders: as in ``structure_factor``.
        coefficients: c, shape (n₁, n₂, n₃), with the multiplicity of each plane wave in it.
        cell: lattice vectors as rows [Å].

    Returns:
        Shape (n_atoms, 3), in the unit of ``coefficients`` per Å.
    """
    if len(places) >= MANY:
        return mesh.phase_forces(places, orders, coefficients) @ reciprocal(cell) / (2 * np.pi)
    c = coefficients.conj().reshape(-1, len(orders[2])).T
    n1, n2 = len(orders[0]), len(orders[1])
    sums = np.empty((len(places), 3))
    for atoms, plane, z in _phases(places, orders):
        waves = (plane * (z @ c)).imag.reshape(-1, n1, n2)
        sums[atoms, 0] = waves.sum(axis=2) @ orders[0]
        sums[atoms, 1] = waves.sum(axis=1) @ orders[1]
        sums[atoms, 2] = np.einsum("ai,ai->a", plane, (z * orders[2]) @ c).imag
    return -sums @ reciprocal(cell)
