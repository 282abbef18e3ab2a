"""Heat capacity of the electrons from their density of states.  Energies in eV, temperatures in K."""

from .quadrature import Quadrature
from .smearing import Array, fermi_dirac_slope
from .units import K_B


def heat_capacity(dos: Array, quadrature: Quadrature, *, fermi_level: float, temperature: float) -> float:
    """Heat capacity C = τ ∂S/∂τ of electrons at a constant number N and a DOS that stays [eV/K per cell].

    With x = (ε - ε_F) / k_B τ and M_n = ∫ xⁿ f (1 - f) D dε,
    C = k_B (M_2 - M_1² / M_0).
    For ∂f/∂τ = f (1 - f) (x / τ + ε_F' / k_B τ) with ε_F' = ∂ε_F/∂τ; N stays where ε_F' = -k_B M_1 / M_0; and
    C = ∫ (ε - ε_F) ∂f/∂τ D dε.  The second term is what the Fermi level takes by moving.

    Args:
        dos: D, shape (n_energy,) [1/eV, both spins].
        quadrature: the integration rule on the grid of ``dos``.
        fermi_level, temperature: ε_F [eV] that holds the electrons, τ [K].

    Raises:
        ValueError: no state answers to a change of the Fermi level.

    Source: Mermin, Phys. Rev. 137, A1441 (1965) for S; own derivation.
    """
    if temperature == 0:
        return 0.0
    width = K_B * temperature

    def moment(n: int) -> float:
        """k_B τ ∫ xⁿ f' D dε, as f (1 - f) = k_B τ f'."""
        weights = quadrature.weights(
            lambda e: (
                ((e - fermi_level) / width) ** n
                * fermi_dirac_slope(e, fermi_level=fermi_level, temperature=temperature)
            )
        )
        return width * float(weights @ dos)

    m0, m1, m2 = (moment(n) for n in range(3))
    if not m0 > 0:
        raise ValueError(
            f"the DOS gives {m0 / width:g} electrons/eV at ε_F = {fermi_level:g} eV, but must be positive there"
        )
    return K_B * (m2 - m1**2 / m0)
