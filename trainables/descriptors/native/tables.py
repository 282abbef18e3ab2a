"""Coefficients of the kernels, exact rationals rounded once.  j is 2J; m counts from 0 to j, as in LAMMPS.

A neighbour at (x, y, z), r away, is the unit quaternion, or 2 x 2 rotation, of a = cos θ + i sin θ z/r and
b = sin θ (y - i x)/r with θ = RFAC0 π r / R_cut.  Its Wigner functions are

    u^j_{mb,ma} = conj(a)^P b^Q poly(ξ),   P = j - mb - ma,  Q = mb - ma,  ξ = |a|² - |b|²

(conj(b)^-Q where Q < 0).  Those of P < 0 follow by symmetry.  So a kernel sums the *monomials* conj(a)^P b^Q ξ^k over
the neighbours, and one multiplication with a small matrix makes the u of them.

Source: Thompson et al., J. Comput. Phys. 285, 316 (2015), Eq. 4 to 9; Varshalovich, Quantum Theory of Angular Momentum
(1988), 4.7 and 8.2.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from math import comb, factorial, pi, sqrt

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from .order import Blocks, Int32, blocks_of, monomials_of

RFAC0 = 0.99363  # the share of π that θ spans, LAMMPS' default
N_RADIAL = 17  # terms of the series in (r/R_cut)², which are then exact to 1e-16
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def triples(two_j_max: int) -> list[tuple[int, int, int]]:
    """(j1, j2, j) of each component of the bispectrum, in LAMMPS' order."""
    return [
        (j1, j2, j)
        for j1 in range(two_j_max + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(two_j_max, j1 + j2) + 1, 2)
        if j >= j1
    ]


def clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j: int) -> float:
    """C^{j,m1+m2}_{j1 m1 j2 m2}; all arguments doubled, m from -j to j in steps of 2.

    Source: Varshalovich (1988), 8.2.1, Eq. 3.
    """
    m = m1 + m2
    if abs(m) > j:
        return 0.0

    def f(doubled: int) -> int:
        return factorial(doubled // 2)

    # In whole numbers, the factorials below each term of the sum as binomials: three times as fast as with fractions.
    a, b, c = (j1 + j2 - j) // 2, (j + j1 - j2) // 2, (j + j2 - j1) // 2
    n1, n2 = (j1 - m1) // 2, (j2 + m2) // 2
    total = sum((-1) ** k * comb(a, k) * comb(b, n1 - k) * comb(c, n2 - k) for k in range(min(a, n1, n2) + 1))
    below = factorial(a) * factorial(b) * factorial(c)
    squared = (j + 1) * below * f(j + m) * f(j - m) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    return total / below * sqrt(squared / f(j1 + j2 + j + 2))


@cache  # the same ones for each 2J_max and number of densities, as of the coefficients below
def wigner_polynomial(j: int, mb: int, ma: int) -> Float64:
    """Coefficients of poly(ξ) in u^j_{mb,ma} where P >= 0 and, if P = 0, Q >= 0; the lowest power first."""
    norm = sqrt(Fraction(factorial(j - ma) * factorial(ma), factorial(j - mb) * factorial(mb)))
    a2, b2 = Polynomial([0.5, 0.5]), Polynomial([0.5, -0.5])  # |a|², |b|²
    total = Polynomial([0.0])
    for k in range(max(0, ma - mb), min(ma, j - mb) + 1):
        n = ma - k
        pairs_a, pairs_b = min(n, j - mb - k), min(mb - n, k)
        total = total + a2**pairs_a * b2**pairs_b * float((-1) ** k * comb(j - mb, k) * comb(mb, n))
    coefficients = norm * np.asarray(total.coef, dtype=np.float64)
    return coefficients[: 1 + max(np.flatnonzero(np.abs(coefficients) > 1e-12), default=0)]


def radial_series() -> Float64:
    """Taylor coefficients in s = (r/R)² of cos θ, sin θ R/r and the switching function, (3, N_RADIAL)."""
    c = RFAC0 * pi
    cosine = [(-1) ** k * c ** (2 * k) / factorial(2 * k) for k in range(N_RADIAL)]
    sine = [(-1) ** k * c ** (2 * k + 1) / factorial(2 * k + 1) for k in range(N_RADIAL)]
    switching = [1.0] + [0.5 * (-1) ** k * pi ** (2 * k) / factorial(2 * k) for k in range(1, N_RADIAL)]
    return np.array([cosine, sine, switching])


@dataclass(frozen=True, eq=False)
class Tables:
    """What the kernels read, for one 2J_max and number of densities.

    n_monomials: numbers, two (real, imaginary) a monomial.
    n_densities: one, or one a species.  Each has its own sums over monomials, and its own u^j, one after another.
    first: where the (j+1)² complex u^j of a density begin, counted in numbers, and their end, (2J_max + 2,).
    rows: of each u that is computed, (n_rows, 7): where it lies, where its mirror image lies, the sign of that, where
        its monomials begin, how many there are, where their ``coefficients`` begin, and whether ma = mb.
    radial: ``radial_series``.
    products: triple products, (n_products, 7): (p, q) -> o, where the ``cg`` begin, and where u^p, u^q and u^o do.
    cg: Clebsch-Gordan coefficients of p and q to o, (p+1)(q+1) each.
    component, scale: of each component its product, and the factor (j+1)/(o+1), (n_components,).
    y_products: (n, 8), and y_scale: the same for the derivative of each product with respect to each of its u^o; the
        last column is the product.
    y_rows: of each row of ``rows`` the half of Y that it asks for, (n_rows, 3): where it lies, and the factors of its
        real and imaginary part.
    lengths, monomials: as ``monomials_of`` returns them.
    blocks, y_blocks: of ``products`` and ``y_products``.
    """

    two_j_max: int
    n_monomials: int
    n_densities: int
    first: Int64
    rows: Int64
    coefficients: Float64
    radial: Float64
    products: Int64
    cg: Float64
    component: Int64
    scale: Float64
    y_products: Int64
    y_scale: Float64
    y_rows: Int64
    lengths: Int64
    monomials: Int32
    blocks: Blocks
    y_blocks: Blocks


@cache
def tables(two_j_max: int, n_densities: int = 1) -> Tables:
    """The tables of one 2J_max; a tenth to a third of a second, once a process."""
    monomials, n_monomials = _monomials(two_j_max)
    first = np.cumsum([0] + [2 * (j + 1) ** 2 for j in range(two_j_max + 1)]).astype(np.int64)
    rows, coefficients, y_rows = [], list[float](), []
    for j in range(two_j_max + 1):
        for mb in range(j + 1):
            for ma in range(j + 1):
                p, q = j - mb - ma, mb - ma
                if p < 0 or (p == 0 and q < 0):
                    continue
                polynomial = wigner_polynomial(j, mb, ma)
                here = first[j] + 2 * (mb * (j + 1) + ma)
                mirror = first[j] + 2 * ((j - mb) * (j + 1) + j - ma)
                sign = (-1) ** (ma + mb)
                begin = monomials[p, q]
                rows.append((here, mirror, sign, begin, len(polynomial), len(coefficients), int(ma == mb)))
                coefficients.extend(polynomial)
                weight = 1 if p == q == 0 else 2
                y_rows.append(
                    (here, weight, weight) if 2 * ma <= j else (mirror, sign * weight, -sign * weight)
                )  # Y is known for 2 ma <= j
    products = _Products(first.tolist())
    components = _components(two_j_max, n_densities)
    index, scale = zip(*(products.of(three) for three in components), strict=True)
    y_products, y_scale = products.derivatives()
    rows_of_products, cg = np.array(products.rows, np.int64), np.array(products.cg)
    return Tables(
        two_j_max,
        n_monomials,
        n_densities,
        first,
        np.array(rows, np.int64),
        np.array(coefficients),
        radial_series(),
        rows_of_products,
        cg,
        np.array(index, np.int64),
        np.array(scale),
        y_products,
        y_scale,
        np.array(y_rows, np.int64),
        *monomials_of(monomials, two_j_max),
        blocks_of(rows_of_products, cg, mirrored=True),
        blocks_of(y_products, cg, mirrored=False),
    )


def _monomials(two_j_max: int) -> tuple[dict[tuple[int, int], int], int]:
    """Where the powers of ξ to conj(a)^P b^Q begin, by (P, Q), and how many numbers there are: the kernels' order."""
    where, n = dict[tuple[int, int], int](), 0
    for p in range(two_j_max + 1):
        for q in range(two_j_max - p + 1):
            for signed in (q,) if q == 0 or p == 0 else (q, -q):
                where[p, signed] = n
                n += 2 * ((two_j_max - p - q) // 2 + 1)
    return where, n


U = tuple[int, int]  # u^j of a density: j, and the density


def _components(two_j_max: int, n_densities: int) -> list[tuple[U, U, U]]:
    """(j1, j2, j) of each component, each with its density, in LAMMPS' order."""
    densities = product(range(n_densities), repeat=3)
    of_one = triples(two_j_max)
    return [((j1, a), (j2, b), (j, c)) for a, b, c in densities for j1, j2, j in of_one]


class _Products:
    """The triple products that the components ask for, each once.

    B/(j+1) does not change when its three u are exchanged with each other: u^p = u^q where two are equal (half of the
    sum is enough), else o the smallest (longer inner sums).
    """

    def __init__(self, first: list[int]) -> None:
        self.rows, self.cg = list[tuple[int, ...]](), list[float]()
        self._first = first
        self._cg = dict[tuple[int, int, int], int]()
        self._known = dict[tuple[U, ...], int]()

    def of(self, three: tuple[U, U, U]) -> tuple[int, float]:
        """The product that a component is, and its factor."""
        u, v, w = key = tuple(sorted(three, reverse=True))
        p, q, o = (u, v, w) if u == v or v != w else (v, w, u)
        if key not in self._known:
            self._known[key] = len(self.rows)
            self.rows.append(self._row(p, q, o))
        return self._known[key], (three[2][0] + 1) / (o[0] + 1)

    def derivatives(self) -> tuple[Int64, Float64]:
        """Of each product with respect to each of its u, equal ones once with their number."""
        found = []
        for three, index in self._known.items():
            o = self.rows[index][2]
            for u in dict.fromkeys(three):
                others = list(three)
                others.remove(u)
                factor = three.count(u) * (o + 1) / (u[0] + 1)
                found.append((u, (*self._row(others[0], others[1], u), index), factor))
        found.sort(key=lambda way: way[0])
        return np.array([row for _, row, _ in found], np.int64), np.array([factor for *_, factor in found])

    def _row(self, p: U, q: U, o: U) -> tuple[int, ...]:
        key = (p[0], q[0], o[0])
        if key not in self._cg:
            self._cg[key] = len(self.cg)
            self.cg.extend(_cg_of(*key))
        return (*key, self._cg[key], *(density * self._first[-1] + self._first[j] for j, density in (p, q, o)))


@cache
def _cg_of(p: int, q: int, o: int) -> tuple[float, ...]:
    return tuple(clebsch_gordan(p, 2 * m1 - p, q, 2 * m2 - q, o) for m1 in range(p + 1) for m2 in range(q + 1))
