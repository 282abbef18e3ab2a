"""Compiled: forces of an energy that is known by its derivatives g with respect to the bispectrum of each grid point.

The way of ``kernel.py`` back.  Y_o = ∂E/∂u_o is the same contraction, kept instead of multiplied by u_o;
``wigner_back`` leads to the derivatives with respect to the sums over neighbours, and ``pull`` from them to each
neighbour, by Horner's rule in ξ.

Source: Thompson et al., J. Comput. Phys. 285, 316 (2015), Eq. 15, 16; the adjoint: Wood and Thompson, J. Chem. Phys.
148, 241721 (2018), and the SNAP implementation notes of LAMMPS.
"""

from functools import partial
from typing import Any

import numpy as np

from .compiled import compiled
from .contract import y_of
from .kernel import aligned, near, sum_monomials, wigner
from .vector import WIDTH, add, below, fma, fnma, load, mul, splat, spread, store, sub


@compiled
def wigner_back(
    y: Any, rows: Any, y_rows: Any, coefficients: Any, n_densities: Any, n_monomials: Any, n_u: Any, slopes: Any
) -> None:
    """∂E/∂(sums over neighbours), from Y: ``wigner`` transposed."""
    for i in range(n_densities * n_monomials):
        store(slopes, i * WIDTH, splat(0.0))
    for density in range(n_densities):
        for r in range(len(rows)):
            here = (density * n_u + y_rows[r, 0]) * WIDTH
            y_r = mul(splat(float(y_rows[r, 1])), load(y, here))
            y_i = mul(splat(float(y_rows[r, 2])), load(y, here + WIDTH))
            begin = (density * n_monomials + rows[r, 3]) * WIDTH
            for k in range(rows[r, 4]):
                c = splat(coefficients[rows[r, 5] + k])
                store(slopes, begin, fma(c, y_r, load(slopes, begin)))
                store(slopes, begin + WIDTH, fma(c, y_i, load(slopes, begin + WIDTH)))
                begin += 2 * WIDTH


@partial(compiled, inside=True)
def horner(slopes: Any, begin: Any, xi: Any, count: Any) -> tuple[Any, Any, Any, Any]:
    """The polynomial in ξ of ``count`` complex coefficients from ``begin`` on, and its derivative."""
    i = begin + 2 * (count - 1) * WIDTH
    x_r = load(slopes, i)
    x_i = load(slopes, i + WIDTH)
    y_r = splat(0.0)
    y_i = splat(0.0)
    for _ in range(count - 1):
        i -= 2 * WIDTH
        y_r = fma(y_r, xi, x_r)
        y_i = fma(y_i, xi, x_i)
        x_r = fma(x_r, xi, load(slopes, i))
        x_i = fma(x_i, xi, load(slopes, i + WIDTH))
    return x_r, x_i, y_r, y_i


@partial(compiled, inside=True)
def series(radial: Any, s: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """The three functions of ``radial_series`` at s, and their derivatives by s."""
    n = radial.shape[1]
    cosine = splat(radial[0, n - 1])
    sine = splat(radial[1, n - 1])
    switch = splat(radial[2, n - 1])
    d_cosine = splat(0.0)
    d_sine = splat(0.0)
    d_switch = splat(0.0)
    for m in range(n - 2, -1, -1):
        d_cosine = fma(d_cosine, s, cosine)
        d_sine = fma(d_sine, s, sine)
        d_switch = fma(d_switch, s, switch)
        cosine = fma(cosine, s, splat(radial[0, m]))
        sine = fma(sine, s, splat(radial[1, m]))
        switch = fma(switch, s, splat(radial[2, m]))
    return cosine, sine, switch, d_cosine, d_sine, d_switch


@compiled
def pull(
    two_j_max: Any, x: Any, y: Any, z: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, found: Any, n: Any,
    radial: Any, n_monomials: Any, lengths: Any, monomials: Any, slopes: Any, powers: Any, polynomials: Any, lanes: Any,
    strain: Any, forces: Any,
) -> None:  # fmt: skip
    """Add -∂E/∂R of each neighbour, summed over the lanes, to ``forces``, and ∂E/∂ε, lane by lane, to ``strain``.

    E = f_c H, with H the real part of Σ conj(slopes) conj(a)^P b^Q ξ^k.  Re H follows from A = conj(a)-powers outside,
    b-powers inside and ξ by Horner's rule, its derivatives on the way.
    """
    px = load(x, 0)
    py = load(y, 0)
    pz = load(z, 0)
    second = 2 * (two_j_max + 1)  # where the derivatives q b^(q-1) begin among the powers
    for f in range(n):
        image = found[f]
        cutoff = cutoffs[image]
        dx = sub(splat(images[image, 0]), px)
        dy = sub(splat(images[image, 1]), py)
        dz = sub(splat(images[image, 2]), pz)
        r2 = fma(dz, dz, fma(dy, dy, mul(dx, dx)))
        s = mul(r2, splat(1.0 / (cutoff * cutoff)))
        cosine, sine, switch, d_cosine, d_sine, d_switch = series(radial, s)
        inside = splat(cutoff * cutoff)
        w = splat(weights[image])
        switch = mul(below(r2, inside, switch), w)
        d_switch = mul(below(r2, inside, d_switch), w)
        sine = mul(sine, splat(1.0 / cutoff))
        d_sine = mul(d_sine, splat(1.0 / cutoff))
        a_i = mul(sine, dz)
        b_r = mul(sine, dy)
        b_i = sub(splat(0.0), mul(sine, dx))
        xi = fnma(splat(2.0), fma(b_r, b_r, mul(b_i, b_i)), splat(1.0))
        q_r = splat(1.0)
        q_i = splat(0.0)
        store(powers, second * WIDTH, splat(0.0))
        store(powers, (second + 1) * WIDTH, splat(0.0))
        for q in range(two_j_max + 1):
            store(powers, (2 * q) * WIDTH, q_r)
            store(powers, (2 * q + 1) * WIDTH, q_i)
            if q < two_j_max:
                c = splat(float(q + 1))
                store(powers, (second + 2 * (q + 1)) * WIDTH, mul(c, q_r))
                store(powers, (second + 2 * (q + 1) + 1) * WIDTH, mul(c, q_i))
            t = fnma(q_i, b_i, mul(q_r, b_r))
            q_i = fma(q_i, b_r, mul(q_r, b_i))
            q_r = t
        p_r = splat(1.0)  # conj(a)^P
        p_i = splat(0.0)
        e_r = splat(0.0)  # P conj(a)^(P-1)
        e_i = splat(0.0)
        h = splat(0.0)
        ha_r = splat(0.0)
        ha_i = splat(0.0)
        h_xi = splat(0.0)
        h_br = splat(0.0)  # ∂H/∂Re b and ∂H/∂Im b at fixed ξ
        h_bi = splat(0.0)
        begin = densities[image] * n_monomials
        for length in range(len(lengths)):
            count = lengths[length, 0]
            for m in range(lengths[length, 1], lengths[length, 2]):
                x_r, x_i, y_r, y_i = horner(slopes, (begin + monomials[m, 2]) * WIDTH, xi, count)
                i = 4 * monomials[m, 3] * WIDTH
                store(polynomials, i, x_r)
                store(polynomials, i + WIDTH, x_i)
                store(polynomials, i + 2 * WIDTH, y_r)
                store(polynomials, i + 3 * WIDTH, y_i)
        i = 0
        for p in range(two_j_max + 1):
            v_r = splat(0.0)
            v_i = splat(0.0)
            vx_r = splat(0.0)
            vx_i = splat(0.0)
            vb_r = splat(0.0)  # by b
            vb_i = splat(0.0)
            vc_r = splat(0.0)  # by conj(b)
            vc_i = splat(0.0)
            for q in range(two_j_max - p + 1):
                q_r = load(powers, 2 * q * WIDTH)
                q_i = load(powers, (2 * q + 1) * WIDTH)
                d_r = load(powers, (second + 2 * q) * WIDTH)
                d_i = load(powers, (second + 2 * q + 1) * WIDTH)
                x_r = load(polynomials, i)
                x_i = load(polynomials, i + WIDTH)
                y_r = load(polynomials, i + 2 * WIDTH)
                y_i = load(polynomials, i + 3 * WIDTH)
                i += 4 * WIDTH
                v_r = fma(q_r, x_r, fma(q_i, x_i, v_r))
                v_i = fma(q_i, x_r, fnma(q_r, x_i, v_i))
                vx_r = fma(q_r, y_r, fma(q_i, y_i, vx_r))
                vx_i = fma(q_i, y_r, fnma(q_r, y_i, vx_i))
                vb_r = fma(d_r, x_r, fma(d_i, x_i, vb_r))
                vb_i = fma(d_i, x_r, fnma(d_r, x_i, vb_i))
                if q > 0 and p > 0:
                    x_r = load(polynomials, i)
                    x_i = load(polynomials, i + WIDTH)
                    y_r = load(polynomials, i + 2 * WIDTH)
                    y_i = load(polynomials, i + 3 * WIDTH)
                    i += 4 * WIDTH
                    v_r = fma(q_r, x_r, fnma(q_i, x_i, v_r))
                    v_i = fnma(q_i, x_r, fnma(q_r, x_i, v_i))
                    vx_r = fma(q_r, y_r, fnma(q_i, y_i, vx_r))
                    vx_i = fnma(q_i, y_r, fnma(q_r, y_i, vx_i))
                    vc_r = fma(d_r, x_r, fnma(d_i, x_i, vc_r))
                    vc_i = fnma(d_i, x_r, fnma(d_r, x_i, vc_i))
            h = fma(p_r, v_r, fnma(p_i, v_i, h))
            h_xi = fma(p_r, vx_r, fnma(p_i, vx_i, h_xi))
            ha_r = fma(e_r, v_r, fnma(e_i, v_i, ha_r))
            ha_i = fma(e_r, v_i, fma(e_i, v_r, ha_i))
            s_r = add(vb_r, vc_r)
            s_i = add(vb_i, vc_i)
            h_br = fma(p_r, s_r, fnma(p_i, s_i, h_br))
            s_r = sub(vb_r, vc_r)
            s_i = sub(vb_i, vc_i)
            h_bi = fnma(p_r, s_i, fnma(p_i, s_r, h_bi))
            c = splat(float(p + 1))
            e_r = mul(c, p_r)
            e_i = mul(c, p_i)
            t = fnma(p_i, a_i, mul(p_r, cosine))
            p_i = fma(p_i, cosine, mul(p_r, a_i))
            p_r = t
        four = splat(4.0)
        h_br = fnma(mul(four, b_r), h_xi, h_br)
        h_bi = fnma(mul(four, b_i), h_xi, h_bi)
        # By s: conj(a) = cosine + i sine dz, b = sine (dy - i dx)
        by_s = mul(ha_r, d_cosine)
        by_s = fnma(ha_i, mul(d_sine, dz), by_s)
        by_s = fma(h_br, mul(d_sine, dy), fnma(h_bi, mul(d_sine, dx), by_s))
        ds = mul(fma(switch, by_s, mul(d_switch, h)), splat(2.0 / (cutoff * cutoff)))
        scaled = mul(switch, sine)
        store(lanes, 0, fnma(scaled, h_bi, mul(ds, dx)))
        store(lanes, WIDTH, fma(scaled, h_br, mul(ds, dy)))
        store(lanes, 2 * WIDTH, fnma(scaled, ha_i, mul(ds, dz)))
        for axis in range(3):
            slope = load(lanes, axis * WIDTH)
            k = 3 * axis * WIDTH
            store(strain, k, fma(slope, dx, load(strain, k)))
            store(strain, k + WIDTH, fma(slope, dy, load(strain, k + WIDTH)))
            store(strain, k + 2 * WIDTH, fma(slope, dz, load(strain, k + 2 * WIDTH)))
            for lane in range(WIDTH):
                forces[image, axis] -= lanes[axis * WIDTH + lane]


@compiled
def pull_back(
    points: Any, gradient: Any, images: Any, weights: Any, cutoffs: Any, densities: Any, first_image: Any, n_boxes: Any,
    origin: Any, width: Any, cutoff: Any, two_j_max: Any, n_densities: Any, n_monomials: Any, n_u: Any, rows: Any,
    coefficients: Any, radial: Any, lengths: Any, monomials: Any, n_products: Any, component: Any, scale: Any,
    y_products: Any, y_scale: Any, y_rows: Any, classes: Any, blocks: Any, terms: Any, counted: Any, forces: Any,
    by_strain: Any,
) -> None:  # fmt: skip
    """Add -Σ_r Σ_k g_k(r) ∂B_k(r)/∂R to ``forces`` (n_images, 3) and Σ_r Σ_k g_k(r) ∂B_k(r)/∂ε to ``by_strain`` (3, 3).

    For ``points`` (n, 3) and their ``gradient`` g (n, n_components); the other arguments as in ``describe``.  A
    strain ε takes a neighbour at d to (1 + ε) d.
    """
    x = aligned(1)
    y = aligned(1)
    z = aligned(1)
    found = np.empty(len(images), np.int64)
    pairs = np.empty(2 * (len(images) + n_densities), np.int64)
    sums = aligned(n_densities * n_monomials)
    slopes = aligned(n_densities * n_monomials)
    powers = aligned(12 * (two_j_max + 1))
    polynomials = aligned(4 * len(monomials))
    u = aligned(n_densities * n_u)
    dual = aligned(n_densities * n_u)
    beta = aligned(n_products)
    y_beta = aligned(len(y_products))
    lanes = aligned(3)
    strain = aligned(9)
    strain[:] = 0.0
    for start in range(0, len(points), WIDTH):
        beta[:] = 0.0
        for lane in range(WIDTH):
            k = min(start + lane, len(points) - 1)
            x[lane] = points[k, 0]
            y[lane] = points[k, 1]
            z[lane] = points[k, 2]
            if start + lane < len(points):
                for t in range(len(component)):
                    beta[component[t] * WIDTH + lane] += scale[t] * gradient[k, t]
        n = near(x, y, z, images, cutoffs, first_image, n_boxes, origin, width, cutoff, found)
        sum_monomials(
            two_j_max, x, y, z, images, weights, cutoffs, densities, found, n, radial, n_densities, n_monomials,
            lengths, monomials, pairs, powers, sums,
        )  # fmt: skip
        wigner(sums, rows, coefficients, n_densities, n_monomials, n_u, u)
        for t in range(len(y_products)):
            store(y_beta, t * WIDTH, mul(spread(y_scale, t), load(beta, y_products[t, 7] * WIDTH)))
        y_of(classes, blocks, terms, counted, u, y_beta, dual)
        wigner_back(dual, rows, y_rows, coefficients, n_densities, n_monomials, n_u, slopes)
        pull(
            two_j_max, x, y, z, images, weights, cutoffs, densities, found, n, radial, n_monomials, lengths, monomials,
            slopes, powers, polynomials, lanes, strain, forces,
        )  # fmt: skip
    for a in range(3):
        for b in range(3):
            for lane in range(WIDTH):
                by_strain[a, b] += strain[(3 * a + b) * WIDTH + lane]
