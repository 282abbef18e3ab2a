"""Heat capacity, order and transition temperature from Monte Carlo chains.  eV, K; heat capacities in k_B per site.

All temperatures of a chain together give the density of states, hence every mean as a smooth function of temperature.
Errors are those of the chain alone: it is cut into blocks, and each mean is formed again without one of them.

Sources: Ferrenberg & Swendsen, Phys. Rev. Lett. 63, 1195 (1989), many histograms; Efron, The Jackknife, the Bootstrap
and Other Resampling Plans (1982), chapter 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import logsumexp

from ..physics.units import K_B
from .lattice import Float64, Int
from .monte_carlo import Chain

BLOCKS = 8
BINS = 20_000  # of energy, at most
FINE = 400  # temperatures at which a curve is looked at for its peak
POOR = 0.02  # share of exchanges below which neighbouring temperatures are not connected


@dataclass(frozen=True, eq=False)
class Curves:
    """Means as functions of temperature.

    temperatures: (n,) [K].  energy: mean, per site [eV].  heat_capacity: per site [k_B].  order: see ``Ordering``.
    """

    temperatures: Float64
    energy: Float64
    heat_capacity: Float64
    order: Float64

    @property
    def peak(self) -> float:
        """The temperature of the largest heat capacity [K]."""
        top = int(self.heat_capacity.argmax())
        if not 0 < top < len(self.temperatures) - 1:
            return float(self.temperatures[top])
        at, height = self.temperatures[top - 1 : top + 2], self.heat_capacity[top - 1 : top + 2]
        a, b, _ = np.polyfit(at - at[1], height, 2)
        return float(at[1] - b / (2 * a)) if a < 0 else float(at[1])


def curves_at(temperatures: Float64, chain: Chain, rounds: Int | slice = slice(None)) -> Curves:
    """Means at any temperatures within the chain's, from the energies of some of its rounds.

    The density of states is g(E) ~ H(E) / Σ_k n_k exp(f_k - E / k_B T_k), with H the histogram of all energies, n_k
    their number at T_k, and f_k = -ln Σ_E g(E) exp(-E / k_B T_k), which is iterated from ∫ <E> dβ.
    """
    energies, order = chain.energies[rounds], chain.order[rounds]
    betas = 1 / (K_B * chain.temperatures)
    low, high = energies.min(), energies.max()
    n_bins = int(np.clip((high - low) * betas.max() / 0.02, 1, BINS))
    bins = np.minimum(((energies - low) / max(high - low, 1e-300) * n_bins).astype(int), n_bins - 1).ravel()
    count = np.bincount(bins, minlength=n_bins)
    there = count > 0
    level = np.bincount(bins, energies.ravel(), n_bins)[there] / count[there]
    ordered = np.bincount(bins, order.ravel(), n_bins)[there] / count[there]
    zero = level.mean()
    level -= zero
    mean = energies.mean(axis=0) - zero
    f = np.concatenate([[0.0], np.cumsum(0.5 * (mean[1:] + mean[:-1]) * np.diff(betas))])
    for _ in range(1000):
        density = np.log(count[there]) - logsumexp(f[:, None] - betas[:, None] * level, axis=0)
        new = -logsumexp(density - betas[:, None] * level, axis=1)
        new -= new[0]
        moved, f = abs(new - f).max(), new
        if moved < 1e-6:
            break
    at = 1 / (K_B * temperatures)
    weights = density - at[:, None] * level
    weights = np.exp(weights - logsumexp(weights, axis=1)[:, None])
    first, second = weights @ level, weights @ level**2
    return Curves(
        temperatures,
        (first + zero) / chain.n_sites,
        (second - first**2) * at**2 / chain.n_sites,
        weights @ ordered,
    )


@dataclass(frozen=True, eq=False)
class Thermodynamics:
    """What a chain says of the alloy.

    at: at the chain's temperatures.  errors: standard errors of ``at``, of this chain alone.  fine: between them.
    peak: temperature of the largest heat capacity [K], and its error.  connected: neighbouring temperatures exchange;
    where they do not, as at a transition of first order in a large cell, means between them cannot be trusted.
    inside: the peak is not at an end of the temperatures.
    """

    at: Curves
    errors: Curves
    fine: Curves
    peak: float
    peak_error: float
    connected: bool
    inside: bool

    @classmethod
    def of(cls, chain: Chain) -> Self:
        """From the rounds of a chain, which has two temperatures or more."""
        temperatures = chain.temperatures
        grid = np.linspace(temperatures[0], temperatures[-1], FINE)
        all_of_them = np.concatenate([temperatures, grid])
        n = len(chain.energies)
        parts = np.array_split(np.arange(n), min(BLOCKS, n))
        whole = curves_at(all_of_them, chain)
        without = [curves_at(all_of_them, chain, np.setdiff1d(np.arange(n), part)) for part in parts]

        def error(of: Callable[[Curves], Float64 | float]) -> Float64:
            values = np.array([of(curves) for curves in without])
            return np.sqrt((len(values) - 1) * values.var(axis=0))

        here, between = slice(len(temperatures)), slice(len(temperatures), None)
        fine = _part(whole, between)
        return cls(
            _part(whole, here),
            Curves(
                temperatures,
                error(lambda curves: curves.energy[here]),
                error(lambda curves: curves.heat_capacity[here]),
                error(lambda curves: curves.order[here]),
            ),
            fine,
            fine.peak,
            float(error(lambda curves: _part(curves, between).peak)),
            bool(chain.exchanged.min(initial=1.0) > POOR),
            bool(0.02 * FINE < fine.heat_capacity.argmax() < 0.98 * FINE),
        )


def _part(curves: Curves, which: slice) -> Curves:
    return Curves(curves.temperatures[which], curves.energy[which], curves.heat_capacity[which], curves.order[which])
