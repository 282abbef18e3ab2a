"""Total free energy of a Kohn-Sham system from its density of states and its density, and its derivatives.

A = E_b - k_B τ S - E_H[n] + E_xc[n + n_core] - ∫ v_xc[n + n_core] n dr + E_Ewald, with E_b and S as in
``energies``.  No external potential: the band energy holds it.  Energies in eV, lengths in Å, temperatures in K.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from .energies import Energies
from .exchange_correlation import Functional, exchange_correlation, kernel_product
from .hartree import hartree
from .quadrature import Quadrature
from .reciprocal import DensitySphere
from .smearing import Array, entropy, fermi_dirac, fermi_dirac_slope
from .units import K_B

STRAIN = 1e-4  # by which cells are strained for a difference


@dataclass(frozen=True)
class DensityEnergies:
    """What a density alone gives [eV per cell]: E_H, E_xc[n + n_core] and ∫ v_xc[n + n_core] n dr."""

    hartree: float
    xc: float
    xc_potential: float


@dataclass(frozen=True)
class FreeEnergy:
    """The terms of the total free energy [eV per cell]; ``hartree`` is E_H >= 0 and ``xc_potential`` is ∫ v_xc n dr."""

    fermi_level: float
    band: float
    entropy: float
    hartree: float
    xc: float
    xc_potential: float
    ewald: float

    @property
    def total(self) -> float:
        """A = E_b - k_B τ S - E_H + E_xc - ∫ v_xc n dr + E_Ewald (Fiedler et al. 2022, Eq. 12)."""
        return self.band + self.entropy - self.hartree + self.xc - self.xc_potential + self.ewald


def density_energies(
    density: Array, sphere: DensitySphere, functional: Functional, core: Array | None = None
) -> DensityEnergies:
    """Hartree energy, exchange-correlation energy and the integral of its potential.

    Args:
        density: n, the valence electrons, shape (n_x, n_y, n_z) [1/Å³].
        sphere: the plane waves of the density.
        functional: ``lda-pz`` or ``pbe``.
        core: n_core of the pseudopotentials that have one, shape (n_x, n_y, n_z) [1/Å³].

    Raises:
        ValueError: a field does not lie on the grid of ``sphere``, or the functional is unknown.

    Source: Fiedler et al. (2022), Eq. 12; Louie, Froyen and Cohen, Phys. Rev. B 26, 1738 (1982) for n_core.
    """
    e_hartree = hartree(density, sphere)[0]  # the potential, as large as the density, goes at once
    e_xc, v_xc = exchange_correlation(_with_core(density, core), sphere, functional)
    return DensityEnergies(hartree=e_hartree, xc=e_xc, xc_potential=sphere.integral(v_xc * density))


def free_energy(electrons: Energies, density: DensityEnergies, *, ewald: float) -> FreeEnergy:
    """All terms of the total free energy side by side.

    Args:
        electrons: Fermi level, band energy and entropy term, from a DOS or from eigenvalues.
        density: what the density gives.
        ewald: energy of the ions [eV per cell], from ``ewald``.
    """
    return FreeEnergy(
        fermi_level=electrons.fermi_level,
        band=electrons.band,
        entropy=electrons.entropy,
        hartree=density.hartree,
        xc=density.xc,
        xc_potential=density.xc_potential,
        ewald=ewald,
    )


def density_gradient(
    density: Array, sphere: DensitySphere, functional: Functional, core: Array | None = None
) -> tuple[Array, Array]:
    """Derivatives of U[n, n_core] = -E_H[n] + E_xc[n + n_core] - ∫ v_xc[n + n_core] n dr.

    δU/δn = -v_H - f_xc·n and δU/δn_core = v_xc - f_xc·n, with f_xc·n = ∫ f_xc(r, r') n(r') dr' (``kernel_product``).

    Arguments and errors as in ``density_energies``.

    Returns:
        δU/δn and δU/δn_core, each of shape (n_x, n_y, n_z) [eV].
    """
    _, v_hartree = hartree(density, sphere)
    total = _with_core(density, core)
    _, v_xc = exchange_correlation(total, sphere, functional)
    response = kernel_product(total, density, sphere, functional)
    return -v_hartree - response, v_xc - response


def density_strain(
    density: Array,
    sphere: DensitySphere,
    functional: Functional,
    core: Callable[[DensitySphere], Array | None] = lambda sphere: None,
) -> Array:
    """Derivative of U (``density_gradient``) with respect to strain, while each grid point keeps its n.

    By a central difference of U over strains of 1e-4 of the cell with all its plane waves: E_H, the gradients of n, the
    volume and the core charge change.  Off by 1e-8 of U.

    Args:
        density, sphere, functional: as in ``density_energies``.
        core: n_core of the atoms on the plane waves of a strained cell.

    Returns:
        dU/dε, symmetric, (3, 3) [eV]; the strain ε takes r to (1 + ε) r.
    """

    def energy(strain: Array) -> float:
        there = sphere.strained(strain)
        found = density_energies(density, there, functional, core(there))
        return found.xc - found.hartree - found.xc_potential

    slopes = np.empty((3, 3))
    for a, b in combinations_with_replacement(range(3), 2):
        strain = np.zeros((3, 3))
        strain[a, b] += STRAIN / 2
        strain[b, a] += STRAIN / 2
        slopes[a, b] = slopes[b, a] = (energy(strain) - energy(-strain)) / (2 * STRAIN)
    return slopes


@dataclass(frozen=True, eq=False)
class LdosGradient:
    """δA/δd_j(r) = a_j + w_j u(r), in pieces, so that an LDOS larger than memory can be worked through.

    A change δd of the LDOS changes A by Σ_j ∫ (a_j + w_j u(r)) δd_j(r) dr; a single grid point stands for Ω/n_points.

    Attributes:
        constant: a_j, shape (n_energy,) [eV²].
        weights: w_j of the density, n = Σ_j w_j d_j, shape (n_energy,) [eV].
        potential: u(r), shape of the grid [eV].
        mean: what was subtracted from δU/δn to get it, so that the number of electrons stays [eV].
    """

    constant: Array
    weights: Array
    potential: Array
    mean: float

    def volume_slope(self, dos: Array) -> float:
        """Ω ∂A/∂Ω through the DOS alone, while each grid point keeps its LDOS [eV].

        A larger volume has as many times the states, and the electrons move ε_F down.

        Args:
            dos: D, shape (n_energy,) [1/eV].
        """
        return float(self.constant @ dos - self.mean * (self.weights @ dos))


def ldos_gradient(
    potential: Array,
    response: Array,
    dos: Array,
    quadrature: Quadrature,
    *,
    volume: float,
    fermi_level: float,
    temperature: float,
) -> LdosGradient:
    """Derivative of A with respect to the LDOS at a constant number of electrons.

    With weights w^F of the rule for F, f' = ∂f/∂ε_F, n'(r) = Σ_j w^f'_j d_j(r) and u = δU/δn,
    δA/δd_j(r) = w^εf_j + w^-kτs_j - ε_F w^f_j + w^f_j (u(r) - ū),  ū = ∫ u n' dr / Σ_j w^f'_j D_j.
    For ∂(εf - k_B τ s)/∂ε_F = ε_F f', and N = Σ_j w^f_j D_j moves ε_F by -w^f_j / Σ_j w^f'_j D_j for each δd_j(r).
    Exact for every rule whose weights are linear in F.

    Args:
        potential: u = δU/δn, the first result of ``density_gradient``, shape (n_x, n_y, n_z) [eV].
        response: n', from ``local.density_response``, shape (n_x, n_y, n_z) [1/(eV Å³)].
        dos: D, shape (n_energy,) [1/eV].
        quadrature: the integration rule on the grid of ``dos``.
        volume: cell volume Ω [Å³].
        fermi_level, temperature: ε_F [eV] that holds the electrons, τ [K].

    Raises:
        ValueError: the temperature is 0, where f' is no function, or no state answers to a change of ε_F.

    Source: the derivative of Fiedler et al. (2022), Eq. 12, at fixed N.
    """
    if temperature == 0:
        raise ValueError("at 0 K the free energy has no derivative with respect to the LDOS; take a temperature above")
    at = {"fermi_level": fermi_level, "temperature": temperature}
    w_f = quadrature.weights(lambda e: fermi_dirac(e, **at))
    w_free = quadrature.weights(lambda e: e * fermi_dirac(e, **at) - K_B * temperature * entropy(e, **at))
    states = float(quadrature.weights(lambda e: fermi_dirac_slope(e, **at)) @ dos)
    if not states > 0:
        raise ValueError(
            f"the DOS gives {states:g} electrons/eV at ε_F = {fermi_level:g} eV, but must be positive there"
        )
    mean = volume * float(np.mean(potential * response)) / states
    return LdosGradient(constant=w_free - fermi_level * w_f, weights=w_f, potential=potential - mean, mean=mean)


def _with_core(density: Array, core: Array | None) -> Array:
    return np.asarray(density, dtype=np.float64) if core is None else np.add(density, core, dtype=np.float64)
