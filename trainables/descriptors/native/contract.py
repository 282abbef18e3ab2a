"""Compiled: the triple products of u, and their derivatives.  ``order.py`` says in which order, and why.

A block is up to four sums Σ C u^p u^q that share u^p.  Its terms stay in registers: eight sums, real and imaginary, at
most.
"""

from functools import partial
from typing import Any

from .compiled import compiled
from .vector import WIDTH, add, fma, fnma, load, mul, splat, spread, store, sub


@partial(compiled, inside=True)
def first_of(blocks: Any, i: Any) -> tuple[Any, Any, Any, Any]:
    """Where u^p and u^q of a block begin, the way to the next mb2, and where its terms begin."""
    return blocks[i, 0] * WIDTH, blocks[i, 1] * WIDTH, blocks[i, 2] * WIDTH, blocks[i, 3]


@partial(compiled, inside=True)
def parts(a_r: Any, a_i: Any, u: Any, s: Any, rr: Any, ii: Any, ri: Any, ir: Any) -> tuple[Any, Any, Any, Any]:
    """Sums of the four products of parts of a and the u at s: four, where a block has too few sums to fill the time."""
    b_r = load(u, s)
    b_i = load(u, s + WIDTH)
    return fma(a_r, b_r, rr), fma(a_i, b_i, ii), fma(a_r, b_i, ri), fma(a_i, b_r, ir)


@partial(compiled, inside=True)
def one(blocks: Any, i: Any, n: Any, terms: Any, u: Any) -> tuple[Any, Any]:
    """Real and imaginary part of the sum of a block that has one."""
    d, s, _, begin = first_of(blocks, i)
    rr = splat(0.0)
    ii = splat(0.0)
    ri = splat(0.0)
    ir = splat(0.0)
    for k in range(begin, begin + n):
        c = spread(terms, k)
        a_r = mul(c, load(u, d))
        a_i = mul(c, load(u, d + WIDTH))
        rr, ii, ri, ir = parts(a_r, a_i, u, s, rr, ii, ri, ir)
        d += 2 * WIDTH
        s -= 2 * WIDTH
    return sub(rr, ii), add(ri, ir)


@partial(compiled, inside=True)
def two(blocks: Any, i: Any, n: Any, terms: Any, u: Any) -> tuple[Any, Any, Any, Any]:
    """The same of a block of two sums."""
    d, s, step, begin = first_of(blocks, i)
    rr0 = splat(0.0)
    ii0 = splat(0.0)
    ri0 = splat(0.0)
    ir0 = splat(0.0)
    rr1 = splat(0.0)
    ii1 = splat(0.0)
    ri1 = splat(0.0)
    ir1 = splat(0.0)
    for k in range(begin, begin + n):
        c = spread(terms, k)
        a_r = mul(c, load(u, d))
        a_i = mul(c, load(u, d + WIDTH))
        rr0, ii0, ri0, ir0 = parts(a_r, a_i, u, s, rr0, ii0, ri0, ir0)
        rr1, ii1, ri1, ir1 = parts(a_r, a_i, u, s + step, rr1, ii1, ri1, ir1)
        d += 2 * WIDTH
        s -= 2 * WIDTH
    return sub(rr0, ii0), add(ri0, ir0), sub(rr1, ii1), add(ri1, ir1)


@partial(compiled, inside=True)
def more(a_r: Any, a_i: Any, u: Any, s: Any, r: Any, i: Any) -> tuple[Any, Any]:
    """The complex r + i with a times the u at s."""
    b_r = load(u, s)
    b_i = load(u, s + WIDTH)
    return fnma(a_i, b_i, fma(a_r, b_r, r)), fma(a_r, b_i, fma(a_i, b_r, i))


@partial(compiled, inside=True)
def three(blocks: Any, i: Any, n: Any, terms: Any, u: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """The same of a block of three sums."""
    d, s, step, begin = first_of(blocks, i)
    r0 = splat(0.0)
    i0 = splat(0.0)
    r1 = splat(0.0)
    i1 = splat(0.0)
    r2 = splat(0.0)
    i2 = splat(0.0)
    for k in range(begin, begin + n):
        c = spread(terms, k)
        a_r = mul(c, load(u, d))
        a_i = mul(c, load(u, d + WIDTH))
        r0, i0 = more(a_r, a_i, u, s, r0, i0)
        r1, i1 = more(a_r, a_i, u, s + step, r1, i1)
        r2, i2 = more(a_r, a_i, u, s + 2 * step, r2, i2)
        d += 2 * WIDTH
        s -= 2 * WIDTH
    return r0, i0, r1, i1, r2, i2


@partial(compiled, inside=True)
def four(blocks: Any, i: Any, n: Any, terms: Any, u: Any) -> tuple[Any, Any, Any, Any, Any, Any, Any, Any]:
    """The same of a block of four sums: eighteen multiplications for eleven loads."""
    d, s, step, begin = first_of(blocks, i)
    r0 = splat(0.0)
    i0 = splat(0.0)
    r1 = splat(0.0)
    i1 = splat(0.0)
    r2 = splat(0.0)
    i2 = splat(0.0)
    r3 = splat(0.0)
    i3 = splat(0.0)
    for k in range(begin, begin + n):
        c = spread(terms, k)
        a_r = mul(c, load(u, d))
        a_i = mul(c, load(u, d + WIDTH))
        r0, i0 = more(a_r, a_i, u, s, r0, i0)
        r1, i1 = more(a_r, a_i, u, s + step, r1, i1)
        r2, i2 = more(a_r, a_i, u, s + 2 * step, r2, i2)
        r3, i3 = more(a_r, a_i, u, s + 3 * step, r3, i3)
        d += 2 * WIDTH
        s -= 2 * WIDTH
    return r0, i0, r1, i1, r2, i2, r3, i3


@partial(compiled, inside=True)
def dot(u: Any, blocks: Any, i: Any, weights: Any, k: Any, r: Any, imaginary: Any, total: Any) -> Any:
    """``total`` and the k-th sum of a block times conj(u^o), real part."""
    here = (blocks[i, 4] + k * blocks[i, 5]) * WIDTH
    real = fma(load(u, here + WIDTH), imaginary, mul(load(u, here), r))
    return fma(spread(weights, blocks[i, 6] + k), real, total)


@compiled
def contract(classes: Any, blocks: Any, terms: Any, weights: Any, u: Any, out: Any) -> None:
    """The triple products, each a vector of ``out``."""
    for i in range(0, len(out), WIDTH):
        store(out, i, splat(0.0))
    for c in range(len(classes)):
        n = classes[c, 0]
        width = classes[c, 1]
        for i in range(classes[c, 2], classes[c, 3]):
            t = splat(0.0)
            if width == 4:
                r0, i0, r1, i1, r2, i2, r3, i3 = four(blocks, i, n, terms, u)
                t = dot(u, blocks, i, weights, 0, r0, i0, t)
                t = dot(u, blocks, i, weights, 1, r1, i1, t)
                t = dot(u, blocks, i, weights, 2, r2, i2, t)
                t = dot(u, blocks, i, weights, 3, r3, i3, t)
            elif width == 3:
                r0, i0, r1, i1, r2, i2 = three(blocks, i, n, terms, u)
                t = dot(u, blocks, i, weights, 0, r0, i0, t)
                t = dot(u, blocks, i, weights, 1, r1, i1, t)
                t = dot(u, blocks, i, weights, 2, r2, i2, t)
            elif width == 2:
                r0, i0, r1, i1 = two(blocks, i, n, terms, u)
                t = dot(u, blocks, i, weights, 0, r0, i0, t)
                t = dot(u, blocks, i, weights, 1, r1, i1, t)
            else:
                r0, i0 = one(blocks, i, n, terms, u)
                t = dot(u, blocks, i, weights, 0, r0, i0, t)
            here = blocks[i, 7] * WIDTH
            store(out, here, add(load(out, here), t))


@partial(compiled, inside=True)
def put(y: Any, blocks: Any, i: Any, weights: Any, k: Any, r: Any, imaginary: Any, beta: Any) -> None:
    """Add the k-th sum of a block, times ``beta``, to y at u^o."""
    here = (blocks[i, 4] + k * blocks[i, 5]) * WIDTH
    w = mul(spread(weights, blocks[i, 6] + k), beta)
    store(y, here, fma(w, r, load(y, here)))
    store(y, here + WIDTH, fma(w, imaginary, load(y, here + WIDTH)))


@compiled
def y_of(classes: Any, blocks: Any, terms: Any, weights: Any, u: Any, beta: Any, y: Any) -> None:
    """Y_o = Σ ``beta`` Σ C C u^p u^q, half of each: a vector of ``beta`` for each row of the products."""
    for i in range(0, len(y), WIDTH):
        store(y, i, splat(0.0))
    for c in range(len(classes)):
        n = classes[c, 0]
        width = classes[c, 1]
        for i in range(classes[c, 2], classes[c, 3]):
            b = load(beta, blocks[i, 7] * WIDTH)
            if width == 4:
                r0, i0, r1, i1, r2, i2, r3, i3 = four(blocks, i, n, terms, u)
                put(y, blocks, i, weights, 0, r0, i0, b)
                put(y, blocks, i, weights, 1, r1, i1, b)
                put(y, blocks, i, weights, 2, r2, i2, b)
                put(y, blocks, i, weights, 3, r3, i3, b)
            elif width == 3:
                r0, i0, r1, i1, r2, i2 = three(blocks, i, n, terms, u)
                put(y, blocks, i, weights, 0, r0, i0, b)
                put(y, blocks, i, weights, 1, r1, i1, b)
                put(y, blocks, i, weights, 2, r2, i2, b)
            elif width == 2:
                r0, i0, r1, i1 = two(blocks, i, n, terms, u)
                put(y, blocks, i, weights, 0, r0, i0, b)
                put(y, blocks, i, weights, 1, r1, i1, b)
            else:
                r0, i0 = one(blocks, i, n, terms, u)
                put(y, blocks, i, weights, 0, r0, i0, b)
