"""Exchange and correlation of an unpolarised electron density: LDA (Slater, PZ81) and PBE.

Energies in eV, lengths in Å.  The parametrisations are in r_s = (3/4πn)^⅓ / a₀, s and t, which have no unit.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from .reciprocal import DensitySphere
from .smearing import Array
from .units import BOHR, COULOMB, HARTREE

Functional = Literal["lda-pz", "pbe"]

# As in Quantum ESPRESSO: no density at all, and no gradient part, at or below these [1/Å³].
VANISHING = 1e-10 / BOHR**3
NO_GRADIENT = 1e-6 / BOHR**3

# PW92 as printed and in Quantum ESPRESSO 6.7, whose E_xc of Be it meets to 0.003 meV/atom; libxc's PBE has 0.0310907,
# with which E_xc is off by 0.007 to 0.009 and A by 0.001 more.
PW92_A = 0.031091

KAPPA, MU = 0.804, 0.2195149727645171
BETA, GAMMA = 0.06672455060314922, (1 - np.log(2)) / np.pi**2

CHUNK = 2**16  # points worked on at once: the functionals make some thirty arrays of this length


def _wigner_seitz(density: Array) -> Array:
    """r_s, the radius of the sphere that holds one electron, in units of a₀."""
    return np.cbrt(3 / (4 * np.pi * density)) / BOHR


def slater(density: Array) -> tuple[Array, Array]:
    """Exchange of the uniform gas, ε_x = -3/(4π) e² k_F with k_F = (3π²n)^⅓.

    Args:
        density: n > 0, any shape [1/Å³].

    Returns:
        ε_x, the energy per electron, and d(n ε_x)/dn = 4/3 ε_x, each of the shape of ``density`` [eV].

    Source: Dirac, Proc. Camb. Philos. Soc. 26, 376 (1930).
    """
    energy = -3 / (4 * np.pi) * COULOMB * np.cbrt(3 * np.pi**2 * density)
    return energy, 4 / 3 * energy


def pz81(density: Array) -> tuple[Array, Array]:
    """Correlation of the uniform gas as fitted by Perdew and Zunger to Ceperley and Alder's results [hartree].

    ε_c = γ / (1 + β₁√r_s + β₂r_s) for r_s >= 1, and A ln r_s + B + C r_s ln r_s + D r_s below.

    Arguments and results as in ``slater``.

    Source: Perdew and Zunger, Phys. Rev. B 23, 5048 (1981), Table XII (unpolarised, Ceperley-Alder).
    """
    gamma, beta1, beta2 = -0.1423, 1.0529, 0.3334
    a, b, c, d = 0.0311, -0.048, 0.0020, -0.0116
    rs = _wigner_seitz(density)
    root, log = np.sqrt(rs), np.log(rs)
    low = gamma / (1 + beta1 * root + beta2 * rs)
    low_slope = -(low**2) / gamma * (0.5 * beta1 * root + beta2 * rs)  # r_s dε/dr_s
    high = a * log + b + c * rs * log + d * rs
    high_slope = a + c * rs * log + (c + d) * rs
    energy = np.where(rs >= 1, low, high)
    slope = np.where(rs >= 1, low_slope, high_slope)
    return HARTREE * energy, HARTREE * (energy - slope / 3)


def pw92(density: Array, a: float = PW92_A) -> tuple[Array, Array]:
    """Correlation of the uniform gas as fitted by Perdew and Wang [hartree].

    ε_c = -2a (1 + α₁r_s) ln[1 + 1/(2a (β₁r_s^½ + β₂r_s + β₃r_s^(3/2) + β₄r_s²))].

    Arguments and results as in ``slater``; ``a`` is the constant of which two roundings are in use.

    Source: Perdew and Wang, Phys. Rev. B 45, 13244 (1992), Eq. 10 and Table I.
    """
    alpha, beta1, beta2, beta3, beta4 = 0.21370, 7.5957, 3.5876, 1.6382, 0.49294
    rs = _wigner_seitz(density)
    root = np.sqrt(rs)
    q = 2 * a * (beta1 * root + beta2 * rs + beta3 * rs * root + beta4 * rs**2)
    q_slope = 2 * a * (0.5 * beta1 * root + beta2 * rs + 1.5 * beta3 * rs * root + 2 * beta4 * rs**2)  # r_s dq/dr_s
    prefactor, log = -2 * a * (1 + alpha * rs), np.log1p(1 / q)
    energy = prefactor * log
    slope = -2 * a * alpha * rs * log - prefactor * q_slope / (q * (q + 1))
    return HARTREE * energy, HARTREE * (energy - slope / 3)


def lda_pz(density: Array) -> tuple[Array, Array]:
    """Energy per electron ε_xc of Slater's exchange and PZ81 correlation, and d(n ε_xc)/dn, as in ``slater``."""
    (ex, vx), (ec, vc) = slater(density), pz81(density)
    return ex + ec, vx + vc


def pbe(density: Array, squared_gradient: Array, a: float = PW92_A) -> tuple[Array, Array, Array]:
    """Energy per electron ε of the functional of Perdew, Burke and Ernzerhof, and the derivatives of n ε(n, σ).

    ε = ε_x F(s²) + ε_c + H, with
    F = 1 + κ - κ/(1 + μs²/κ), s² = σ/(2 k_F n)², k_F = (3π²n)^⅓,
    H = γ e²/a₀ ln[1 + β/γ t² (1 + At²)/(1 + At² + A²t⁴)], t² = σ/(2 k_s n)², k_s² = 4 k_F/(π a₀),
    A = β/γ / (exp(-ε_c a₀/(γ e²)) - 1).

    Args:
        density: n > 0, any shape [1/Å³].
        squared_gradient: σ = |∇n|², the shape of ``density`` [1/Å⁸].
        a: the constant of ``pw92``, which gives ε_c.

    Returns:
        ε [eV], d(nε)/dn [eV] and d(nε)/dσ [eV Å⁵], each of the shape of ``density``.

    Source: Perdew, Burke and Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), Eqs. 7, 8 and 14.
    """
    k_f = np.cbrt(3 * np.pi**2 * density)
    ex, _ = slater(density)
    s2_slope = 1 / (2 * k_f * density) ** 2  # ds²/dσ
    s2 = s2_slope * squared_gradient
    denominator = 1 + MU / KAPPA * s2
    f, f_slope = 1 + KAPPA - KAPPA / denominator, MU / denominator**2
    x_dn = ex * (4 / 3 * f - 8 / 3 * s2 * f_slope)  # s² falls as n^(-8/3)
    x_dsigma = density * ex * f_slope * s2_slope

    ec, vc = pw92(density, a)
    t2_slope = np.pi * BOHR / (16 * k_f * density**2)  # dt²/dσ
    t2 = t2_slope * squared_gradient
    inverse = np.expm1(-ec / (GAMMA * HARTREE))
    big_a = BETA / GAMMA / inverse
    y = big_a * t2
    d = 1 + y + y**2
    x = 1 + BETA / GAMMA * t2 * (1 + y) / d
    h = GAMMA * HARTREE * np.log(x)
    h_dt2 = BETA * HARTREE / x * (1 + 2 * y) / d**2
    # dH/dε_c = dH/dA dA/dε_c, dA/dε_c = A² exp(-ε_c a₀/(γ e²)) a₀/(β e²)
    h_dec = -1 / x * t2**2 * y * (2 + y) / d**2 * big_a**2 * (inverse + 1)
    c_dn = vc + h - 7 / 3 * t2 * h_dt2 + h_dec * (vc - ec)  # t² falls as n^(-7/3); v_c - ε_c is n dε_c/dn
    c_dsigma = density * h_dt2 * t2_slope
    return ex * f + ec + h, x_dn + c_dn, x_dsigma + c_dsigma


def exchange_correlation(density: ArrayLike, sphere: DensitySphere, functional: Functional) -> tuple[float, Array]:
    """Energy E_xc = ∫ n ε(n, |∇n|²) dr and potential v_xc = ∂(nε)/∂n - ∇·(2 ∂(nε)/∂σ ∇n), its functional derivative.

    Gradient and divergence are those of the plane waves of ``sphere``, so that v_xc is the exact derivative of
    the sum over the grid.  Where a density has become slightly negative, n ε(|n|, σ) counts, as in Quantum ESPRESSO.

    Args:
        density: n, valence plus core, shape (n_x, n_y, n_z) [1/Å³].
        sphere: the plane waves that carry ∇n.
        functional: ``lda-pz`` (Slater and PZ81) or ``pbe``.

    Returns:
        E_xc [eV per cell] and v_xc, shape (n_x, n_y, n_z) [eV].

    Raises:
        ValueError: an unknown functional, or a density that does not lie on the grid of ``sphere``.

    Source: White and Bird, Phys. Rev. B 50, 4954 (1994); Quantum ESPRESSO's ``v_xc`` and ``gradcorr``.
    """
    if functional not in get_args(Functional):
        raise ValueError(f"no functional {functional!r}; there are {', '.join(get_args(Functional))}")
    n = np.ascontiguousarray(density, dtype=np.float64)
    if n.shape != tuple(sphere.grid):
        raise ValueError(f"a density of shape {n.shape} does not lie on the grid {tuple(sphere.grid)}")
    flat, energy, v_xc = n.reshape(-1), 0.0, np.empty(n.size)
    gradient = sphere.gradient(n).reshape(3, -1) if functional == "pbe" else None
    for start in range(0, n.size, CHUNK):
        points = slice(start, start + CHUNK)
        part = flat[points]
        magnitude = np.maximum(np.abs(part), VANISHING)
        some = np.abs(part) > VANISHING
        if gradient is None:
            e, v = lda_pz(magnitude)
        else:
            steep = magnitude > NO_GRADIENT
            sigma = np.einsum("cp,cp->p", gradient[:, points], gradient[:, points])
            e, v, v_sigma = pbe(magnitude, np.where(steep, sigma, 0.0))
            # ∇n becomes 2 ∂(nε)/∂σ ∇n in place: at two million points one such array takes 48 MB.
            gradient[:, points] *= np.where(steep, 2 * np.sign(part) * v_sigma, 0.0)
        energy += float(np.sum(part * e, where=some))
        v_xc[points] = np.where(some, v, 0.0)
    potential = v_xc.reshape(n.shape)
    if gradient is not None:
        potential -= sphere.divergence(gradient.reshape(3, *n.shape))
    return energy * sphere.volume / n.size, potential


def kernel_product(
    density: ArrayLike, direction: ArrayLike, sphere: DensitySphere, functional: Functional, step: float = 1e-3
) -> Array:
    """∫ f_xc(r, r') m(r') dr' = d/dλ v_xc[n + λm] at λ = 0, by a central difference of fourth order.

    (8 v[n + hm] - 8 v[n - hm] - v[n + 2hm] + v[n - 2hm]) / 12h, with h|m| <= ``step`` |n| at every point that has
    a gradient part.  Measured against a step half as large, Al (LDA) and Be (PBE), relative to the largest value: 1e-11
    and 6e-12 for m = n, 1e-11 and 6e-10 for random m.

    Args:
        density: n, valence plus core, shape (n_x, n_y, n_z) [1/Å³].
        direction: m, the shape of ``density`` [1/Å³].
        sphere, functional: as in ``exchange_correlation``.
        step: largest relative change h|m|/|n|.

    Returns:
        Shape (n_x, n_y, n_z) [eV].

    Raises:
        ValueError: as ``exchange_correlation``.
    """
    n, m = np.asarray(density, dtype=np.float64), np.asarray(direction, dtype=np.float64)
    largest = float(np.max(np.abs(m) / np.maximum(np.abs(n), NO_GRADIENT)))
    if largest == 0:
        return np.zeros(n.shape)
    h = step / largest

    def potential(steps: int) -> Array:
        return exchange_correlation(n + steps * h * m, sphere, functional)[1]

    return (8 * (potential(1) - potential(-1)) - (potential(2) - potential(-2))) / (12 * h)
