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
from .vector import WIDTH, add, below, fma, fnma, load, mul, splat, store, sub


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
def sum_monomials(
    two_j_max: Any, x: Any, y: Any, z: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, found: Any, n: Any,
    radial: Any, n_densities: Any, n_monomials: Any, powers: Any, sums: Any,
) -> None:  # fmt: skip
    """Sums over the neighbours of w f_c(r) conj(a)^P b^Q ξ^k, and of conj(b)^Q where P and Q are not 0."""
    for i in range(n_densities * n_monomials):
        store(sums, i * WIDTH, splat(0.0))
    px = load(x, 0)
    py = load(y, 0)
    pz = load(z, 0)
    n_radial = radial.shape[1]
    for f in range(n):
        k = found[f]
        cutoff = cutoffs[k]
        dx = sub(splat(images[k, 0]), px)
        dy = sub(splat(images[k, 1]), py)
        dz = sub(splat(images[k, 2]), pz)
        r2 = fma(dz, dz, fma(dy, dy, mul(dx, dx)))
        s = mul(r2, splat(1.0 / (cutoff * cutoff)))
        cosine = splat(radial[0, n_radial - 1])
        sine = splat(radial[1, n_radial - 1])
        switch = splat(radial[2, n_radial - 1])
        for m in range(n_radial - 2, -1, -1):
            cosine = fma(cosine, s, splat(radial[0, m]))
            sine = fma(sine, s, splat(radial[1, m]))
            switch = fma(switch, s, splat(radial[2, m]))
        switch = mul(below(r2, splat(cutoff * cutoff), switch), splat(weights[k]))
        sine = mul(sine, splat(1.0 / cutoff))
        a_i = mul(sine, dz)
        b_r = mul(sine, dy)
        b_i = sub(splat(0.0), mul(sine, dx))
        xi = fnma(splat(2.0), fma(b_r, b_r, mul(b_i, b_i)), splat(1.0))
        q_r = splat(1.0)
        q_i = splat(0.0)
        for q in range(two_j_max + 1):
            store(powers, (2 * q) * WIDTH, q_r)
            store(powers, (2 * q + 1) * WIDTH, q_i)
            t = fnma(q_i, b_i, mul(q_r, b_r))
            q_i = fma(q_i, b_r, mul(q_r, b_i))
            q_r = t
        p_r = switch
        p_i = splat(0.0)
        i = densities[k] * n_monomials * WIDTH
        for p in range(two_j_max + 1):
            for q in range(two_j_max - p + 1):
                q_r = load(powers, 2 * q * WIDTH)
                q_i = load(powers, (2 * q + 1) * WIDTH)
                rr = mul(p_r, q_r)
                ii = mul(p_i, q_i)
                ri = mul(p_r, q_i)
                ir = mul(p_i, q_r)
                count = (two_j_max - p - q) // 2 + 1
                z_r = sub(rr, ii)
                z_i = add(ri, ir)
                if q == 0 or p == 0:
                    for _ in range(count):
                        store(sums, i, add(load(sums, i), z_r))
                        store(sums, i + WIDTH, add(load(sums, i + WIDTH), z_i))
                        z_r = mul(z_r, xi)
                        z_i = mul(z_i, xi)
                        i += 2 * WIDTH
                else:
                    c_r = add(rr, ii)
                    c_i = sub(ir, ri)
                    i2 = i + 2 * count * WIDTH
                    for _ in range(count):
                        store(sums, i, add(load(sums, i), z_r))
                        store(sums, i + WIDTH, add(load(sums, i + WIDTH), z_i))
                        store(sums, i2, add(load(sums, i2), c_r))
                        store(sums, i2 + WIDTH, add(load(sums, i2 + WIDTH), c_i))
                        z_r = mul(z_r, xi)
                        z_i = mul(z_i, xi)
                        c_r = mul(c_r, xi)
                        c_i = mul(c_i, xi)
                        i += 2 * WIDTH
                        i2 += 2 * WIDTH
                    i = i2
            t = fnma(p_i, a_i, mul(p_r, cosine))
            p_i = fma(p_i, cosine, mul(p_r, a_i))
            p_r = t


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


@compiled
def contract(products: Any, cg: Any, u: Any, folded: Any, out: Any) -> None:
    """The triple products (p, q) -> o of the rows of ``products``."""
    for t in range(len(products)):
        p = products[t, 0]
        q = products[t, 1]
        o = products[t, 2]
        g = products[t, 3]
        u_p = products[t, 4] * WIDTH
        u_q = products[t, 5] * WIDTH
        u_o = products[t, 6] * WIDTH
        n_p = p + 1
        n_q = q + 1
        n_o = o + 1
        shift = (p + q - o) // 2  # of m: ma1 + ma2 = ma + shift
        total = splat(0.0)
        for ma in range(o // 2 + 1):
            low = max(0, ma + shift - q)
            n = min(p, ma + shift) - low + 1
            fold(cg, g + low * n_q + ma + shift - low, u, u_p, n_p, n_q, low, n, folded)
            row = splat(0.0)
            step = 2 * n_q * WIDTH
            for mb1 in range(n_p):
                mb2 = max(0, shift - mb1)
                last = min(q, o + shift - mb1)
                weight = 1.0
                if u_p == u_q:  # symmetric: the upper triangle, counted twice
                    mb2 = max(mb2, mb1)
                    weight = 2.0
                while mb2 <= last:
                    s = u_q + (2 * (mb2 * n_q + ma + shift - low)) * WIDTH
                    k = u_o + 2 * ((mb1 + mb2 - shift) * n_o + ma) * WIDTH
                    d = 2 * mb1 * n * WIDTH
                    w = 1.0 if u_p == u_q and mb2 == mb1 else weight
                    rr = splat(0.0)
                    ii = splat(0.0)
                    ri = splat(0.0)
                    ir = splat(0.0)
                    if mb2 < last:  # two at once: eight FMA for six loads
                        rr2 = splat(0.0)
                        ii2 = splat(0.0)
                        ri2 = splat(0.0)
                        ir2 = splat(0.0)
                        for _ in range(n):
                            a_r = load(folded, d)
                            a_i = load(folded, d + WIDTH)
                            b_r = load(u, s)
                            b_i = load(u, s + WIDTH)
                            rr = fma(a_r, b_r, rr)
                            ii = fma(a_i, b_i, ii)
                            ri = fma(a_r, b_i, ri)
                            ir = fma(a_i, b_r, ir)
                            b_r = load(u, s + step)
                            b_i = load(u, s + step + WIDTH)
                            rr2 = fma(a_r, b_r, rr2)
                            ii2 = fma(a_i, b_i, ii2)
                            ri2 = fma(a_r, b_i, ri2)
                            ir2 = fma(a_i, b_r, ir2)
                            d += 2 * WIDTH
                            s -= 2 * WIDTH
                        real = fma(load(u, k + WIDTH), add(ri, ir), mul(load(u, k), sub(rr, ii)))
                        row = fma(splat(w * cg[g + mb1 * n_q + mb2]), real, row)
                        k += 2 * n_o * WIDTH
                        real = fma(load(u, k + WIDTH), add(ri2, ir2), mul(load(u, k), sub(rr2, ii2)))
                        row = fma(splat(weight * cg[g + mb1 * n_q + mb2 + 1]), real, row)
                        mb2 += 2
                    else:
                        for _ in range(n):
                            a_r = load(folded, d)
                            a_i = load(folded, d + WIDTH)
                            b_r = load(u, s)
                            b_i = load(u, s + WIDTH)
                            rr = fma(a_r, b_r, rr)
                            ii = fma(a_i, b_i, ii)
                            ri = fma(a_r, b_i, ri)
                            ir = fma(a_i, b_r, ir)
                            d += 2 * WIDTH
                            s -= 2 * WIDTH
                        real = fma(load(u, k + WIDTH), add(ri, ir), mul(load(u, k), sub(rr, ii)))
                        row = fma(splat(w * cg[g + mb1 * n_q + mb2]), real, row)
                        mb2 += 1
            total = add(total, row) if 2 * ma == o else fma(splat(2.0), row, total)
        store(out, t * WIDTH, total)


@compiled
def describe(
    points: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, first_image: Any, n_boxes: Any, origin: Any,
    width: Any, cutoff: Any, two_j_max: Any, n_densities: Any, n_monomials: Any, n_u: Any, rows: Any, coefficients: Any,
    radial: Any, products: Any, cg: Any, component: Any, scale: Any, out: Any,
) -> None:  # fmt: skip
    """Bispectrum of ``points`` (n, 3) into ``out`` (n, n_components).

    Of each image ``weights``, ``cutoffs`` and ``densities`` say how much it counts, within which distance, and in which
    density; ``cutoff`` is the largest.  The other arguments are those of Images and Tables.
    """
    x = np.empty(WIDTH)
    y = np.empty(WIDTH)
    z = np.empty(WIDTH)
    found = np.empty(len(images), np.int64)
    sums = np.empty(n_densities * n_monomials * WIDTH)
    powers = np.empty(2 * (two_j_max + 1) * WIDTH)
    u = np.empty(n_densities * n_u * WIDTH)
    folded = np.empty(2 * (two_j_max + 1) ** 2 * WIDTH)
    values = np.empty(len(products) * WIDTH)
    for start in range(0, len(points), WIDTH):
        for lane in range(WIDTH):
            k = min(start + lane, len(points) - 1)
            x[lane] = points[k, 0]
            y[lane] = points[k, 1]
            z[lane] = points[k, 2]
        n = near(x, y, z, images, cutoffs, first_image, n_boxes, origin, width, cutoff, found)
        sum_monomials(
            two_j_max, x, y, z, images, weights, cutoffs, densities, found, n, radial, n_densities, n_monomials,
            powers, sums,
        )  # fmt: skip
        wigner(sums, rows, coefficients, n_densities, n_monomials, n_u, u)
        contract(products, cg, u, folded, values)
        for lane in range(min(WIDTH, len(points) - start)):
            for t in range(len(component)):
                out[start + lane, t] = scale[t] * values[component[t] * WIDTH + lane]
