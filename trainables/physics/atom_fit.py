"""How much of an electron density spherical shapes around the atoms explain: whether the two belong together.  Å."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .reciprocal import reciprocal
from .smearing import Array

SHARPEST = 7.0  # [1/Å]; of a valence density, what is sharper is a small part
MOST_WAVES = 4000  # of one fit; they are drawn at random where there are more
SHAPES = 10  # numbers that describe the shape around an atom of one element


class AtomFit:
    """A density in plane waves, ready to be compared with atoms.

    n(G) ≈ Σ_z φ_z(|G|) S_z(G), with S_z(G) = Σ_a exp(-iG·R_a) over the atoms of element z, and φ_z piecewise linear in
    |G|.  Least squares over the waves give φ; what is known of an element's own density is not needed.

    Args:
        density: n, shape (n_x, n_y, n_z), point (i, j, k) at i/n_x a_1 + j/n_y a_2 + k/n_z a_3; in any unit.
        cell: lattice vectors as rows [Å].

    Source: own derivation; right densities of Al and Be give shares of 0.95 to 0.9999, those of other atoms below 0.6.
    """

    def __init__(self, density: Array, cell: Array) -> None:
        waves = fft.rfftn(
            np.asarray(density, dtype=np.float64), norm="forward"
        )  # has one of G and -G: z is not below 0
        reach = []
        for n, length in zip(density.shape, np.linalg.norm(cell, axis=1), strict=True):
            count = np.fft.fftfreq(n, 1 / n).astype(int)
            reach.append(count[(2 * np.abs(count) < n) & (np.abs(count) <= SHARPEST * length / (2 * np.pi))])
        wave = np.stack(np.meshgrid(*reach, indexing="ij"), axis=-1).reshape(-1, 3)
        last = 2 - np.argmax(wave[:, ::-1] != 0, axis=1)  # one of G and -G, and not G = 0
        wave = wave[np.take_along_axis(wave, last[:, None], axis=1)[:, 0] > 0]
        length = np.linalg.norm(wave @ reciprocal(cell), axis=1)
        wave, length = wave[length < SHARPEST], length[length < SHARPEST]
        if len(wave) > MOST_WAVES:
            chosen = np.random.default_rng(0).permutation(len(wave))[:MOST_WAVES]
            wave, length = wave[chosen], length[chosen]
        self._wave, self._length, self._shape = wave, length, np.array(density.shape)
        self._values, self._mean = waves[tuple(wave.T)], abs(waves[0, 0, 0])
        self._total = float((np.abs(self._values) ** 2).sum())

    def share(self, places: Array, numbers: NDArray[np.integer], shift: Array | None = None) -> float | None:
        """Share of the variance of the density that shapes around atoms explain, at most 1.

        Args:
            places: R_a in units of the lattice vectors, shape (n_atoms, 3).
            numbers: atomic numbers.
            shift: by which the density is moved first, in grid points along each axis, fractions too.

        Returns:
            None where too few plane waves or a constant density say nothing.
        """
        found = self.shares(places, numbers, np.zeros((1, 3)) if shift is None else np.atleast_2d(shift))
        return None if found is None else float(found[0])

    def shares(self, places: Array, numbers: NDArray[np.integer], shifts: Array) -> Array | None:
        """``share`` for each of several shifts, of shape (n_shifts, 3), which cost hardly more than one."""
        elements = sorted(set(numbers.tolist()))
        n = min(SHAPES, len(self._values) // (3 * len(elements)))
        if n < 2 or self._total < 1e-12 * self._mean**2:
            return None
        nodes = np.linspace(0, SHARPEST, n)
        hats = np.maximum(0, 1 - np.abs(self._length[:, None] - nodes) / nodes[1])
        columns = [
            np.exp(-2j * np.pi * (self._wave @ places[numbers == z].T)).sum(axis=1)[:, None] * hats for z in elements
        ]
        moved = self._values[:, None] * np.exp(-2j * np.pi * (self._wave @ (shifts / self._shape).T))
        matrix = np.concatenate(columns, axis=1)
        matrix, right = (np.concatenate([x.real, x.imag]) for x in (matrix, moved))
        fitted = np.linalg.lstsq(matrix, right, rcond=1e-6)[0]
        return 1.0 - ((right - matrix @ fitted) ** 2).sum(axis=0) / self._total
