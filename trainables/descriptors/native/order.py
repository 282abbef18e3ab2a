"""In which order the kernels compute their sums: those of equal length one after another.

The sums have one to fifteen terms.  A processor guesses when a loop ends.  It guesses wrong where the length changes,
and each wrong guess costs as much as ten terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The sums Σ_ma1 C u^p_{mb1,ma1} u^q_{mb2,ma2} of triple products; a block is those of up to four mb2 in turn.

    classes: number of terms, number of sums, the first block that has them, and the end, (n_classes, 4).
    blocks: (n_blocks, 8): where the first u^p begins, where the first u^q does, from a u^q to that of the next mb2,
        where its ``terms`` begin; where u^o begins, from a u^o to that of the next mb; where its ``weights`` begin, and
        the row of the products.  u are counted in numbers.
    terms: C^{o,ma}_{p ma1 q ma2} of each term of a sum.
    weights: C^{o,mb}_{p mb1 q mb2} of each sum, times how often it counts.
    """

    classes: Int64
    blocks: Int32
    terms: Float64
    weights: Float64


def blocks_of(products: Int64, cg: Float64, *, mirrored: bool) -> Blocks:
    """The blocks of triple products.

    Of the sum over ma and mb half is computed, as the other half is its mirror image: 2 ma < o, and 2 mb <= o where
    2 ma = o.  The operand with fewer u is multiplied by C.

    Args:
        products: (p, q, o, where their cg begin, where u^p, u^q and u^o do), as in ``Tables``, (n_products, 7 or more).
        cg: Clebsch-Gordan coefficients.
        mirrored: whether what is computed counts for its mirror image, too.
    """
    known, found = dict[tuple[int, bool], Int64](), []
    terms, weights = list[float](), list[float]()
    for row, (p, q, o, g, u_p, u_q, u_o) in enumerate(products[:, :7].tolist()):
        key = g, u_p == u_q
        if key not in known:
            c = cg[g : g + (p + 1) * (q + 1)].reshape(p + 1, q + 1)
            known[key] = _blocks_of_one(c if p <= q else c.T, o, u_p == u_q, mirrored, terms, weights)
        few, many = (u_p, u_q) if p <= q else (u_q, u_p)
        found.append(known[key] + np.array([0, 0, few, many, 0, 0, u_o, 0, 0, row]))
    blocks = np.concatenate(found)
    blocks = blocks[np.lexsort((blocks[:, 1], blocks[:, 0]))]
    return Blocks(_classes(blocks[:, :2]), blocks[:, 2:].astype(np.int32), np.array(terms), np.array(weights))


def _blocks_of_one(
    c: Float64, o: int, equal: bool, mirrored: bool, terms: list[float], weights: list[float]
) -> Int64:  # fmt: skip
    """Number of terms, number of sums, and a row of ``Blocks.blocks`` for each block of one product."""
    p, q = c.shape[0] - 1, c.shape[1] - 1
    shift = (p + q - o) // 2  # of m: ma1 + ma2 = ma + shift
    counted = 2.0 * np.triu(c, 1) + np.diag(np.diag(c)) if equal else c
    rows = []
    for ma in range(o // 2 + 1):
        low, high = max(0, ma + shift - q), min(p, ma + shift)
        begin = len(terms)
        terms.extend(c[ma1, ma + shift - ma1] for ma1 in range(low, high + 1))
        last = o // 2 if 2 * ma == o else o
        for mb1 in range(p + 1):
            mb2 = max(0, shift - mb1, mb1 if equal else 0)
            for width in _widths(min(q, last + shift - mb1) - mb2 + 1):
                mb = mb1 + mb2 - shift
                u = 2 * (mb1 * (p + 1) + low), 2 * (mb2 * (q + 1) + ma + shift - low), 2 * (q + 1)
                u_o = 2 * (mb * (o + 1) + ma), 2 * (o + 1)
                rows.append((high - low + 1, width, *u, begin, *u_o, len(weights), 0))
                for k in range(width):
                    itself = 2 * ma == o == 2 * (mb + k)
                    weights.append(counted[mb1, mb2 + k] * (2.0 if mirrored and not itself else 1.0))
                mb2 += width
    return np.array(rows, np.int64).reshape(-1, 10)


def _widths(n: int) -> Iterator[int]:
    """Parts of n, four at most; one only if n is one."""
    while n > 0:
        width = 3 if n == 5 else min(n, 4)
        yield width
        n -= width


def _classes(keys: Int64) -> Int64:
    """Each key of sorted rows, and where its rows begin and end."""
    found, first = np.unique(keys, axis=0, return_index=True)
    return np.column_stack([found, first, [*first[1:], len(keys)]]).astype(np.int64)


def monomials_of(where: dict[tuple[int, int], int], two_j_max: int) -> tuple[Int64, Int32]:
    """Number of powers of ξ, the first monomial that has them, and the end; and of each conj(a)^P b^Q a row.

    That is (P, which power of b, where the powers of ξ begin, the number of the row in ``where``), of the powers 1, b,
    b², ..., 1, conj(b), conj(b)², ...
    """
    rows = []
    for number, ((p, q), begin) in enumerate(where.items()):
        count = (two_j_max - p - abs(q)) // 2 + 1
        rows.append((count, p, q if q >= 0 else two_j_max + 1 - q, begin, number))
    found = np.array(sorted(rows), np.int64)
    return _classes(found[:, :1]), found[:, 1:].astype(np.int32)
