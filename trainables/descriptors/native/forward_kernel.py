"""Compiled: ∂B/∂R of each pair of a grid point and a neighbour at R.  WIDTH points at once, as in ``kernel.py``.

A component is linear in what one neighbour adds to u: ∂B_k/∂R = Σ_o Re Σ conj(∂B_k/∂u_o) ∂(w f_c u_o)/∂R.  The first
factor, the *dual*, is made once a point: ``duals_of``, one for each way of ``Tables.y_products``.  The second, the
*slopes*, once a pair: ``slopes_of``.  ``multiply`` sums their products, four ways and three axes at once, so that seven
loads serve twelve FMA.

Source: Thompson et al., J. Comput. Phys. 285, 316 (2015), Eq. 15, 16.
"""

from functools import partial
from typing import Any

import numpy as np

from .adjoint import series
from .compiled import compiled
from .duals import duals_of
from .kernel import aligned, near, sum_monomials, wigner
from .vector import WIDTH, add, below, fma, fnma, load, mul, splat, store, sub


@compiled
def list_pairs(
    points: Any, images: Any, cutoffs: Any, first_image: Any, n_boxes: Any, origin: Any, width: Any, cutoff: Any,
    first_pair: Any, pairs: Any,
) -> None:  # fmt: skip
    """Count the images within the cutoff of each point, into ``first_pair`` (n + 1,); note them in ``pairs`` if it has
    room for them."""
    x = np.empty(WIDTH)
    y = np.empty(WIDTH)
    z = np.empty(WIDTH)
    found = np.empty(len(images), np.int64)
    first_pair[0] = 0
    for start in range(0, len(points), WIDTH):
        for lane in range(WIDTH):
            k = min(start + lane, len(points) - 1)
            x[lane] = points[k, 0]
            y[lane] = points[k, 1]
            z[lane] = points[k, 2]
        n = near(x, y, z, images, cutoffs, first_image, n_boxes, origin, width, cutoff, found)
        for lane in range(min(WIDTH, len(points) - start)):
            pair = first_pair[start + lane]
            for f in range(n):
                dx = images[found[f], 0] - x[lane]
                dy = images[found[f], 1] - y[lane]
                dz = images[found[f], 2] - z[lane]
                if dx * dx + dy * dy + dz * dz < cutoffs[found[f]] * cutoffs[found[f]]:
                    if pair < len(pairs):
                        pairs[pair] = found[f]
                    pair += 1
            first_pair[start + lane + 1] = pair


@compiled
def slopes_of(
    two_j_max: Any, x: Any, y: Any, z: Any, images: Any, weights: Any, cutoffs: Any, image: Any, radial: Any, rows: Any,
    coefficients: Any, row_of: Any, powers: Any, slopes: Any,
) -> None:  # fmt: skip
    """∂(w f_c u)/∂R of one neighbour for each of ``rows``: x, y, z of the real part, then of the imaginary part.

    With s = (r/R_cut)²: the derivative by x is s_x ∂/∂s and what stays at fixed s, b_x = -i sine and
    ξ_x = 4 sine Im b; by y b_y = sine and ξ_y = -4 sine Re b; by z conj(a)_z = i sine.
    """
    cutoff = cutoffs[image]
    dx = sub(splat(images[image, 0]), load(x, 0))
    dy = sub(splat(images[image, 1]), load(y, 0))
    dz = sub(splat(images[image, 2]), load(z, 0))
    r2 = fma(dz, dz, fma(dy, dy, mul(dx, dx)))
    s = mul(r2, splat(1.0 / (cutoff * cutoff)))
    cosine, sine, switch, d_cosine, d_sine, d_switch = series(radial, s)
    inside = splat(cutoff * cutoff)
    w = splat(weights[image])
    switch = mul(below(r2, inside, switch), w)
    d_switch = mul(below(r2, inside, d_switch), w)
    sine = mul(sine, splat(1.0 / cutoff))
    d_sine = mul(d_sine, splat(1.0 / cutoff))
    two = splat(2.0 / (cutoff * cutoff))
    s_x = mul(two, dx)
    s_y = mul(two, dy)
    s_z = mul(two, dz)
    a_i = mul(sine, dz)  # conj(a) = cosine + i sine dz, b = sine (dy - i dx)
    da_i = mul(d_sine, dz)
    b_r = mul(sine, dy)
    b_i = sub(splat(0.0), mul(sine, dx))
    db_r = mul(d_sine, dy)
    db_i = sub(splat(0.0), mul(d_sine, dx))
    xi = fnma(splat(2.0), fma(b_r, b_r, mul(b_i, b_i)), splat(1.0))
    xi_s = mul(splat(-4.0), fma(b_r, db_r, mul(b_i, db_i)))
    xi_x = mul(splat(4.0), mul(sine, b_i))
    xi_y = mul(splat(-4.0), mul(sine, b_r))
    # b^Q, its derivative by s, and sine Q b^(Q-1)
    q_r = splat(1.0)
    q_i = splat(0.0)
    e_r = splat(0.0)
    e_i = splat(0.0)
    for q in range(two_j_max + 1):
        k = 6 * q * WIDTH
        store(powers, k, q_r)
        store(powers, k + WIDTH, q_i)
        store(powers, k + 2 * WIDTH, fnma(e_i, db_i, mul(e_r, db_r)))
        store(powers, k + 3 * WIDTH, fma(e_i, db_r, mul(e_r, db_i)))
        store(powers, k + 4 * WIDTH, mul(sine, e_r))
        store(powers, k + 5 * WIDTH, mul(sine, e_i))
        c = splat(float(q + 1))
        e_r = mul(c, q_r)
        e_i = mul(c, q_i)
        t = fnma(q_i, b_i, mul(q_r, b_r))
        q_i = fma(q_i, b_r, mul(q_r, b_i))
        q_r = t
    p_r = splat(1.0)  # conj(a)^P
    p_i = splat(0.0)
    e_r = splat(0.0)  # P conj(a)^(P-1)
    e_i = splat(0.0)
    m = 0
    for p in range(two_j_max + 1):
        a_r = mul(switch, p_r)  # f_c conj(a)^P, by s, and sine f_c P conj(a)^(P-1)
        c_i = mul(switch, p_i)
        as_r = fma(d_switch, p_r, mul(switch, fnma(e_i, da_i, mul(e_r, d_cosine))))
        as_i = fma(d_switch, p_i, mul(switch, fma(e_i, d_cosine, mul(e_r, da_i))))
        az_r = mul(mul(switch, sine), e_r)
        az_i = mul(mul(switch, sine), e_i)
        for q in range(two_j_max - p + 1):
            for conjugate in range(2 if p > 0 and q > 0 else 1):
                k = 6 * q * WIDTH
                sign = splat(1.0 - 2.0 * conjugate)
                q_r = load(powers, k)
                q_i = mul(sign, load(powers, k + WIDTH))
                qs_r = load(powers, k + 2 * WIDTH)
                qs_i = mul(sign, load(powers, k + 3 * WIDTH))
                qe_r = load(powers, k + 4 * WIDTH)
                qe_i = mul(sign, load(powers, k + 5 * WIDTH))
                v_r = fnma(c_i, q_i, mul(a_r, q_r))
                v_i = fma(c_i, q_r, mul(a_r, q_i))
                vs_r = fnma(as_i, q_i, fma(as_r, q_r, fnma(c_i, qs_i, mul(a_r, qs_r))))
                vs_i = fma(as_i, q_r, fma(as_r, q_i, fma(c_i, qs_r, mul(a_r, qs_i))))
                vy_r = fnma(c_i, qe_i, mul(a_r, qe_r))
                vy_i = fma(c_i, qe_r, mul(a_r, qe_i))
                vx_r = mul(sign, vy_i)
                vx_i = sub(splat(0.0), mul(sign, vy_r))
                vz_i = fnma(az_i, q_i, mul(az_r, q_r))
                vz_r = sub(splat(0.0), fma(az_i, q_r, mul(az_r, q_i)))
                for _ in range((two_j_max - p - q) // 2 + 1):
                    row = row_of[m]
                    m += 1
                    last = rows[row, 5] + rows[row, 4] - 1
                    h = splat(coefficients[last])
                    h_xi = splat(0.0)
                    for i in range(last - 1, rows[row, 5] - 1, -1):
                        h_xi = fma(h_xi, xi, h)
                        h = fma(h, xi, splat(coefficients[i]))
                    t_r = mul(h_xi, v_r)
                    t_i = mul(h_xi, v_i)
                    ts_r = fma(h, vs_r, mul(xi_s, t_r))
                    ts_i = fma(h, vs_i, mul(xi_s, t_i))
                    k = 6 * row * WIDTH
                    store(slopes, k, fma(s_x, ts_r, fma(h, vx_r, mul(xi_x, t_r))))
                    store(slopes, k + WIDTH, fma(s_y, ts_r, fma(h, vy_r, mul(xi_y, t_r))))
                    store(slopes, k + 2 * WIDTH, fma(s_z, ts_r, mul(h, vz_r)))
                    store(slopes, k + 3 * WIDTH, fma(s_x, ts_i, fma(h, vx_i, mul(xi_x, t_i))))
                    store(slopes, k + 4 * WIDTH, fma(s_y, ts_i, fma(h, vy_i, mul(xi_y, t_i))))
                    store(slopes, k + 5 * WIDTH, fma(s_z, ts_i, mul(h, vz_i)))
        c = splat(float(p + 1))
        e_r = mul(c, p_r)
        e_i = mul(c, p_i)
        t = fnma(p_i, a_i, mul(p_r, cosine))
        p_i = fma(p_i, cosine, mul(p_r, a_i))
        p_r = t


@partial(compiled, inside=True)
def _add(found: Any, component: Any, x: Any, y: Any, z: Any) -> None:
    k = 3 * component * WIDTH
    store(found, k, add(load(found, k), x))
    store(found, k + WIDTH, add(load(found, k + WIDTH), y))
    store(found, k + 2 * WIDTH, add(load(found, k + 2 * WIDTH), z))


@compiled
def multiply(blocks: Any, begin: Any, end: Any, first_row: Any, duals: Any, slopes: Any, found: Any) -> None:
    """The products' derivatives by x, y, z into ``found``; a block is four ways to the same o.

    Those of the density of the neighbour are the blocks from ``begin`` to ``end``.
    """
    for i in range(0, len(found), WIDTH):
        store(found, i, splat(0.0))
    for block in range(begin, end):
        o = blocks[block, 0]
        k = blocks[block, 1] * WIDTH
        d = 6 * first_row[o] * WIDTH
        x0 = splat(0.0)
        y0 = splat(0.0)
        z0 = splat(0.0)
        x1 = splat(0.0)
        y1 = splat(0.0)
        z1 = splat(0.0)
        x2 = splat(0.0)
        y2 = splat(0.0)
        z2 = splat(0.0)
        x3 = splat(0.0)
        y3 = splat(0.0)
        z3 = splat(0.0)
        for _ in range(2 * (first_row[o + 1] - first_row[o])):
            x = load(slopes, d)
            y = load(slopes, d + WIDTH)
            z = load(slopes, d + 2 * WIDTH)
            dual = load(duals, k)
            x0 = fma(dual, x, x0)
            y0 = fma(dual, y, y0)
            z0 = fma(dual, z, z0)
            dual = load(duals, k + WIDTH)
            x1 = fma(dual, x, x1)
            y1 = fma(dual, y, y1)
            z1 = fma(dual, z, z1)
            dual = load(duals, k + 2 * WIDTH)
            x2 = fma(dual, x, x2)
            y2 = fma(dual, y, y2)
            z2 = fma(dual, z, z2)
            dual = load(duals, k + 3 * WIDTH)
            x3 = fma(dual, x, x3)
            y3 = fma(dual, y, y3)
            z3 = fma(dual, z, z3)
            d += 3 * WIDTH
            k += 4 * WIDTH
        _add(found, blocks[block, 2], x0, y0, z0)
        _add(found, blocks[block, 3], x1, y1, z1)
        _add(found, blocks[block, 4], x2, y2, z2)
        _add(found, blocks[block, 5], x3, y3, z3)


@compiled
def derive(
    points: Any, first_pair: Any, pairs: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, first_image: Any,
    n_boxes: Any, origin: Any, width: Any, cutoff: Any, two_j_max: Any, n_densities: Any, n_monomials: Any, n_u: Any,
    rows: Any, coefficients: Any, radial: Any, lengths: Any, monomials: Any, n_products: Any, component: Any,
    scale: Any, cg: Any, ways: Any, way_scale: Any, y_rows: Any, first_row: Any, row_of: Any, places: Any, blocks: Any,
    first_block: Any, values: Any,
) -> None:  # fmt: skip
    """∂B/∂R of the ``pairs`` that ``list_pairs`` found for ``points`` (n, 3), into ``values``.

    Those are (n_pairs, 3, n_components).  The five before them as in PairTables, the others as in Images and Tables.
    """
    n_components = values.shape[2]
    x = np.empty(WIDTH)
    y = np.empty(WIDTH)
    z = np.empty(WIDTH)
    found = np.empty(len(images), np.int64)
    two = np.empty(2 * (len(images) + n_densities), np.int64)
    sums = aligned(n_densities * n_monomials)
    powers = aligned(12 * (two_j_max + 1))
    u = aligned(n_densities * n_u)
    folded = aligned(2 * (two_j_max + 1) ** 2)
    row = aligned(2 * (two_j_max + 1))
    dual = aligned(2 * (two_j_max + 1) ** 2)
    last = blocks[len(blocks) - 1]
    duals = aligned(last[1] + 8 * (first_row[last[0] + 1] - first_row[last[0]]))
    duals[:] = 0.0
    slopes = aligned(6 * len(rows))
    derived = aligned(3 * (n_products + 1))  # the last one is that of the ways that fill up a block
    next_pair = np.empty(WIDTH, np.int64)
    end = np.empty(WIDTH, np.int64)
    for start in range(0, len(points), WIDTH):
        for lane in range(WIDTH):
            k = min(start + lane, len(points) - 1)
            x[lane] = points[k, 0]
            y[lane] = points[k, 1]
            z[lane] = points[k, 2]
            next_pair[lane] = first_pair[k]
            end[lane] = first_pair[k + 1] if start + lane < len(points) else 0
        n = near(x, y, z, images, cutoffs, first_image, n_boxes, origin, width, cutoff, found)
        sum_monomials(
            two_j_max, x, y, z, images, weights, cutoffs, densities, found, n, radial, n_densities, n_monomials,
            lengths, monomials, two, powers, sums,
        )  # fmt: skip
        wigner(sums, rows, coefficients, n_densities, n_monomials, n_u, u)
        duals_of(ways, cg, way_scale, places, n_u, first_row, y_rows, u, folded, row, dual, duals)
        for f in range(n):
            wanted = False
            for lane in range(WIDTH):
                wanted |= next_pair[lane] < end[lane] and pairs[next_pair[lane]] == found[f]
            if not wanted:
                continue
            slopes_of(
                two_j_max, x, y, z, images, weights, cutoffs, found[f], radial, rows, coefficients, row_of, powers,
                slopes,
            )  # fmt: skip
            density = densities[found[f]]
            multiply(blocks, first_block[density], first_block[density + 1], first_row, duals, slopes, derived)
            for lane in range(WIDTH):
                pair = next_pair[lane]
                if pair < end[lane] and pairs[pair] == found[f]:
                    for axis in range(3):
                        for t in range(n_components):
                            k = (3 * component[t] + axis) * WIDTH + lane
                            values[pair, axis, t] = scale[t] * derived[k]
                    next_pair[lane] += 1
