"""Compiled Monte Carlo of a binary alloy with pair energies.  Energies in eV.

σ is -1 or +1 by site.  Of each shell r the kernels keep P_r = Σ_i σ_i Σ_(j in shell r of i) σ_j, a whole number, so
that the energy of a chain of any length is exact:

    E = N (1 - m²) Σ_k a_k m^k + Σ_r (N - P_r / z_r) Σ_k V_rk m^k - Δμ (N + M) / 2,    M = Σ_i σ_i = N m.

A site that is its own neighbour, in a cell as small as that, adds 1 to P_r for good and is in no list of neighbours.
"""

import numpy as np

from ..descriptors.native.compiled import compiled


@compiled
def energy_of(pairs, total, n_sites, sizes, table, potential):
    """E of one configuration.

    Args:
        pairs: P_r, (n_shells,).
        total: M.
        n_sites: N.
        sizes: z_r, (n_shells,).
        table: a_k in the first row, then V_rk, (n_shells + 1, degree + 1) [eV].
        potential: Δμ [eV].
    """
    m = total / n_sites
    energy = -0.5 * potential * (n_sites + total)
    power = 1.0
    for k in range(table.shape[1]):
        energy += n_sites * (1.0 - m * m) * table[0, k] * power
        for r in range(len(sizes)):
            energy += (n_sites - pairs[r] / sizes[r]) * table[r + 1, k] * power
        power *= m
    return energy


@compiled
def _swaps(n, sigma, plus, minus, beta, neighbours, starts, couplings, pairs, change, random):
    """n attempts to exchange two unlike atoms, by Metropolis' rule; returns how many were accepted.

    plus, minus: the sites of both elements, which stay lists of them.  couplings: -dE/dP_r at this composition.
    """
    accepted = 0
    for _ in range(n):
        a, b = int(random.random() * len(plus)), int(random.random() * len(minus))
        i, j = plus[a], minus[b]
        for r in range(len(couplings)):
            around = 0
            for k in range(starts[r], starts[r + 1]):
                around += sigma[neighbours[i, k]]
            change[r] = -4 * around
        sigma[i] = -1  # so that j sees what it will have around it
        delta = 0.0
        for r in range(len(couplings)):
            around = 0
            for k in range(starts[r], starts[r + 1]):
                around += sigma[neighbours[j, k]]
            change[r] += 4 * around
            delta -= couplings[r] * change[r]
        if delta <= 0 or random.random() < np.exp(-beta * delta):
            sigma[j], plus[a], minus[b] = 1, j, i
            accepted += 1
            for r in range(len(couplings)):
                pairs[r] += change[r]
        else:
            sigma[i] = 1
    return accepted


@compiled
def _flips(n, sigma, beta, neighbours, starts, sizes, table, potential, pairs, change, total, random):
    """n attempts to change the element on a site, by Metropolis' rule; returns how many were accepted, and M."""
    n_sites, accepted = len(sigma), 0
    energy = energy_of(pairs, total, n_sites, sizes, table, potential)
    for _ in range(n):
        i = int(random.random() * n_sites)
        for r in range(len(sizes)):
            around = 0
            for k in range(starts[r], starts[r + 1]):
                around += sigma[neighbours[i, k]]
            change[r] = pairs[r] - 4 * sigma[i] * around
        proposed = energy_of(change, total - 2 * sigma[i], n_sites, sizes, table, potential)
        if proposed <= energy or random.random() < np.exp(-beta * (proposed - energy)):
            energy = proposed
            total -= 2 * sigma[i]
            sigma[i] = -sigma[i]
            accepted += 1
            for r in range(len(sizes)):
                pairs[r] = change[r]
    return accepted, total


@compiled
def order_of(sigma, modes, folded):
    """Σ over modes of (mode · folded σ)²; ``folded`` is the mean of σ over the copies of a small cell, (n_cell,)."""
    n_cell = len(folded)
    folded[:] = 0.0
    for start in range(0, len(sigma), n_cell):
        for i in range(n_cell):
            folded[i] += sigma[start + i]
    total = 0.0
    for mode in range(len(modes)):
        along = 0.0
        for i in range(n_cell):
            along += modes[mode, i] * folded[i]
        total += along * along
    return total * (n_cell / len(sigma)) ** 2


@compiled
def temper(
    rounds, sweeps, flips, betas, sigmas, plus, minus, places, pairs, totals, neighbours, starts, sizes, table,
    potential, modes, energies, orders, contents, correlations, exchanged, attempted, accepted, first, random,
):  # fmt: skip
    """Rounds of parallel tempering: sweeps of each replica, its measurement, then exchanges between temperatures.

    Replica ``places[t]`` is at temperature t.  What is measured goes to row round and column temperature of
    ``energies``, ``orders``, ``contents``; P_r is added up in ``correlations``, (n_temperatures, n_shells).
    ``first`` is the number of rounds before, which decides the parity of the exchanges.

    Source: Hukushima & Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996).
    """
    n_sites, n_temperatures = sigmas.shape[1], len(betas)
    change, couplings = np.zeros(len(sizes), np.int64), np.zeros(len(sizes))
    folded = np.zeros(modes.shape[1])
    for r in range(len(sizes)):
        power = 1.0
        for k in range(table.shape[1]):
            couplings[r] += table[r + 1, k] * power / sizes[r]
            power *= totals[0] / n_sites
    for step in range(rounds):
        for t in range(n_temperatures):
            p = places[t]
            n = sweeps * n_sites
            if flips:
                done, totals[p] = _flips(
                    n, sigmas[p], betas[t], neighbours, starts, sizes, table, potential, pairs[p], change, totals[p],
                    random,
                )  # fmt: skip
            else:
                done = _swaps(
                    n, sigmas[p], plus[p], minus[p], betas[t], neighbours, starts, couplings, pairs[p], change, random
                )
            accepted[t] += done
            energies[step, t] = energy_of(pairs[p], totals[p], n_sites, sizes, table, potential)
            contents[step, t] = totals[p] / n_sites
            orders[step, t] = order_of(sigmas[p], modes, folded)
            for r in range(len(sizes)):
                correlations[t, r] += pairs[p, r]
        for t in range((first + step) % 2, n_temperatures - 1, 2):
            attempted[t] += 1
            gain = (betas[t + 1] - betas[t]) * (energies[step, t + 1] - energies[step, t])
            if gain >= 0 or random.random() < np.exp(gain):
                places[t], places[t + 1] = places[t + 1], places[t]
                exchanged[t] += 1
