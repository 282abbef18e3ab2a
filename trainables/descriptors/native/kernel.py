"""Compiled: the bispectrum of grid points.  WIDTH points at once, one in each lane of the vectors.

Four steps, each a function: ``near`` finds the atoms; ``sum_monomials`` sums conj(a)^P b^Q ξ^k over them; ``wigner``
makes the density's u^j of the sums (tables.py); ``contract`` makes

    B_{j1 j2 j} = Σ conj(u^j_{mb,ma}) Σ C C u^j1_{mb1,ma1} u^j2_{mb2,ma2}

of them, with C for C^{j,m}_{j1 m1 j2 m2}, and of the sum over ma half, as the other half is its mirror image.  All
sizes are arguments: one compilation serves every 2J_max.

Complex numbers lie as two vectors, real and imaginary.  Names: ``_r`` and ``_i`` are the parts of one.

Source: Thompson et al., J. Comput. Phys. 285, 316 (2015), Eq. 5, 9 to 11; Bartók et al., PRB 87, 184115 (2013).
"""

from functools import partial
from typing import Any

import numpy as np

from .compiled import compiled
from .contract import contract
from .vector import WIDTH, add, below, fma, fnma, load, mul, splat, spread, store, sub


@partial(compiled, inside=True)
def aligned(n: Any) -> Any:
    """Room for n vectors, where none lies across two lines of the cache."""
    room = np.empty((n + 1) * WIDTH)
    first = (-(room.ctypes.data // 8)) % WIDTH
    return room[first : first + n * WIDTH]


@compiled
def near(
    x: Any, y: Any, z: Any, images: Any, cutoffs: Any, first: Any, n_boxes: Any, origin: Any, width: Any, r: Any,
    found: Any,
) -> int:  # fmt: skip
    """Write the images that the lanes' points may see into ``found``; how many there are.  ``r``: largest cutoff."""
    n = 0
    x0, x1, y0, y1, z0, z1 = x.min(), x.max(), y.min(), y.max(), z.min(), z.max()
    bx0 = max(0, int((x0 - r - origin[0]) / width))
    bx1 = min(n_boxes[0] - 1, int((x1 + r - origin[0]) / width))
    by0 = max(0, int((y0 - r - origin[1]) / width))
    by1 = min(n_boxes[1] - 1, int((y1 + r - origin[1]) / width))
    bz0 = max(0, int((z0 - r - origin[2]) / width))
    bz1 = min(n_boxes[2] - 1, int((z1 + r - origin[2]) / width))
    if bz1 < bz0:
        return 0
    for bx in range(bx0, bx1 + 1):
        for by in range(by0, by1 + 1):
            row = (bx * n_boxes[1] + by) * n_boxes[2]
            for k in range(first[row + bz0], first[row + bz1 + 1]):
                dx = max(x0 - images[k, 0], 0.0, images[k, 0] - x1)
                dy = max(y0 - images[k, 1], 0.0, images[k, 1] - y1)
                dz = max(z0 - images[k, 2], 0.0, images[k, 2] - z1)
                if dx * dx + dy * dy + dz * dz < cutoffs[k] * cutoffs[k]:
                    found[n] = k
                    n += 1
    return n


@compiled
def in_pairs(found: Any, n: Any, densities: Any, n_densities: Any, pairs: Any) -> int:
    """Write the images that were ``found`` into ``pairs``, two of one density after another; how many pairs there are.

    One that is left over is a pair with itself.
    """
    n_pairs = 0
    for density in range(n_densities):
        left = -1
        for f in range(n):
            image = found[f]
            if densities[image] == density:
                if left < 0:
                    left = image
                else:
                    pairs[2 * n_pairs] = left
                    pairs[2 * n_pairs + 1] = image
                    n_pairs += 1
                    left = -1
        if left >= 0:
            pairs[2 * n_pairs] = left
            pairs[2 * n_pairs + 1] = left
            n_pairs += 1
    return n_pairs


@partial(compiled, inside=True)
def powers_of(
    two_j_max: Any, px: Any, py: Any, pz: Any, images: Any, weights: Any, cutoffs: Any, image: Any, counts: Any,
    radial: Any, powers: Any, begin: Any,
) -> Any:  # fmt: skip
    """w f_c conj(a)^P, b^Q and conj(b)^Q of one image, each third and fourth vector of ``powers``, and its ξ."""
    cutoff = cutoffs[image]
    dx = sub(spread(images, 3 * image), px)
    dy = sub(spread(images, 3 * image + 1), py)
    dz = sub(spread(images, 3 * image + 2), pz)
    r2 = fma(dz, dz, fma(dy, dy, mul(dx, dx)))
    s = mul(r2, splat(1.0 / (cutoff * cutoff)))
    n = radial.shape[1]
    cosine = spread(radial, n - 1)
    sine = spread(radial, 2 * n - 1)
    switch = spread(radial, 3 * n - 1)
    for m in range(n - 2, -1, -1):
        cosine = fma(cosine, s, spread(radial, m))
        sine = fma(sine, s, spread(radial, n + m))
        switch = fma(switch, s, spread(radial, 2 * n + m))
    p_r = mul(below(r2, splat(cutoff * cutoff), switch), splat(counts * weights[image]))
    p_i = splat(0.0)
    sine = mul(sine, splat(1.0 / cutoff))
    a_i = mul(sine, dz)
    b_r = mul(sine, dy)
    b_i = sub(splat(0.0), mul(sine, dx))
    q_r = splat(1.0)
    q_i = splat(0.0)
    for k in range(two_j_max + 1):
        p = begin + 4 * k * WIDTH
        store(powers, p, p_r)
        store(powers, p + WIDTH, p_i)
        t = fnma(p_i, a_i, mul(p_r, cosine))
        p_i = fma(p_i, cosine, mul(p_r, a_i))
        p_r = t
        q = p + 4 * (two_j_max + 1) * WIDTH
        store(powers, q, q_r)
        store(powers, q + WIDTH, q_i)
        q += 4 * (two_j_max + 1) * WIDTH
        store(powers, q, q_r)
        store(powers, q + WIDTH, sub(splat(0.0), q_i))
        t = fnma(q_i, b_i, mul(q_r, b_r))
        q_i = fma(q_i, b_r, mul(q_r, b_i))
        q_r = t
    return fnma(splat(2.0), fma(b_r, b_r, mul(b_i, b_i)), splat(1.0))


@compiled
def sum_monomials(
    two_j_max: Any, x: Any, y: Any, z: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, found: Any, n: Any,
    radial: Any, n_densities: Any, n_monomials: Any, lengths: Any, monomials: Any, pairs: Any, powers: Any, sums: Any,
) -> None:  # fmt: skip
    """Sums over the neighbours of w f_c(r) conj(a)^P b^Q ξ^k, and of conj(b)^Q where P and Q are not 0.

    Two neighbours at once, so that each sum is loaded and stored half as often; one after the other, so that a sum is
    the same whichever neighbours of other lanes, which add nothing, come between.
    """
    for i in range(n_densities * n_monomials):
        store(sums, i * WIDTH, splat(0.0))
    px = load(x, 0)
    py = load(y, 0)
    pz = load(z, 0)
    b_powers = 4 * (two_j_max + 1) * WIDTH
    for pair in range(in_pairs(found, n, densities, n_densities, pairs)):
        image = pairs[2 * pair]
        other = pairs[2 * pair + 1]
        xi = powers_of(two_j_max, px, py, pz, images, weights, cutoffs, image, 1.0, radial, powers, 0)
        counts = 0.0 if other == image else 1.0
        xi2 = powers_of(two_j_max, px, py, pz, images, weights, cutoffs, other, counts, radial, powers, 2 * WIDTH)
        begin = densities[image] * n_monomials
        for length in range(len(lengths)):
            count = lengths[length, 0]
            for m in range(lengths[length, 1], lengths[length, 2]):
                p = 4 * monomials[m, 0] * WIDTH
                q = 4 * monomials[m, 1] * WIDTH + b_powers
                p_r = load(powers, p)
                p_i = load(powers, p + WIDTH)
                q_r = load(powers, q)
                q_i = load(powers, q + WIDTH)
                z_r = fnma(p_i, q_i, mul(p_r, q_r))
                z_i = fma(p_i, q_r, mul(p_r, q_i))
                p_r = load(powers, p + 2 * WIDTH)
                p_i = load(powers, p + 3 * WIDTH)
                q_r = load(powers, q + 2 * WIDTH)
                q_i = load(powers, q + 3 * WIDTH)
                y_r = fnma(p_i, q_i, mul(p_r, q_r))
                y_i = fma(p_i, q_r, mul(p_r, q_i))
                i = (begin + monomials[m, 2]) * WIDTH
                for _ in range(count):
                    store(sums, i, add(add(load(sums, i), z_r), y_r))
                    store(sums, i + WIDTH, add(add(load(sums, i + WIDTH), z_i), y_i))
                    z_r = mul(z_r, xi)
                    z_i = mul(z_i, xi)
                    y_r = mul(y_r, xi2)
                    y_i = mul(y_i, xi2)
                    i += 2 * WIDTH


@compiled
def wigner(sums: Any, rows: Any, coefficients: Any, n_densities: Any, n_monomials: Any, n_u: Any, u: Any) -> None:
    """The u^j of each density: those of the neighbours, and the identity for the grid point itself."""
    for density in range(n_densities):
        for r in range(len(rows)):
            u_r = splat(0.0)
            u_i = splat(0.0)
            begin = (density * n_monomials + rows[r, 3]) * WIDTH
            for k in range(rows[r, 4]):
                c = splat(coefficients[rows[r, 5] + k])
                u_r = fma(c, load(sums, begin), u_r)
                u_i = fma(c, load(sums, begin + WIDTH), u_i)
                begin += 2 * WIDTH
            if rows[r, 6]:
                u_r = add(u_r, splat(1.0))
            here = (density * n_u + rows[r, 0]) * WIDTH
            mirror = (density * n_u + rows[r, 1]) * WIDTH
            if rows[r, 2] > 0:
                store(u, mirror, u_r)
                store(u, mirror + WIDTH, sub(splat(0.0), u_i))
            else:
                store(u, mirror, sub(splat(0.0), u_r))
                store(u, mirror + WIDTH, u_i)
            store(u, here, u_r)
            store(u, here + WIDTH, u_i)


@compiled
def describe(
    points: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, first_image: Any, n_boxes: Any, origin: Any,
    width: Any, cutoff: Any, two_j_max: Any, n_densities: Any, n_monomials: Any, n_u: Any, rows: Any, coefficients: Any,
    radial: Any, lengths: Any, monomials: Any, n_products: Any, component: Any, scale: Any, classes: Any, blocks: Any,
    terms: Any, counted: Any, out: Any,
) -> None:  # fmt: skip
    """Bispectrum of ``points`` (n, 3) into ``out`` (n, n_components).

    Of each image ``weights``, ``cutoffs`` and ``densities`` say how much it counts, within which distance, and in which
    density; ``cutoff`` is the largest.  The other arguments are those of Images and Tables.
    """
    x = aligned(1)
    y = aligned(1)
    z = aligned(1)
    found = np.empty(len(images), np.int64)
    pairs = np.empty(2 * (len(images) + n_densities), np.int64)
    sums = aligned(n_densities * n_monomials)
    powers = aligned(12 * (two_j_max + 1))
    u = aligned(n_densities * n_u)
    values = aligned(n_products)
    for start in range(0, len(points), WIDTH):
        for lane in range(WIDTH):
            k = min(start + lane, len(points) - 1)
            x[lane] = points[k, 0]
            y[lane] = points[k, 1]
            z[lane] = points[k, 2]
        n = near(x, y, z, images, cutoffs, first_image, n_boxes, origin, width, cutoff, found)
        sum_monomials(
            two_j_max, x, y, z, images, weights, cutoffs, densities, found, n, radial, n_densities, n_monomials,
            lengths, monomials, pairs, powers, sums,
        )  # fmt: skip
        wigner(sums, rows, coefficients, n_densities, n_monomials, n_u, u)
        contract(classes, blocks, terms, counted, u, values)
        for lane in range(min(WIDTH, len(points) - start)):
            for t in range(len(component)):
                out[start + lane, t] = scale[t] * values[component[t] * WIDTH + lane]
