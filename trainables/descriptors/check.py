"""The two engines compared on atoms of the user's own, and which of them there is."""

import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, one_line
from .settings import BispectrumSettings
from .species import AtomSpecies

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


@cache
def has_numba() -> bool:
    """Whether the native engine can be compiled; says once in a process if not."""
    try:
        import_module(".native.compiled", __package__)
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(
            f"dftune computes descriptors by LAMMPS, some 15 times slower: numba cannot be loaded in Python {version} "
            f"({one_line(error)})",
            file=sys.stderr,
            flush=True,
        )
        return False
    return True


def compare_engines(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    n_points: int = POINTS,
) -> EngineComparison:
    """Compute about ``n_points`` grid points with both.

    LAMMPS moves all atoms by ON_GRID_SHIFT; the native engine is given them there.

    Args as ``bispectrum``; ``species`` are those of the atoms.

    Raises:
        InputError: LAMMPS refuses the structure, or there is no native engine without numba.
    """
    if not has_numba():
        raise InputError("there is nothing to compare: the native engine needs numba, which cannot be loaded here")
    from . import lammps_engine
    from .native import engine as native_engine

    gpu = bool(lammps_engine.gpu_options())
    clock = time.perf_counter if gpu else time.process_time
    rows = min(max(1, n_points // grid[2]), prod(grid[:2]))
    points = range(rows * grid[2])
    found, microseconds = dict[str, NDArray[Any]](), dict[str, float]()
    moved = positions + np.full(3, lammps_engine.ON_GRID_SHIFT) @ lammps_engine.frame(cell)[1].T
    for name, engine, atoms in (("native", native_engine, moved), ("lammps", lammps_engine, positions)):
        given = cell, atoms, species, grid, settings
        engine.bispectrum(*given, points=range(grid[2]))  # loads or compiles it
        started = clock()
        found[name] = engine.bispectrum(*given, points=points, dtype=np.float64)
        microseconds[name] = (clock() - started) / len(points) * 1e6
    largest = np.abs(found["lammps"]).max(axis=0)
    difference = float((np.abs(found["native"] - found["lammps"]).max(axis=0) / largest).max())
    return EngineComparison(difference, len(points), microseconds, gpu)


_FASTEST: dict[tuple[str, int], Literal["native", "lammps"]] = {}  # by key of the settings and threads


def fastest(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    threads: int,
) -> Literal["native", "lammps"]:
    """LAMMPS where it has a GPU, gives the same numbers and takes less time than the threads do; else native.

    Found out once in a process for each setting, on the first structure.

    Args as ``compare_engines``.
    """
    if not has_numba():
        return "lammps"
    from .lammps_engine import gpu_options

    if not gpu_options():
        return "native"
    if (settings.key, threads) not in _FASTEST:
        found = compare_engines(cell, positions, species, grid, settings, TIMED)
        if not found.agrees:
            print(
                f"dftune does not use LAMMPS on the GPU: its descriptors are off by {found.difference:.1e}",
                file=sys.stderr,
                flush=True,
            )
        wins = found.agrees and found.microseconds["lammps"] < found.microseconds["native"] / threads
        _FASTEST[settings.key, threads] = "lammps" if wins else "native"
    return _FASTEST[settings.key, threads]
