"""Plane waves of a real-space FFT grid, cut at the sphere of the density.

Lengths in Å, energies in eV.  A real field f(r) = Σ_G f(G) exp(iG·r) is kept as its coefficients f(G) on half of
the plane waves, those of orders m₃ >= 0 along the third axis (G = m₁b₁ + m₂b₂ + m₃b₃): f(-G) is f(G)*.
"""

from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from .smearing import Array
from .units import KINETIC

Complex = NDArray[np.complex128]
Orders = tuple[Array, Array, Array]

# A plane wave whose energy is the cutoff belongs to the sphere, whichever way its last digits are rounded.
RIM = 1 + 1e-10


def reciprocal(cell: Array) -> Array:
    """Reciprocal lattice vectors b_i with a_i·b_j = 2π δ_ij, the rows of a (3, 3) array [1/Å].

    Args:
        cell: lattice vectors a_i, the rows of a (3, 3) array of either handedness [Å].

    Raises:
        ValueError: the cell has no volume, or is not of shape (3, 3).
    """
    if cell.shape != (3, 3):
        raise ValueError(f"cell has shape {cell.shape}, but three lattice vectors as rows are of shape (3, 3)")
    if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) <= 1e-9 * np.prod(np.linalg.norm(cell, axis=1)):
        raise ValueError(f"the lattice vectors {cell.tolist()} Å span no volume")
    return np.asarray(2 * np.pi * np.linalg.inv(cell).T, dtype=np.float64)


def fractional(positions: Array, cell: Array) -> Array:
    """Positions [Å] in units of the lattice vectors, shape (n_atoms, 3)."""
    return positions @ reciprocal(cell).T / (2 * np.pi)


def smallest_grid(cell: Array, cutoff: float) -> tuple[int, int, int]:
    """Fewest grid points along the lattice vectors that hold the plane waves ħ²G²/2m <= ``cutoff``.

    Args:
        cell: lattice vectors as rows, shape (3, 3) [Å].
        cutoff: kinetic energy of the largest plane wave [eV].
    """
    # Components of G along the axes: m_i = G·a_i / 2π.  In an oblique cell no G may reach the bound, as in QE's grids.
    largest, b = np.sqrt(cutoff * RIM / KINETIC), reciprocal(cell)
    bounds = [int(largest * length / (2 * np.pi)) for length in np.linalg.norm(cell, axis=1)]

    def reached(axis: int, m: int) -> bool:
        j, k = (i for i in range(3) if i != axis)
        others = [np.arange(-bounds[i], bounds[i] + 1.0)[:, None] * b[i] for i in (j, k)]
        waves = m * b[axis] + others[0][:, None] + others[1]
        return bool((np.einsum("jka,jka->jk", waves, waves) <= largest**2).any())

    nx, ny, nz = (
        2 * next(m for m in range(bound, -1, -1) if m == 0 or reached(axis, m)) + 1 for axis, bound in enumerate(bounds)
    )
    return nx, ny, nz


@dataclass(frozen=True, eq=False)
class DensitySphere:
    """The plane waves ħ²G²/2m <= ``cutoff`` that carry the electron density on an FFT grid.

    Args:
        cell: lattice vectors as rows, shape (3, 3), of any shape and handedness [Å].
        grid: points (n_x, n_y, n_z) along the lattice vectors; point (i, j, k) lies at i/n_x a₁ + j/n_y a₂ + k/n_z a₃.
        cutoff: kinetic energy of the largest plane wave of the density, Quantum ESPRESSO's ``ecutrho`` [eV].

    Raises:
        ValueError: the cell has no volume, the cutoff is not positive, or the grid cannot hold the sphere.

    Source: Martin, Electronic Structure (2004), chapter 12.
    """

    cell: Array
    grid: tuple[int, int, int]
    cutoff: float

    def __post_init__(self) -> None:
        reciprocal(self.cell)
        if not self.cutoff > 0:
            raise ValueError(f"the density cutoff is {self.cutoff} eV, but must be positive")
        needed = smallest_grid(self.cell, self.cutoff)
        if len(self.grid) != 3 or any(n < least for n, least in zip(self.grid, needed)):
            raise ValueError(
                f"a grid of {' x '.join(map(str, self.grid))} points cannot hold the plane waves up to "
                f"{self.cutoff:g} eV, which need {' x '.join(map(str, needed))} or more; "
                "take a finer grid or a smaller density cutoff"
            )

    def strained(self, strain: Array) -> "DensitySphere":
        """The same plane waves when the cell is strained: their orders stay, G moves, none enters or leaves.

        Args:
            strain: ε, shape (3, 3), takes r to (1 + ε) r.
        """
        other = copy(self)
        kept = {"inside": self.inside, "orders": self.orders, "multiplicity": self.multiplicity}
        for name in ("volume", "squared"):
            other.__dict__.pop(name, None)
        other.__dict__.update(kept, cell=self.cell @ (np.eye(3) + strain).T)
        return other

    @cached_property
    def volume(self) -> float:
        """Cell volume Ω [Å³]."""
        return float(abs(np.linalg.det(self.cell)))

    @cached_property
    def orders(self) -> Orders:
        """Orders m₁, m₂, m₃ of the stored plane waves, shapes (n_x,), (n_y,), (n_z // 2 + 1,)."""
        nx, ny, nz = self.grid
        return np.rint(fft.fftfreq(nx, 1 / nx)), np.rint(fft.fftfreq(ny, 1 / ny)), np.arange(nz // 2 + 1.0)

    def component(self, axis: int) -> Array:
        """G of the stored plane waves along x, y or z, shape (n_x, n_y, n_z // 2 + 1) [1/Å].

        Computed anew: at 8 million points one component takes 32 MB, and the transform beside it far longer.
        """
        x, y, z = (m * row[axis] for m, row in zip(self.orders, reciprocal(self.cell)))
        found: Array = x[:, None, None] + y[:, None] + z
        return found

    @cached_property
    def squared(self) -> Array:
        """G² of the stored plane waves, shape (n_x, n_y, n_z // 2 + 1) [1/Å²]."""
        found = self.component(0) ** 2
        for axis in (1, 2):
            found += self.component(axis) ** 2
        return found

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Whether a stored plane wave belongs to the sphere, shape (n_x, n_y, n_z // 2 + 1)."""
        return KINETIC * self.squared <= self.cutoff * RIM

    @cached_property
    def multiplicity(self) -> Array:
        """How many plane waves of the full sphere one of order m₃ stands for: itself and, but at 0, its conjugate.

        Shape (n_z // 2 + 1,).  The order n_z/2 of an even grid is never inside the sphere.
        """
        return np.where(self.orders[2] == 0, 1.0, 2.0)

    def to_reciprocal(self, field: ArrayLike) -> Complex:
        """Coefficients f(G) = 1/n_points Σ_r f(r) exp(-iG·r) of a real field, 0 outside the sphere.

        Args:
            field: f, shape (n_x, n_y, n_z).

        Returns:
            Shape (n_x, n_y, n_z // 2 + 1), in the unit of ``field``.

        Raises:
            ValueError: the field has not the shape of the grid.
        """
        values = np.asarray(field, dtype=np.float64)  # in single precision, scipy.fft would stay there
        if values.shape != tuple(self.grid):
            raise ValueError(f"a field of shape {values.shape} does not lie on the grid {tuple(self.grid)}")
        coefficients = fft.rfftn(values, norm="forward")
        coefficients *= self.inside
        return coefficients

    def to_real(self, coefficients: Complex, *, overwrite: bool = False) -> Array:
        """The field Σ_G f(G) exp(iG·r) on the grid, shape (n_x, n_y, n_z), from all stored coefficients.

        Args:
            coefficients: f(G), shape (n_x, n_y, n_z // 2 + 1).
            overwrite: they may be lost: at 8 million points a copy takes 65 MB (irfftn always makes one).
        """
        part = fft.ifftn(coefficients, axes=(0, 1), norm="forward", overwrite_x=overwrite)
        found: Array = fft.irfft(part, n=self.grid[2], axis=2, norm="forward")
        return found

    def gradient(self, field: ArrayLike) -> Array:
        """∇f = Σ_G iG f(G) exp(iG·r) over the sphere, shape (3, n_x, n_y, n_z) [unit of f per Å]."""
        coefficients, found = 1j * self.to_reciprocal(field), np.empty((3, *self.grid))
        for axis in range(3):
            found[axis] = self.to_real(self.component(axis) * coefficients, overwrite=True)
        return found

    def divergence(self, field: Array) -> Array:
        """∇·h = Σ_G iG·h(G) exp(iG·r) over the sphere, shape (n_x, n_y, n_z) [unit of h per Å].

        Minus the adjoint of ``gradient``: Σ_r h·∇f = -Σ_r f ∇·h for all f and h, cut at the sphere or not.

        Args:
            field: h, shape (3, n_x, n_y, n_z).
        """
        coefficients = np.zeros_like(self.squared, dtype=np.complex128)
        for axis, values in enumerate(field):
            part = self.to_reciprocal(values)
            part *= self.component(axis)  # in place: at 8 million points one such array takes 65 MB
            coefficients += part
            del part  # before the next one is there
        coefficients *= 1j
        return self.to_real(coefficients, overwrite=True)

    def inner(self, first: Complex, second: Complex) -> float:
        """∫ a(r) b(r) dr = Ω Σ_G a*(G) b(G) over the full sphere [product of the units times Å³].

        Args:
            first, second: coefficients a(G), b(G) from ``to_reciprocal``; one of them may go beyond the sphere.
        """
        return float(self.volume * np.einsum("ijk,ijk,k->", first.conj(), second, self.multiplicity).real)

    def integral(self, field: Array) -> float:
        """∫ f(r) dr, the mean over the grid times Ω [unit of f times Å³]."""
        return float(self.volume * field.mean())
