"""SNAP bispectrum descriptors of every point of a real-space grid, and their derivatives.  Lengths in Å.

Two engines compute the same numbers: ``native``, compiled code of our own, and ``lammps``, the reference.
"""

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .check import fastest, has_numba
from .settings import BispectrumSettings
from .species import AtomSpecies, species_of

LARGEST_GRID = 20_000_000  # grid points; 91 float32 each are 7 GB
Float64 = NDArray[np.float64]


def bispectrum(
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    *,
    points: range | None = None,
    dtype: type[np.floating] = np.float32,
    threads: int = 1,
) -> NDArray[Any]:
    """Bispectrum vector B of every grid point i/nx a₁ + j/ny a₂ + k/nz a₃ of a periodic cell.

    Args:
        cell: lattice vectors as rows, shape (3, 3) [Å]; may be triclinic, left-handed, and smaller than the cutoff.
        positions: shape (n_atoms, 3) [Å].
        numbers: atomic numbers, shape (n_atoms,), of species that ``settings`` tell apart.
        grid: (nx, ny, nz).
        settings: cutoffs, 2 J_max, weights and radii or densities of species, and engine.
        points: compute only these, numbered in C order; LAMMPS takes whole planes or rows of z.
        dtype: of the result; both engines compute in float64.
        threads: that share the work; LAMMPS has one.

    Returns:
        Shape (len(points), n_components), C order of the grid.

    Raises:
        InputError: species that the settings do not know, a flat cell, or a grid that is too large.

    Source: Thompson et al., J. Comput. Phys. 285, 316 (2015); Fiedler et al. (2022), Eq. 7.  Densities of species:
    Cusentino, Wood and Thompson, J. Phys. Chem. A 124, 5456 (2020).
    """
    points = range(math.prod(grid)) if points is None else points
    if settings.inner:
        alone = partial(bispectrum, cell, positions, numbers, grid, points=points, dtype=dtype, threads=threads)
        return np.concatenate([alone(one) for one in settings.of_each_cutoff], axis=1)
    species = check(cell, numbers, grid, settings)
    if settings.engine == "fastest":
        engine_name = fastest(cell, positions, species, grid, settings, threads)
        settings = settings.model_copy(update={"engine": engine_name})
    engine, shared = _engine(settings, threads)
    return engine.bispectrum(cell, positions, species, grid, settings, points=points, dtype=dtype, **shared)


def bispectrum_forces(
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    gradient: NDArray[np.floating],
    *,
    threads: int = 1,
) -> tuple[Float64, Float64]:
    """Forces and strain derivative of an energy whose gradient g = ∂E/∂B is known at every grid point.

    Forces are -Σ_r Σ_k g_k(r) ∂B_k(r)/∂R.  The strain ε takes atoms, cell and grid points from r to (1 + ε) r.

    Args:
        cell, positions, numbers, grid, settings, threads: as in ``bispectrum``.
        gradient: g, shape (nx·ny·nz, n_components), C order of the grid [eV].

    Returns:
        Forces, (n_atoms, 3) [eV/Å], and Σ_r Σ_k g_k(r) ∂B_k(r)/∂ε, (3, 3) [eV].

    Raises:
        InputError: as ``bispectrum``; or the engine is LAMMPS and each species has a density.

    Source: Thompson et al., J. Comput. Phys. 285, 316 (2015), Eq. 15, 16.
    """
    if settings.inner:
        parts = zip(settings.of_each_cutoff, np.split(gradient, 1 + len(settings.inner), axis=1), strict=True)
        place = cell, positions, numbers, grid
        forces, strains = zip(*(bispectrum_forces(*place, *part, threads=threads) for part in parts), strict=True)
        return np.sum(forces, axis=0), np.sum(strains, axis=0)
    species = check(cell, numbers, grid, settings)
    engine, shared = _engine(settings, threads)
    return engine.forces(cell, positions, species, grid, settings, gradient, **shared)


def _engine(settings: BispectrumSettings, threads: int) -> tuple[Any, dict[str, int]]:
    """The engine's module, and what it is told beyond the input.  Each is imported when it is first asked for."""
    if settings.engine != "lammps" and has_numba():
        from .native import engine

        return engine, {"threads": threads}
    from . import lammps_engine

    return lammps_engine, {}


def check(
    cell: Float64, numbers: NDArray[np.integer], grid: tuple[int, int, int], settings: BispectrumSettings
) -> AtomSpecies:
    """How the atoms count.  Raises InputError for what no engine computes."""
    if abs(np.linalg.det(cell)) < 1e-6:
        raise InputError("the cell vectors are coplanar; give the cell a volume")
    if not 0 < math.prod(grid) <= LARGEST_GRID:
        nx, ny, nz = grid
        raise InputError(f"a grid of {nx} x {ny} x {nz} points is outside 1 to {LARGEST_GRID:,}")
    return species_of(numbers, settings)
