"""The two engines compared on atoms of the user's own."""

import time
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .bispectrum import bispectrum, has_numba
from .settings import BispectrumSettings

POINTS = 2_000  # grid points that are compared, about: whole rows of z
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class EngineComparison:
    """What the engines gave and took.

    difference: the largest |B_native - B_lammps| of each component, divided by its largest |B|; the largest of all.
    n_points: grid points that were compared.
    microseconds: CPU time a grid point of one thread, by engine; of both the time that passed if LAMMPS has a GPU.
    gpu: whether LAMMPS computed on a GPU.
    """

    difference: float
    n_points: int
    microseconds: dict[str, float]
    gpu: bool

    @property
    def agrees(self) -> bool:
        """Whether they differ by rounding only."""
        return self.difference < 1e-10


def compare_engines(
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
) -> EngineComparison:
    """Compute some grid points with both.

    LAMMPS moves all atoms by ON_GRID_SHIFT; the native engine is given them there.

    Args as ``bispectrum``.

    Raises:
        InputError: as there, or there is no native engine without numba.
    """
    if not has_numba():
        raise InputError("there is nothing to compare: the native engine needs numba, which cannot be loaded here")
    from .lammps_engine import ON_GRID_SHIFT, frame, gpu_options

    gpu = bool(gpu_options())
    clock = time.perf_counter if gpu else time.process_time
    rows = min(max(1, POINTS // grid[2]), prod(grid[:2]))
    points = range(rows * grid[2])
    found, microseconds = dict[str, NDArray[Any]](), dict[str, float]()
    moved = positions + np.full(3, ON_GRID_SHIFT) @ frame(cell)[1].T
    for engine, atoms in (("native", moved), ("lammps", positions)):
        with_engine = settings.model_copy(update={"engine": engine})
        bispectrum(cell, atoms, numbers, grid, with_engine, points=range(grid[2]))  # loads or compiles it
        started = clock()
        found[engine] = bispectrum(cell, atoms, numbers, grid, with_engine, points=points, dtype=np.float64)
        microseconds[engine] = (clock() - started) / len(points) * 1e6
    largest = np.abs(found["lammps"]).max(axis=0)
    difference = float((np.abs(found["native"] - found["lammps"]).max(axis=0) / largest).max())
    return EngineComparison(difference, len(points), microseconds, gpu)
