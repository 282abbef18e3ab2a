"""Descriptors and forces of a cell by the compiled kernels, shared by threads."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..settings import BispectrumSettings
from ..species import AtomSpecies, species_of
from .images import Images, images_of
from .order import Blocks
from .tables import Tables, tables

CHUNK = 1024  # grid points of one call of a kernel; 91 doubles each are 0.7 MB
Float64 = NDArray[np.float64]
Grid = tuple[int, int, int]


def bispectrum(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    grid: Grid,
    settings: BispectrumSettings,
    *,
    points: range,
    dtype: type[np.floating] = np.float32,
    threads: int = 1,
) -> NDArray[Any]:
    """As ``descriptors.bispectrum.bispectrum``, of checked input."""
    kernel = _describe_kernel()
    images, table = images_of(cell, positions, species.cutoffs.max()), tables(settings.two_j_max, species.n_densities)
    around, about = neighbours(images, species), (*wigner(table), *_arrays(table.blocks))
    values = np.empty((len(points), settings.n_components), dtype)

    def compute(part: range) -> None:
        found = np.empty((len(part), settings.n_components))
        kernel(coordinates(cell, grid, part), *around, *about, found)
        values[part.start - points.start : part.stop - points.start] = found

    for _ in in_threads(compute, _chunks(points), threads):
        pass
    return values


def forces(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    grid: Grid,
    settings: BispectrumSettings,
    gradient: NDArray[np.floating],
    threads: int = 1,
) -> tuple[Float64, Float64]:
    """As ``descriptors.bispectrum.bispectrum_forces``, of checked input."""
    kernel = _forces_kernel()
    images, table = images_of(cell, positions, species.cutoffs.max()), tables(settings.two_j_max, species.n_densities)
    around, about = neighbours(images, species), wigner(table)

    def compute(part: range) -> tuple[Float64, Float64]:
        found, by_strain = np.zeros(images.positions.shape), np.zeros((3, 3))
        g = np.ascontiguousarray(gradient[part.start : part.stop], dtype=np.float64)
        kernel(coordinates(cell, grid, part), g, *around, *about, *_back(table), found, by_strain)
        return found, by_strain

    total, strain = np.zeros(images.positions.shape), np.zeros((3, 3))
    for found, by_strain in in_threads(compute, _chunks(range(len(gradient))), threads):
        total += found
        strain += by_strain
    by_atom = np.zeros(positions.shape)
    np.add.at(by_atom, images.owner, total)
    return by_atom, strain


def neighbours(images: Images, species: AtomSpecies) -> tuple[Any, ...]:
    of_image = species.index[images.owner]
    densities = of_image if species.n_densities > 1 else np.zeros_like(of_image)
    return (
        images.positions, species.weights[of_image], species.cutoffs[of_image], densities,
        images.first, images.n_boxes, images.origin, images.width, float(species.cutoffs.max()),
    )  # fmt: skip


def wigner(table: Tables) -> tuple[Any, ...]:
    return (
        table.two_j_max, table.n_densities, table.n_monomials, int(table.first[-1]), table.rows, table.coefficients,
        table.radial, table.lengths, table.monomials, len(table.products), table.component, table.scale,
    )  # fmt: skip


def _arrays(blocks: Blocks) -> tuple[Any, ...]:
    return blocks.classes, blocks.blocks, blocks.terms, blocks.weights


def _back(table: Tables) -> tuple[Any, ...]:
    """What ``pull_back`` reads beside ``wigner``."""
    return table.y_products, table.y_scale, table.y_rows, *_arrays(table.y_blocks)


def _chunks(points: range) -> Iterator[range]:
    for start in range(points.start, points.stop, CHUNK):
        yield range(start, min(start + CHUNK, points.stop))


def coordinates(cell: Float64, grid: Grid, points: Sequence[int] | NDArray[np.integer]) -> Float64:
    """(n_points, 3) [Å]."""
    index = np.unravel_index(np.asarray(points), grid)
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

    ready("descriptors", lambda: _call(describe))
    return describe


@cache
def _forces_kernel() -> Any:
    from .adjoint import pull_back
    from .compiled import ready

    _describe_kernel()
    ready("forces", lambda: _call(pull_back, gradient=True))
    return pull_back


def _call(kernel: Any, *, gradient: bool = False) -> None:
    """One grid point and one atom."""
    settings = BispectrumSettings(cutoff=1.0, two_j_max=2)
    images, table = images_of(4.0 * np.eye(3), np.full((1, 3), 0.5), 1.0), tables(2)
    species = species_of(np.ones(1, dtype=int), settings)
    around, out = (*neighbours(images, species), *wigner(table)), np.zeros((1, settings.n_components))
    if gradient:
        kernel(np.zeros((1, 3)), out, *around, *_back(table), np.zeros(images.positions.shape), np.zeros((3, 3)))
    else:
        kernel(np.zeros((1, 3)), *around, *_arrays(table.blocks), out)
