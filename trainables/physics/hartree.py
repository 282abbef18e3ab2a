"""Hartree energy and potential of an electron density.  Energies in eV, lengths in Å."""

import numpy as np
from numpy.typing import ArrayLike

from .reciprocal import DensitySphere
from .smearing import Array
from .units import COULOMB


def hartree(density: ArrayLike, sphere: DensitySphere) -> tuple[float, Array]:
    """Hartree energy E_H = ½ ∫ n v_H dr = 2πe²Ω Σ_G |n(G)|²/G² and potential v_H(G) = 4πe² n(G)/G².

    G = 0 is left out: the density stands in a neutralising background, as the ions do in ``ewald``.

    Args:
        density: n, shape (n_x, n_y, n_z) [1/Å³].
        sphere: the plane waves of the density; what n holds outside of them does not count.

    Returns:
        E_H [eV per cell], never negative, and v_H, its functional derivative, shape (n_x, n_y, n_z) [eV].

    Raises:
        ValueError: the density does not lie on the grid of ``sphere``.

    Source: Martin, Electronic Structure (2004), Eq. 13.1; Quantum ESPRESSO's ``v_h``.
    """
    n = sphere.to_reciprocal(density)
    squared = np.where(sphere.squared == 0, np.inf, sphere.squared)
    potential = 4 * np.pi * COULOMB * n / squared
    energy = 0.5 * sphere.inner(n, potential)
    return energy, sphere.to_real(potential, overwrite=True)
