"""The two engines compared on atoms of the user's own."""

import sys
import time
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .bispectrum import bispectrum, has_numba
from .settings import BispectrumSettings

POINTS = 2_000  # grid points that are compared, about: whole rows of z
TIMED = 16_000  # by ``fastest``, as a GPU is not busy with few
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
    n_points: int = POINTS,
) -> EngineComparison:
    """Compute about ``n_points`` grid points with both.

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
    rows = min(max(1, n_points // grid[2]), prod(grid[:2]))
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


_FASTEST: dict[tuple[str, int], Literal["native", "lammps"]] = {}  # by key of the settings and threads


def fastest(
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    threads: int,
) -> Literal["native", "lammps"]:
    """LAMMPS where it has a GPU, gives the same numbers and takes less time than the threads do; else native.

    Found out once in a process for each setting, on the first structure.

    Args as ``bispectrum``.
    """
    from .lammps_engine import gpu_options

    if not has_numba():
        return "lammps"
    if not gpu_options():
        return "native"
    if (settings.key, threads) not in _FASTEST:
        found = compare_engines(cell, positions, numbers, grid, settings, TIMED)
        if not found.agrees:
            print(
                f"dftune does not use LAMMPS on the GPU: its descriptors are off by {found.difference:.1e}",
                file=sys.stderr,
                flush=True,
            )
        wins = found.agrees and found.microseconds["lammps"] < found.microseconds["native"] / threads
        _FASTEST[settings.key, threads] = "lammps" if wins else "native"
    return _FASTEST[settings.key, threads]
