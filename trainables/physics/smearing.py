"""Fermi-Dirac occupation and entropy of one-electron states, and the kernels that broaden an LDOS.

Energies in eV, temperatures in K.
"""

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, xlogy

from .units import K_B

Array = NDArray[np.float64]
Kernel = Literal["gaussian", "fermi-dirac"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)


def fermi_dirac(energy: ArrayLike, *, fermi_level: float, temperature: float) -> Array:
    """Occupation f(ε) = 1 / (1 + exp((ε - ε_F) / k_B τ)) of one-electron states.

    Args:
        energy: ε, any shape [eV].
        fermi_level: ε_F [eV].
        temperature: electronic temperature τ [K]; at 0 the step, with 1/2 at ε_F.

    Returns:
        Occupations in [0, 1], the shape of ``energy``.

    Source: Mermin, Phys. Rev. 137, A1441 (1965).
    """
    energy = np.asarray(energy, dtype=float)
    if temperature == 0:
        return np.heaviside(fermi_level - energy, 0.5)
    # expit, not 1 / (1 + exp), which overflows: 20 eV above ε_F at 298 K is x = 779, beyond a double.
    return expit((fermi_level - energy) / (K_B * temperature))


def fermi_dirac_slope(energy: ArrayLike, *, fermi_level: float, temperature: float) -> Array:
    """Slope f'(ε) = ∂f/∂ε_F = f (1 - f) / k_B τ of the occupation [1/eV].

    Arguments as in ``fermi_dirac``, with τ > 0: at 0 it is no function.
    """
    return broadening(np.asarray(energy) - fermi_level, kernel="fermi-dirac", width=K_B * temperature)


def entropy(energy: ArrayLike, *, fermi_level: float, temperature: float) -> Array:
    """Entropy s(ε) = -[f ln f + (1 - f) ln(1 - f)] of one-electron states, in units of k_B.

    Args:
        energy: ε, any shape [eV].
        fermi_level, temperature: as in ``fermi_dirac``.

    Returns:
        Values in [0, ln 2], the shape of ``energy``; the entropy term of an energy is -k_B τ s.

    Source: Mermin, Phys. Rev. 137, A1441 (1965).
    """
    f = fermi_dirac(energy, fermi_level=fermi_level, temperature=temperature)
    # The occupation of the mirrored energy, not 1 - f: below ε_F the latter loses every digit.
    hole = fermi_dirac(2 * fermi_level - np.asarray(energy), fermi_level=fermi_level, temperature=temperature)
    return -np.asarray(xlogy(f, f) + xlogy(hole, hole), dtype=np.float64)


def broadening(difference: ArrayLike, *, kernel: Kernel, width: float) -> Array:
    """Kernel K(E - ε) that turns a one-electron state into a peak of unit area.

    Args:
        difference: E - ε, any shape [eV].
        kernel: ``gaussian``, exp(-(x/w)²) / (w √π) as Quantum ESPRESSO defines the width, or
            ``fermi-dirac``, -df/dε at k_B τ = w, which pp.x before 7.2 takes from the SCF's own smearing.
        width: w [eV].

    Returns:
        K, the shape of ``difference`` [1/eV].
    """
    x: Array = np.asarray(difference, dtype=np.float64) / width
    if kernel == "gaussian":
        return np.exp(-(x**2)) / (width * math.sqrt(math.pi))
    return expit(x) * expit(-x) / width
