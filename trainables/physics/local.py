"""From the local density of states on a real-space grid to its integrals.  Energies in eV, lengths in Å."""

import numpy as np
from numpy.typing import ArrayLike

from .quadrature import Quadrature
from .smearing import Array, fermi_dirac, fermi_dirac_slope


def dos(ldos: ArrayLike, *, volume: float) -> Array:
    """Density of states D(ε) = ∫ d(ε, r) dr, the mean over the grid times the cell volume.

    Args:
        ldos: d, shape (..., n_energy), all leading axes being grid points [1/(eV Å³)].
        volume: cell volume Ω [Å³].

    Returns:
        D, shape (n_energy,) [1/eV].

    Source: Ellis et al., Phys. Rev. B 104, 035120 (2021).
    """
    values = np.asarray(ldos)
    return volume * values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)


def density(ldos: ArrayLike, quadrature: Quadrature, *, fermi_level: float, temperature: float) -> Array:
    """Electron density n(r) = ∫ f(ε) d(ε, r) dε = Σ_j w_j d(ε_j, r).

    Args:
        ldos: d, shape (..., n_energy) [1/(eV Å³)].
        quadrature: the integration rule on the energy grid of ``ldos``.
        fermi_level, temperature: ε_F [eV], τ [K].

    Returns:
        n, the leading shape of ``ldos`` [1/Å³].

    Source: Ellis et al., Phys. Rev. B 104, 035120 (2021).
    """
    w = quadrature.weights(lambda e: fermi_dirac(e, fermi_level=fermi_level, temperature=temperature))
    return np.asarray(ldos, dtype=np.float64) @ w


def density_response(ldos: ArrayLike, quadrature: Quadrature, *, fermi_level: float, temperature: float) -> Array:
    """Answer n'(r) = ∂n(r)/∂ε_F = ∫ f'(ε) d(ε, r) dε of the density to a shift of the Fermi level, at τ > 0.

    Arguments as in ``density``.

    Returns:
        n', the leading shape of ``ldos`` [1/(eV Å³)].
    """
    w = quadrature.weights(lambda e: fermi_dirac_slope(e, fermi_level=fermi_level, temperature=temperature))
    return np.asarray(ldos, dtype=np.float64) @ w
