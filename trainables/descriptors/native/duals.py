"""Compiled: the derivative of each triple product with respect to each of its u, one by one.

``contract.py`` has their sum, for a gradient that is known.
"""

from functools import partial
from typing import Any

from .compiled import compiled
from .contract import parts
from .vector import WIDTH, add, fma, load, mul, splat, store, sub


@partial(compiled, inside=True)
def fold(cg: Any, begin: Any, u: Any, u_p: Any, n_p: Any, n_q: Any, low: Any, n: Any, folded: Any) -> None:
    """C^{o,ma}_{p ma1 q ma2} u^p_{mb1,ma1} for one ma of u^o: the operand that all products of that ma share."""
    d = 0
    for mb1 in range(n_p):
        s = u_p + 2 * (mb1 * n_p + low) * WIDTH
        for k in range(n):
            c = splat(cg[begin + k * (n_q - 1)])
            store(folded, d, mul(c, load(u, s)))
            store(folded, d + WIDTH, mul(c, load(u, s + WIDTH)))
            d += 2 * WIDTH
            s += 2 * WIDTH


@partial(compiled, inside=True)
def y_row(products: Any, t: Any, cg: Any, u: Any, folded: Any, ma: Any, row: Any) -> None:
    """Of the way ``products[t]``, (p, q) -> o, and one ma: Σ C C u^p u^q of each mb into ``row``."""
    p = products[t, 0]
    q = products[t, 1]
    o = products[t, 2]
    g = products[t, 3]
    u_p = products[t, 4] * WIDTH
    u_q = products[t, 5] * WIDTH
    n_p = p + 1
    n_q = q + 1
    shift = (p + q - o) // 2
    low = max(0, ma + shift - q)
    n = min(p, ma + shift) - low + 1
    fold(cg, g + low * n_q + ma + shift - low, u, u_p, n_p, n_q, low, n, folded)
    for k in range(2 * (o + 1)):
        store(row, k * WIDTH, splat(0.0))
    step = 2 * n_q * WIDTH
    for mb1 in range(n_p):
        mb2 = max(0, shift - mb1)
        last = min(q, o + shift - mb1)
        weight = 1.0
        if u_p == u_q:
            mb2 = max(mb2, mb1)
            weight = 2.0
        while mb2 <= last:
            s = u_q + 2 * (mb2 * n_q + ma + shift - low) * WIDTH
            k = 2 * (mb1 + mb2 - shift) * WIDTH
            d = 2 * mb1 * n * WIDTH
            w = splat((1.0 if u_p == u_q and mb2 == mb1 else weight) * cg[g + mb1 * n_q + mb2])
            rr = splat(0.0)
            ii = splat(0.0)
            ri = splat(0.0)
            ir = splat(0.0)
            if mb2 < last:
                rr2 = splat(0.0)
                ii2 = splat(0.0)
                ri2 = splat(0.0)
                ir2 = splat(0.0)
                for _ in range(n):
                    a_r = load(folded, d)
                    a_i = load(folded, d + WIDTH)
                    rr, ii, ri, ir = parts(a_r, a_i, u, s, rr, ii, ri, ir)
                    rr2, ii2, ri2, ir2 = parts(a_r, a_i, u, s + step, rr2, ii2, ri2, ir2)
                    d += 2 * WIDTH
                    s -= 2 * WIDTH
                store(row, k, fma(w, sub(rr, ii), load(row, k)))
                store(row, k + WIDTH, fma(w, add(ri, ir), load(row, k + WIDTH)))
                w = splat(weight * cg[g + mb1 * n_q + mb2 + 1])
                k += 2 * WIDTH
                store(row, k, fma(w, sub(rr2, ii2), load(row, k)))
                store(row, k + WIDTH, fma(w, add(ri2, ir2), load(row, k + WIDTH)))
                mb2 += 2
            else:
                for _ in range(n):
                    a_r = load(folded, d)
                    a_i = load(folded, d + WIDTH)
                    rr, ii, ri, ir = parts(a_r, a_i, u, s, rr, ii, ri, ir)
                    d += 2 * WIDTH
                    s -= 2 * WIDTH
                store(row, k, fma(w, sub(rr, ii), load(row, k)))
                store(row, k + WIDTH, fma(w, add(ri, ir), load(row, k + WIDTH)))
                mb2 += 1


@compiled
def duals_of(
    ways: Any, cg: Any, scale: Any, places: Any, n_u: Any, first_row: Any, y_rows: Any, u: Any, folded: Any, row: Any,
    y: Any, duals: Any,
) -> None:  # fmt: skip
    """∂B_k/∂u_o of each way, in the order of ``rows`` and with their factors, four ways side by side."""
    for t in range(len(ways)):
        o = ways[t, 2]
        c = splat(scale[t])
        for ma in range(o // 2 + 1):
            y_row(ways, t, cg, u, folded, ma, row)
            for mb in range(o + 1):
                k = 2 * (mb * (o + 1) + ma) * WIDTH
                store(y, k, mul(c, load(row, 2 * mb * WIDTH)))
                store(y, k + WIDTH, mul(c, load(row, (2 * mb + 1) * WIDTH)))
        i = places[t] * WIDTH
        for r in range(first_row[o], first_row[o + 1]):
            k = (y_rows[r, 0] - ways[t, 6] % n_u) * WIDTH
            store(duals, i, mul(splat(float(y_rows[r, 1])), load(y, k)))
            store(duals, i + 4 * WIDTH, mul(splat(float(y_rows[r, 2])), load(y, k + WIDTH)))
            i += 8 * WIDTH
