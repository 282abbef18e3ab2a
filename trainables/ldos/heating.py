"""A structure at several electronic temperatures, from the LDOS of one.  Energies in eV per cell, temperatures in K."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..physics.energies import Energies, energies
from ..physics.heat_capacity import heat_capacity
from ..physics.quadrature import Quadrature
from .prediction import Heated

Float64 = NDArray[np.float64]


def heated(
    dos: Float64,
    quadrature: Quadrature,
    known: Sequence[Energies],
    levels: Float64,
    free_energy: Float64 | None,
    *,
    electrons: float,
    temperatures: Sequence[float],
) -> list[Heated]:
    """A(τ) = A(τ₀) + F(τ) - F(τ₀) with F = E_b - τS of the same DOS, and what follows from it.

    The density stays that of τ₀.  A with the potential of one density is stationary in it (Harris and Foulkes), so that
    an error is of second order in how the density changes with τ, and -∂A/∂τ is S, as it has to be.

    Args:
        dos: D of each initialisation, (T, n_energy) [1/eV].
        quadrature: the integration rule on its grid.
        known: energies of each at τ₀.
        levels: what the energies of the grid are relative to, (T,) [eV].
        free_energy: A(τ₀), (T,) [eV]; None where it is not known.
        electrons: N.
        temperatures: τ [K].

    Raises:
        ValueError: the DOS cannot hold the electrons.

    Source: Foulkes and Haydock, Phys. Rev. B 39, 12520 (1989), for the functional.
    """
    found = []
    for kelvin in temperatures:
        at = [energies(d, quadrature, electrons=electrons, temperature=kelvin) for d in dos]
        rise = np.array([a.band + a.entropy - b.band - b.entropy for a, b in zip(at, known, strict=True)])
        entropy_term = np.array([e.entropy for e in at])
        each: dict[str, Float64] = {
            "entropy_term": entropy_term,
            "fermi_level": np.array([e.fermi_level for e in at]) + levels,
            "heat_capacity": np.array(
                [
                    heat_capacity(d, quadrature, fermi_level=e.fermi_level, temperature=kelvin)
                    for d, e in zip(dos, at, strict=True)
                ]
            ),
        }
        if free_energy is not None:
            each |= {"free_energy": free_energy + rise, "internal_energy": free_energy + rise - entropy_term}
        means: dict[str, Any] = {name: float(values.mean()) for name, values in each.items()}
        std = {name: float(values.std()) for name, values in each.items()}
        found.append(Heated(kelvin, **{"free_energy": None, "internal_energy": None} | means, std=std))
    return found
