"""How far a rule of integration is off on an energy grid, tried on DOS whose integrals are known.  eV, K."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from .quadrature import Quadrature
from .smearing import Array, Kernel, broadening, fermi_dirac


@dataclass(frozen=True)
class RuleError:
    """Errors of a rule on the model DOS, an electron, at 300 K.

    Attributes:
        band_energy: root mean square, at a constant number of electrons [eV].
        electrons: largest, a share of all electrons.
    """

    band_energy: float
    electrons: float


TEMPERATURE = 300.0  # [K]; the sharper the Fermi edge, the harder it is for a rule


def rule_error(quadrature: Quadrature, *, kernel: Kernel, width: float) -> RuleError:
    """Try a rule on model metals: bands of free electrons, some with a peak or a dip of 50 % at the Fermi level.

    Their bottom, Fermi level and top lie at different places of the energy grid, and some tops above it, as the states
    above a grid are seen by it, too, when they are broadened.  The band energy at constant N is off by the error of
    ∫ f (ε - ε_F) D dε, as far as the shift of ε_F counts linearly.

    Args:
        quadrature: the rule on its grid.
        kernel, width: how a DOS on this grid was broadened [eV]; see ``broadening``.
    """
    energy = quadrature.energy
    low, high = energy[0], energy[-1]
    bands, counts = [], []
    for level in (low + share * (high - low) for share in (0.5, 0.65, 0.8)):
        f = partial(fermi_dirac, fermi_level=level, temperature=TEMPERATURE)
        energies = partial(_energy_above, level, f)
        count, band = quadrature.weights(f), quadrature.weights(energies)
        bottoms = (low + share * (level - low) for share in (0.15, 0.35))
        tops = ((level + high) / 2, high + 4 * width)
        for bottom, top, modulation in product(bottoms, tops, (-0.5, 0.0, 0.5)):
            states = np.linspace(bottom, top, 801)[1:]
            shape = np.sqrt(states - bottom) * (1 + modulation * np.cos(2 * np.pi * (states - level) / 3.0))
            dos = broadening(energy[:, None] - states, kernel=kernel, width=width) @ shape
            n = shape @ f(states)
            bands.append((band @ dos - shape @ energies(states)) / n)
            counts.append(count @ dos / n - 1)
    return RuleError(float(np.sqrt(np.mean(np.square(bands)))), float(np.abs(counts).max()))


def _energy_above(level: float, f: Callable[[Array], Array], energy: Array) -> Array:
    return f(energy) * (energy - level)
