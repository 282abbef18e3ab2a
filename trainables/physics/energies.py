"""Electron count, Fermi level, band energy and entropy term of a Kohn-Sham system from its DOS.

Energies in eV, temperatures in K.  The remaining terms of the total free energy stand in ``hartree``,
``exchange_correlation``, ``core_charge`` and ``ewald``; ``free_energy`` joins them.
"""

from dataclasses import dataclass

import numpy as np

from .quadrature import Quadrature
from .smearing import Array, entropy, fermi_dirac
from .units import K_B


def n_electrons(dos: Array, quadrature: Quadrature, *, fermi_level: float, temperature: float) -> float:
    """Number of electrons N = ∫ f(ε) D(ε) dε.

    Args:
        dos: D, shape (n_energy,) [1/eV, both spins].
        quadrature: the integration rule on the grid of ``dos``.
        fermi_level, temperature: ε_F [eV], τ [K].

    Source: Ellis et al., Phys. Rev. B 104, 035120 (2021).
    """
    w = quadrature.weights(lambda e: fermi_dirac(e, fermi_level=fermi_level, temperature=temperature))
    return float(w @ dos)


def fermi_level(dos: Array, quadrature: Quadrature, *, electrons: float, temperature: float) -> float:
    """Fermi level ε_F at which ∫ f(ε) D(ε) dε = N, by a bracketed root to 1e-12 eV [eV].

    Args:
        dos: D, shape (n_energy,) [1/eV, both spins].
        quadrature: the integration rule on the grid of ``dos``.
        electrons: N.
        temperature: τ [K].

    Raises:
        ValueError: the shapes differ, D is not finite, or the energy grid holds too few states for N electrons.
    """
    from scipy.optimize import brentq  # a fifth of the time that it takes to import a dataset

    if dos.shape != quadrature.energy.shape:
        raise ValueError(f"dos has shape {dos.shape} but its energy grid has {quadrature.energy.shape}")
    if not np.isfinite(dos).all():
        raise ValueError("dos has values that are not finite")
    low, high = quadrature.energy[0], quadrature.energy[-1]
    energy, states = quadrature.states(dos)

    def excess(level: float) -> float:
        return float(states @ fermi_dirac(energy, fermi_level=level, temperature=temperature)) - electrons

    if excess(low) > 0 or excess(high) < 0:
        raise ValueError(
            f"the energy grid from {low:g} to {high:g} eV holds {excess(high) + electrons:.3f} electrons when full, "
            f"but {electrons:g} are needed; sample the LDOS over a wider range of energies"
        )
    return float(brentq(excess, low, high, xtol=1e-12))


def band_energy(dos: Array, quadrature: Quadrature, *, fermi_level: float, temperature: float) -> float:
    """Band energy E_b = ∫ f(ε) ε D(ε) dε [eV per cell].

    Args:
        dos: D, shape (n_energy,) [1/eV, both spins].
        quadrature: the integration rule on the grid of ``dos``.
        fermi_level, temperature: ε_F [eV], τ [K].

    Source: Fiedler et al. (2022), Eq. 13.
    """
    w = quadrature.weights(lambda e: e * fermi_dirac(e, fermi_level=fermi_level, temperature=temperature))
    return float(w @ dos)


def entropy_term(dos: Array, quadrature: Quadrature, *, fermi_level: float, temperature: float) -> float:
    """Entropy term -τS = -k_B τ ∫ s(ε) D(ε) dε of the free energy, never positive for D >= 0 [eV per cell].

    Args:
        dos: D, shape (n_energy,) [1/eV, both spins].
        quadrature: the integration rule on the grid of ``dos``.
        fermi_level, temperature: ε_F [eV], τ [K].

    Source: Mermin, Phys. Rev. 137, A1441 (1965).
    """
    if temperature == 0:
        return 0.0
    w = quadrature.weights(lambda e: entropy(e, fermi_level=fermi_level, temperature=temperature))
    return float(-K_B * temperature * (w @ dos))


@dataclass(frozen=True)
class Energies:
    """What a DOS alone gives: Fermi level, band energy and entropy term [eV per cell]."""

    fermi_level: float
    band: float
    entropy: float


def energies(dos: Array, quadrature: Quadrature, *, electrons: float, temperature: float) -> Energies:
    """Fermi level of ``electrons`` electrons, and the energies at it.  Arguments and errors as in ``fermi_level``."""
    level = fermi_level(dos, quadrature, electrons=electrons, temperature=temperature)
    return Energies(
        fermi_level=level,
        band=band_energy(dos, quadrature, fermi_level=level, temperature=temperature),
        entropy=entropy_term(dos, quadrature, fermi_level=level, temperature=temperature),
    )
