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

from ..physics.units import K_B
from .lattice import Float64, Int
from .monte_carlo import Chain

BLOCKS = 8
BINS = 5000  # of energy, at most; otherwise they are a tenth of the smallest k_B T wide
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


@dataclass(frozen=True, eq=False)
class States:
    """The density of states that the energies of a chain give, and the order at each energy.

    The density is g(E) ~ H(E) / Σ_k exp(f_k - E / k_B T_k), with H the histogram of all energies, as many at each T_k,
    and f_k = -ln Σ_E g(E) exp(-E / k_B T_k), which is iterated from ∫ <E> dβ.

    levels: energies less ``zero``, (n_levels,) [eV per cell].  density: ln g.  order: mean at each level.  f: f_k.
    """

    n_sites: int
    zero: float
    levels: Float64
    density: Float64
    order: Float64
    f: Float64

    @classmethod
    def of(cls, chain: Chain, rounds: Int | slice = slice(None), f: Float64 | None = None) -> Self:
        """From some rounds of a chain; ``f`` is where the iteration begins."""
        energies, order = chain.energies[rounds], chain.order[rounds]
        betas = 1 / (K_B * chain.temperatures)
        low, high = energies.min(), energies.max()
        n_bins = int(np.clip((high - low) * betas.max() / 0.1, 1, BINS))
        bins = np.minimum(((energies - low) / max(high - low, 1e-300) * n_bins).astype(int), n_bins - 1).ravel()
        count = np.bincount(bins, minlength=n_bins)
        there = count > 0
        levels = np.bincount(bins, energies.ravel(), n_bins)[there] / count[there]
        ordered = np.bincount(bins, order.ravel(), n_bins)[there] / count[there]
        zero = float(levels.mean())
        levels -= zero
        if f is None:
            mean = energies.mean(axis=0) - zero
            f = np.concatenate([[0.0], np.cumsum(0.5 * (mean[1:] + mean[:-1]) * np.diff(betas))])
        density = np.zeros(len(levels))
        for _ in range(1000):
            density = np.log(count[there]) - _log_of_sum(f[:, None] - betas[:, None] * levels, axis=0)
            new = -_log_of_sum(density - betas[:, None] * levels, axis=1)
            new -= new[0]
            moved, f = abs(new - f).max(), new
            if moved < 1e-3:
                break
        return cls(chain.n_sites, zero, levels, density, ordered, f)

    def at(self, temperatures: Float64) -> Curves:
        """Means at any temperatures within those of the chain."""
        betas = 1 / (K_B * temperatures)
        weights = self.density - betas[:, None] * self.levels
        weights = np.exp(weights - _log_of_sum(weights, axis=1)[:, None])
        first, second = weights @ self.levels, weights @ self.levels**2
        return Curves(
            temperatures,
            (first + self.zero) / self.n_sites,
            (second - first**2) * betas**2 / self.n_sites,
            weights @ self.order,
        )


@dataclass(frozen=True, eq=False)
class Thermodynamics:
    """What a chain says of the alloy.

    at: at the chain's temperatures.  errors: standard errors of ``at``, of the simulation alone.  fine: between them.
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
    def of(cls, chain: Chain, n_chains: int = 1) -> Self:
        """From the rounds of a chain, or of several at the same temperatures that were joined.

        Args:
            chain: of two temperatures or more.
            n_chains: how many of the same length it is joined of.  Where there are three or more, the errors come from
                their differences, otherwise from blocks, which are too short to know of slow changes.
        """
        temperatures = chain.temperatures
        grid = np.linspace(temperatures[0], temperatures[-1], FINE)
        all_of_them = np.concatenate([temperatures, grid])
        n = len(chain.energies)
        states = States.of(chain)
        whole = states.at(all_of_them)
        blocks = np.array_split(np.arange(n), n_chains if n_chains > 2 else min(BLOCKS, n))
        parts = [np.setdiff1d(np.arange(n), block) for block in blocks]
        without = [States.of(chain, part, states.f).at(all_of_them) for part in parts]

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


def _log_of_sum(x: Float64, axis: int) -> Float64:
    """ln Σ exp(x) of finite numbers; scipy's, which also takes others, needs five times as long for a few hundred."""
    top = x.max(axis=axis, keepdims=True)
    return np.asarray(np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis))


def _part(curves: Curves, which: slice) -> Curves:
    return Curves(curves.temperatures[which], curves.energy[which], curves.heat_capacity[which], curves.order[which])
