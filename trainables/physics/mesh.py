"""Sums of phases over many atoms by FFT: each atom is spread over a mesh by a narrow window.

With mesh points i/M along a lattice vector and the Kaiser-Bessel window φ(x) = I₀(β √(1 - (2x/w)²)) over w of them,

    Σ_a q_a exp(-2πi m f_a) ≈ FFT_m[Σ_a q_a φ(M f_a - i)] / φ̂(2πm/M),   φ̂(θ) = w sinh(s)/s,  s² = β² - (wθ/2)²,

along each of the three.  The error is 1e-13 of Σ_a |q_a|, and 1e-11 of the largest force.  The work is
linear in the atoms and in the mesh, where the sums themselves take atoms times plane waves.

Source: Shamshirgar, Bagge and Tornberg, J. Chem. Phys. 154, 164109 (2021); Barnett, Magland and af Klinteberg, SIAM J.
Sci. Comput. 41, C479 (2019).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import i0e, i1e

from .smearing import Array

Complex = NDArray[np.complex128]
FINER = 1.6  # mesh points for each plane wave along an axis
WIDTH = 16  # w, mesh points that an atom is spread over along an axis
BETA = np.pi * WIDTH * (1 - 1 / (2 * FINER))  # where φ̂ of the first alias is as small as it gets
CHUNK = 2**18 // WIDTH**3 + 1  # atoms spread at once; a few MB


def structure_factor(places: Array, orders: Sequence[Array], charges: Array) -> Complex:
    """As ``phases.structure_factor``, for orders m₃ >= 0."""
    mesh = np.zeros(_sizes(orders))
    flat = mesh.reshape(-1)
    for atoms, index, windows, _ in _spread(places, mesh.shape):
        x, y, z = windows
        weights = (charges[atoms, None] * x)[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]
        np.add.at(flat, index.reshape(-1), weights.reshape(-1))
    found = fft.rfftn(mesh, overwrite_x=True)[_at(orders, mesh.shape)]
    for factor in _windows(orders, mesh.shape):
        found /= factor
    return found


def phase_forces(places: Array, orders: Sequence[Array], coefficients: Complex) -> Array:
    """-∂/∂f_a of Re Σ_G c*(G) exp(-iG·R_a) in units of the lattice vectors; arguments as in ``phases.phase_forces``.

    Returns:
        Shape (n_atoms, 3), in the unit of ``coefficients``.
    """
    sizes = _sizes(orders)
    spectrum = np.zeros((sizes[0], sizes[1], sizes[2] // 2 + 1), dtype=np.complex128)
    scaled = coefficients * np.where(orders[2] == 0, 1.0, 0.5)  # the FFT adds the conjugates of m₃ > 0
    for factor in _windows(orders, sizes):
        scaled /= factor
    spectrum[_at(orders, sizes)] = scaled
    field = fft.irfftn(spectrum, s=sizes, norm="forward", overwrite_x=True).reshape(-1)
    forces = np.empty((len(places), 3))
    for atoms, index, (x, y, z), (dx, dy, dz) in _spread(places, sizes):
        near = field[index]
        along_z, slope_z = (np.einsum("axyz,az->axy", near, w, optimize=True) for w in (z, dz))
        along_yz = np.einsum("axy,ay->ax", along_z, y)
        forces[atoms, 0] = np.einsum("ax,ax->a", along_yz, dx)
        forces[atoms, 1] = np.einsum("axy,ay,ax->a", along_z, dy, x, optimize=True)
        forces[atoms, 2] = np.einsum("axy,ay,ax->a", slope_z, y, x, optimize=True)
    return -forces * sizes


def _sizes(orders: Sequence[Array]) -> tuple[int, int, int]:
    """Points of the mesh along the three axes, M."""
    nx, ny, nz = (
        max(2 * WIDTH, fft.next_fast_len(int(np.ceil(FINER * (2 * np.abs(m).max() + 1))), real=True)) for m in orders
    )
    return nx, ny, nz


def _at(orders: Sequence[Array], sizes: tuple[int, int, int]) -> tuple[NDArray[np.intp], ...]:
    """Where the orders are in an FFT of the mesh."""
    return np.ix_(*(m.astype(int) % n for m, n in zip(orders, sizes)))


def _windows(orders: Sequence[Array], sizes: tuple[int, int, int]) -> Iterator[Array]:
    """φ̂ exp(-β) along each axis, of a shape that multiplies a box of plane waves."""
    for axis, (m, n) in enumerate(zip(orders, sizes)):
        s = np.sqrt(BETA**2 - (np.pi * WIDTH * m / n) ** 2)
        shape = [1, 1, 1]
        shape[axis] = len(m)
        yield (WIDTH * (np.exp(s - BETA) - np.exp(-s - BETA)) / (2 * s)).reshape(shape)


def _spread(
    places: Array, sizes: tuple[int, int, int]
) -> Iterator[tuple[slice, NDArray[np.intp], tuple[Array, ...], tuple[Array, ...]]]:
    """A few atoms at a time: mesh points, (atoms, w, w, w), φ exp(-β) along the axes and its slope, each (atoms, w)."""
    steps = np.arange(WIDTH)
    for start in range(0, len(places), CHUNK):
        atoms = slice(start, start + CHUNK)
        at = places[atoms] % 1.0 * sizes
        first = np.ceil(at - WIDTH / 2).astype(int)
        windows, slopes, along = [], [], []
        for axis, n in enumerate(sizes):
            points = first[:, axis, None] + steps
            x = 2 / WIDTH * (at[:, axis, None] - points)
            root = np.sqrt(np.maximum(1 - x**2, 1e-12))
            decay = np.exp(BETA * (root - 1))
            windows.append(i0e(BETA * root) * decay)
            slopes.append(-2 / WIDTH * BETA * x / root * i1e(BETA * root) * decay)
            along.append(points % n)
        i, j, k = along
        index = (i[:, :, None, None] * sizes[1] + j[:, None, :, None]) * sizes[2] + k[:, None, None, :]
        yield atoms, index, tuple(windows), tuple(slopes)
