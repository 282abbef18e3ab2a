"""Descriptors and forces of a cell by the compiled kernels, shared by threads."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..settings import BispectrumSettings
from .images import Images, images_of
from .tables import Tables, tables

CHUNK = 1024  # grid points of one call of a kernel; 91 doubles each are 0.7 MB
Float64 = NDArray[np.float64]
Grid = tuple[int, int, int]


def bispectrum(
    cell: Float64,
    positions: Float64,
    grid: Grid,
    settings: BispectrumSettings,
    *,
    points: range,
    dtype: type[np.floating] = np.float32,
    threads: int = 1,
) -> NDArray[Any]:
    """As ``descriptors.bispectrum.bispectrum``, of checked input."""
    kernel = _describe_kernel()
    images, table = images_of(cell, positions, settings.cutoff), tables(settings.two_j_max)
    around, about = neighbours(images, settings), wigner(table)
    values = np.empty((len(points), settings.n_components), dtype)

    def compute(part: range) -> None:
        found = np.empty((len(part), settings.n_components))
        kernel(
            coordinates(cell, grid, part), *around, *about,
            table.products, table.cg, table.scale, found,
        )  # fmt: skip
        values[part.start - points.start : part.stop - points.start] = found

    for _ in in_threads(compute, _chunks(points), threads):
        pass
    return values


def forces(
    cell: Float64,
    positions: Float64,
    grid: Grid,
    settings: BispectrumSettings,
    gradient: NDArray[np.floating],
    threads: int = 1,
) -> tuple[Float64, Float64]:
    """As ``descriptors.bispectrum.bispectrum_forces``, of checked input."""
    kernel = _forces_kernel()
    images, table = images_of(cell, positions, settings.cutoff), tables(settings.two_j_max)
    around, about = neighbours(images, settings), wigner(table)

    def compute(part: range) -> tuple[Float64, Float64]:
        found, by_strain = np.zeros(images.positions.shape), np.zeros((3, 3))
        g = np.ascontiguousarray(gradient[part.start : part.stop], dtype=np.float64)
        kernel(
            coordinates(cell, grid, part), g, *around, *about,
            table.y_products, table.y_cg, table.y_scale, table.y_rows, found, by_strain,
        )  # fmt: skip
        return found, by_strain

    total, strain = np.zeros(images.positions.shape), np.zeros((3, 3))
    for found, by_strain in in_threads(compute, _chunks(range(len(gradient))), threads):
        total += found
        strain += by_strain
    by_atom = np.zeros(positions.shape)
    np.add.at(by_atom, images.owner, total)
    return by_atom, strain


def neighbours(images: Images, settings: BispectrumSettings) -> tuple[Any, ...]:
    weights = np.ones(len(images.positions))
    return (
        images.positions, weights, images.first, images.n_boxes, images.origin, images.width, float(settings.cutoff)
    )  # fmt: skip


def wigner(table: Tables) -> tuple[Any, ...]:
    return table.two_j_max, table.n_monomials, table.first, table.rows, table.coefficients, table.radial


def _chunks(points: range) -> Iterator[range]:
    for start in range(points.start, points.stop, CHUNK):
        yield range(start, min(start + CHUNK, points.stop))


def coordinates(cell: Float64, grid: Grid, points: range) -> Float64:
    """(n_points, 3) [Å]."""
    index = np.unravel_index(np.arange(points.start, points.stop), grid)
    return np.stack([i / n for i, n in zip(index, grid, strict=True)], axis=1) @ cell


def in_threads(function: Any, parts: Iterable[Any], threads: int) -> Iterator[Any]:
    """Results in the order of the parts.  The kernels run outside of Python's lock."""
    if threads == 1:
        yield from map(function, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, parts)


@cache
def _describe_kernel() -> Any:
    from .compiled import ready
    from .kernel import describe

    ready("descriptors", lambda: _call(describe, "products", "cg", "scale"))
    return describe


@cache
def _forces_kernel() -> Any:
    from .adjoint import pull_back
    from .compiled import ready

    _describe_kernel()
    ready("forces", lambda: _call(pull_back, "y_products", "y_cg", "y_scale", "y_rows", gradient=True))
    return pull_back


def _call(kernel: Any, *names: str, gradient: bool = False) -> None:
    """One grid point and one atom."""
    settings = BispectrumSettings(cutoff=1.0, two_j_max=2)
    images, table = images_of(4.0 * np.eye(3), np.full((1, 3), 0.5), 1.0), tables(2)
    out = np.empty((1, settings.n_components))
    results = (np.zeros(images.positions.shape), np.zeros((3, 3))) if gradient else (out,)
    known = (np.zeros((1, settings.n_components)),) if gradient else ()
    kernel(
        np.zeros((1, 3)), *known, *neighbours(images, settings), *wigner(table),
        *(getattr(table, name) for name in names), *results,
    )  # fmt: skip
