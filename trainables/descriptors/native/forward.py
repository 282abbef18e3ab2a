"""The derivative of the bispectrum of each grid point along each neighbour: the way forward, where forces go back.

Lengths in Å.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..bispectrum import check
from ..check import has_numba
from ..settings import BispectrumSettings
from ..species import species_of
from . import engine
from .images import images_of
from .tables import Int64, Tables, tables

POINTS = 128  # grid points of one call of the kernel
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairDerivatives:
    """∂B/∂R of all pairs of a grid point and an image of an atom within the cutoff of it, ordered by grid points.

    With several cutoffs there is a pair for each that the image is within, whose values are 0 for the others.
    What moves is a sum of pairs.  Atom k along an axis: its own pairs' values.  A strain ε that takes atoms, cell and
    grid points from r to (1 + ε) r: ∂B/∂ε_ab = Σ ``values``_a ``displacement``_b over the pairs of a grid point.

    point: number of the grid point in C order, (n_pairs,).
    atom: that the neighbour is an image of, (n_pairs,).
    displacement: from the grid point to the neighbour, (n_pairs, 3) [Å].
    values: derivative of the grid point's descriptor along x, y, z of the neighbour, (n_pairs, 3, n_components) [1/Å].
    """

    point: Int64
    atom: Int64
    displacement: Float64
    values: NDArray[np.floating]


def pair_derivatives(
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    *,
    points: Sequence[int] | Int64,
    dtype: type[np.floating] = np.float32,
    threads: int = 1,
) -> PairDerivatives:
    """∂B(r)/∂R of some grid points and all neighbours R of each.

    Neighbours number 4π/3 R_cut³ times the density of atoms: 7 at 3 Å in aluminium, with 3 · 55 numbers each for
    2J_max = 8.  For a large grid, take some thousand points at a time.

    Args:
        cell, positions, numbers, grid: as in ``bispectrum``.
        settings: as in ``bispectrum``; the native engine computes, whatever they name.
        points: numbers of the grid points in C order, increasing, (n,).
        dtype: of the values, which are computed in float64.
        threads: that share the work.

    Raises:
        InputError: as ``bispectrum``, points outside of the grid, or no numba.

    Source: Thompson et al., J. Comput. Phys. 285, 316 (2015), Eq. 15, 16.
    """
    if not has_numba():
        raise InputError("derivatives of descriptors along each neighbour need numba, which cannot be loaded here")
    if settings.inner:
        alone = partial(pair_derivatives, cell, positions, numbers, grid, points=points, dtype=dtype, threads=threads)
        return _together([alone(one) for one in settings.of_each_cutoff])
    species = check(cell, numbers, grid, settings)
    points = np.asarray(points, np.int64)
    if len(points) and not (points[0] >= 0 and points[-1] < prod(grid) and (np.diff(points) > 0).all()):
        raise InputError(
            f"grid points {points[0]} to {points[-1]} do not increase within a grid of {prod(grid)}; number them in C "
            "order"
        )
    kernel = _kernel()
    images, table = images_of(cell, positions, species.cutoffs.max()), tables(settings.two_j_max, species.n_densities)
    around, about, ahead = engine.neighbours(images, species), engine.wigner(table), _ahead(table)
    parts = [points[start : start + POINTS] for start in range(0, len(points), POINTS)]

    def find(part: Int64) -> tuple[Int64, Int64]:
        return _pairs(engine.coordinates(cell, grid, part), around)

    pairs = list(engine.in_threads(find, parts, threads))
    end = np.cumsum([0] + [len(found) for _, found in pairs])
    values = np.empty((end[-1], 3, settings.n_components), dtype)

    def compute(k: int) -> None:
        part = values[end[k] : end[k + 1]]
        found = part if part.dtype == np.float64 else np.empty(part.shape)
        kernel(engine.coordinates(cell, grid, parts[k]), *pairs[k], *around, *about, *ahead, found)
        if found is not part:
            part[...] = found

    for _ in engine.in_threads(compute, range(len(parts)), threads):
        pass
    point = np.concatenate(
        [np.empty(0, np.int64)]
        + [np.repeat(part, np.diff(first)) for part, (first, _) in zip(parts, pairs, strict=True)]
    )
    image = np.concatenate([np.empty(0, np.int64)] + [found for _, found in pairs])
    index = np.stack(np.unravel_index(point, grid), axis=1) / np.array(grid)
    return PairDerivatives(point, images.owner[image], images.positions[image] - index @ cell, values)


def _together(parts: Sequence[PairDerivatives]) -> PairDerivatives:
    """Those of each cutoff, with zeros for the components of the others."""
    n, order = parts[0].values.shape[-1], np.argsort(np.concatenate([part.point for part in parts]), kind="stable")
    point, atom, displacement = (
        np.concatenate([getattr(part, name) for part in parts])[order] for name in ("point", "atom", "displacement")
    )
    padded = [np.pad(part.values, ((0, 0), (0, 0), (k * n, (len(parts) - 1 - k) * n))) for k, part in enumerate(parts)]
    return PairDerivatives(point, atom, displacement, np.concatenate(padded)[order])


@dataclass(frozen=True, eq=False)
class PairTables:
    """What the kernel reads beside ``Tables``.

    first_row: where the rows of each o begin in ``Tables.rows``, and their end, (2J_max + 2,).
    row_of: the row that each monomial is the highest power of ξ of, (n_monomials / 2,).
    places: where the dual of each way begins, counted in vectors, (n_ways,).
    blocks: o, where the duals begin, and the products of its four ways, (n_blocks, 6); density after density.
    first_block: where those of each density begin, and their end, (n_densities + 1,).
    """

    first_row: Int64
    row_of: Int64
    places: Int64
    blocks: Int64
    first_block: Int64


@cache
def pair_tables(two_j_max: int, n_densities: int) -> PairTables:
    """The tables of one 2J_max and number of densities."""
    table = tables(two_j_max, n_densities)
    o_of_row = np.searchsorted(table.first, table.rows[:, 0], side="right") - 1
    first_row = np.searchsorted(o_of_row, np.arange(two_j_max + 2))
    # A row's monomials begin at k = 0, and those of one (P, Q) belong to o = P + Q, P + Q + 2, ...
    row_of = np.lexsort((o_of_row, table.rows[:, 3]))
    places, blocks, begin, first_block = np.empty(len(table.y_products), np.int64), [], 0, [0]
    density_of = table.y_products[:, 6] // table.first[-1]
    for density in range(n_densities):
        for o in range(two_j_max + 1):
            ways = np.flatnonzero((table.y_products[:, 2] == o) & (density_of == density))
            for some in (ways[k : k + 4] for k in range(0, len(ways), 4)):
                places[some] = begin + np.arange(len(some))
                products = [*table.y_products[some, 7], *[len(table.products)] * (4 - len(some))]
                blocks.append((o, begin, *products))
                begin += 8 * int(first_row[o + 1] - first_row[o])
        first_block.append(len(blocks))
    return PairTables(
        first_row.astype(np.int64),
        row_of.astype(np.int64),
        places,
        np.array(blocks, np.int64),
        np.array(first_block, np.int64),
    )


def _ahead(table: Tables) -> tuple[Any, ...]:
    more = pair_tables(table.two_j_max, table.n_densities)
    ways = table.cg, table.y_products, table.y_scale, table.y_rows
    return *ways, more.first_row, more.row_of, more.places, more.blocks, more.first_block


def _pairs(points: Float64, around: tuple[Any, ...]) -> tuple[Int64, Int64]:
    """Where the pairs of each point begin, and the image of each pair."""
    from .forward_kernel import list_pairs

    positions, _, cutoffs, _, *boxes = around
    first, nothing = np.empty(len(points) + 1, np.int64), np.empty(0, np.int64)
    list_pairs(points, positions, cutoffs, *boxes, first, nothing)
    pairs = np.empty(first[-1], np.int64)
    list_pairs(points, positions, cutoffs, *boxes, first, pairs)
    return first, pairs


@cache
def _kernel() -> Any:
    from .compiled import ready
    from .forward_kernel import derive

    def call() -> None:
        """One grid point and one atom."""
        settings, point = BispectrumSettings(cutoff=1.0, two_j_max=2), np.zeros((1, 3))
        images = images_of(4.0 * np.eye(3), np.full((1, 3), 0.5), 1.0)
        around = engine.neighbours(images, species_of(np.ones(1, dtype=int), settings))
        first, pairs = _pairs(point, around)
        values = np.empty((len(pairs), 3, settings.n_components))
        derive(point, first, pairs, *around, *engine.wigner(tables(2)), *_ahead(tables(2)), values)

    ready("derivatives along each atom", call)
    return derive
