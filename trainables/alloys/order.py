"""The short-range order of configurations, and how far it lies from that of others."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..errors import InputError
from .lattice import Float64, Lattice
from .shell_model import Shells, Species, distinct_shells

MOST = 4  # neighbour shells that are looked at
FAR = 0.5  # of the width of a range: of 60 splits of the examples, 1 of 2,340 test configurations is further outside

Range = tuple[float, float]


def warren_cowley(lattice: Lattice, species: Species, n_shells: int) -> Float64:
    """α_r = (c_r - m²) / (1 - m²) of configurations (n, n_sites) in each shell, (n, n_shells); NaN for one element.

    c_r is the mean of σ_i σ_j over the pairs of shell r, and m that of σ = ±1.  Without order α is 0; it is 1 where
    all neighbours are alike.

    Source: Cowley, Phys. Rev. 77, 669 (1950).
    """
    m, c = _shells(lattice, n_shells).correlations(species)
    mixed = np.where(abs(m) < 1, 1 - m**2, np.nan)[:, None]
    return np.asarray((c - m[:, None] ** 2) / mixed)


@lru_cache(maxsize=16)  # a prediction takes a thousandth of the time that they take
def _shells(lattice: Lattice, n_shells: int) -> Shells:
    return Shells.of(lattice, n_shells)


def ranges_of(lattice: Lattice, species: Species) -> list[Range]:
    """The least and the largest α_r of each shell; none of a cell that tells no shells apart, or without a mixture."""
    try:
        found = warren_cowley(lattice, species, distinct_shells(lattice, MOST))
    except InputError:
        return []
    found = found[np.isfinite(found).all(axis=1)]
    return [(float(low), float(high)) for low, high in zip(found.min(axis=0), found.max(axis=0))] if len(found) else []


def unlike(lattice: Lattice, species: Species, known: Sequence[Range]) -> list[str]:
    """Why the order of a configuration (n_sites,) is unlike any in some ranges, one sentence at most.

    Args:
        lattice: of the configuration, a cell of the lattice of the ranges.
        species: 0 or 1 by site.
        known: as ``ranges_of``.
    """
    if not known or len(set(species.tolist())) < 2:
        return []
    order = warren_cowley(lattice, species[None], len(known))[0]
    low, high = np.array(known).T
    beyond = np.maximum(low - order, order - high) > FAR * (high - low + 1e-9)
    return [
        f"its order is unlike the training: the Warren-Cowley parameter of neighbour shell {r + 1} is {order[r]:.2f}, "
        f"and {low[r]:.2f} to {high[r]:.2f} there; errors are unknown"
        for r in np.flatnonzero(beyond)[:1]
    ]
