"""Nonlinear core correction: the partial core charge of a pseudopotential on the real-space grid, and its forces.

Lengths in Å, densities in 1/Å³, energies in eV.  For several species, add the fields up.
"""

import numpy as np

from .phases import phase_forces, structure_factor
from .reciprocal import DensitySphere, fractional
from .smearing import Array
from .units import BOHR

CUT = 10 * BOHR  # where Quantum ESPRESSO ends its radial integrals [Å]
SPACING = 0.01  # of the wavenumbers between which the form factor is interpolated [1/Å]


def form_factor(wavenumber: Array, radius: Array, density: Array) -> Array:
    """Core electrons' form factor c(G) = 4π ∫ r² ρ_c(r) sin(Gr)/(Gr) dr, by Simpson's rule on the radial mesh.

    As Quantum ESPRESSO does: up to the first point beyond 10 bohr, and on an odd number of points.  Simpson's rule
    for uneven spacing serves any mesh; on Be's logarithmic one it meets that in the index to 5e-9 of c(0).

    Args:
        wavenumber: G, shape (n,) [1/Å].
        radius: r, shape (n_radial,), increasing from 0 or nearly so [Å].
        density: ρ_c, shape (n_radial,) [1/Å³].

    Returns:
        c, shape (n,) [electrons].

    Raises:
        ValueError: ``radius`` does not increase, or the shapes differ.

    Source: Louie, Froyen and Cohen, Phys. Rev. B 26, 1738 (1982); Quantum ESPRESSO's ``drhoc``.
    """
    r, weights = _weights(radius, density)
    # A few wavenumbers at a time: 5,000 of them by 1,000 radii would make 40 MB.
    parts = np.array_split(wavenumber, len(wavenumber) // 256 + 1)
    return np.concatenate([np.sinc(g[:, None] * r / np.pi) @ weights for g in parts])


def _weights(radius: Array, density: Array) -> tuple[Array, Array]:
    """r and w with c(G) = Σ_r w_r sin(Gr)/(Gr), (n,) each."""
    if radius.shape != density.shape or radius.ndim != 1 or len(radius) < 3:
        raise ValueError(f"a core density of shape {density.shape} does not lie on a radial mesh {radius.shape}")
    h = np.diff(radius)
    if not (h > 0).all():
        raise ValueError(f"the radial mesh does not increase after point {int(np.argmin(h > 0))} (from 0)")
    n = min(int(np.searchsorted(radius, CUT, side="right")) + 1, len(radius))
    n -= 1 - n % 2
    r, left, right = radius[:n], h[0 : n - 1 : 2], h[1 : n - 1 : 2]
    weights = np.zeros(n)
    weights[0:-2:2] += (left + right) / 6 * (2 - right / left)
    weights[1:-1:2] = (left + right) ** 3 / (6 * left * right)
    weights[2::2] += (left + right) / 6 * (2 - left / right)
    weights *= 4 * np.pi * r**2 * density[:n]
    return r, weights


def _form_factors(n: int, radius: Array, density: Array) -> Array:
    """c(G) at the first ``n`` multiples of ``SPACING`` from 0, as ``form_factor``, in a tenth of its time.

    With G = a + b, a a multiple of some k spacings, sin(Gr) = sin(ar) cos(br) + cos(ar) sin(br), so that the sums over
    r are two products of matrices.
    """
    r, weights = _weights(radius, density)
    k = int(np.sqrt(n)) + 1
    coarse, fine = (step * np.arange(k)[:, None] * r for step in (k * SPACING, SPACING))
    over_r = np.divide(weights, r, out=np.zeros_like(weights), where=r > 0)  # w is 0 at r = 0
    sums = (over_r * np.sin(coarse)) @ np.cos(fine).T + (over_r * np.cos(coarse)) @ np.sin(fine).T
    found = sums.reshape(-1)[:n]
    found[0] = weights.sum()
    found[1:] /= SPACING * np.arange(1, n)
    return found


def _coefficients(sphere: DensitySphere, radius: Array, density: Array) -> Array:
    """c(G) of the stored plane waves, 0 outside the sphere, through a spline over equally spaced wavenumbers."""
    from scipy.interpolate import CubicSpline  # as in ``energies``: much to import, and few have a core charge

    g = np.sqrt(sphere.squared[sphere.inside])
    # The spline is good to 2e-13 of c(0) for Be.  2 million grid points have 500,000 plane waves, which would take
    # 6 s one by one; the nodes up to 100 Ry are 1,900.
    nodes = SPACING * np.arange(int(g.max(initial=SPACING) / SPACING) + 4)
    values = np.zeros(sphere.squared.shape)
    # c is even in G, so that its slope at 0 is 0.
    at_nodes = _form_factors(len(nodes), radius, density)
    values[sphere.inside] = CubicSpline(nodes, at_nodes, bc_type=("clamped", "not-a-knot"))(g)
    return values


def core_density(sphere: DensitySphere, positions: Array, radius: Array, density: Array) -> Array:
    """Core charge n_core(r) = 1/Ω Σ_G c(G) Σ_a exp(iG·(r - R_a)) of the atoms of one species.

    Args:
        sphere: the plane waves of the density.
        positions: R_a, shape (n_atoms, 3) [Å].
        radius, density: the core charge of one atom, as in ``form_factor``.

    Returns:
        n_core, shape (n_x, n_y, n_z), slightly negative in places, as the sphere cuts it off [1/Å³].

    Raises:
        ValueError: as ``form_factor``.
    """
    s = structure_factor(fractional(positions, sphere.cell), sphere.orders, np.ones(len(positions)))
    s *= _coefficients(sphere, radius, density) / sphere.volume
    return sphere.to_real(s)


def core_forces(weight: Array, sphere: DensitySphere, positions: Array, radius: Array, density: Array) -> Array:
    """Forces F_a = -∫ u(r) ∂n_core(r)/∂R_a dr of an energy whose derivative with respect to n_core is u.

    Args:
        weight: u = δA/δn_core, shape (n_x, n_y, n_z) [eV].
        sphere, positions, radius, density: as in ``core_density``.

    Returns:
        Shape (n_atoms, 3) [eV/Å].

    Raises:
        ValueError: as ``form_factor``, or the weight does not lie on the grid of ``sphere``.
    """
    c = sphere.to_reciprocal(weight) * _coefficients(sphere, radius, density) * sphere.multiplicity
    return phase_forces(fractional(positions, sphere.cell), sphere.orders, c, sphere.cell)
