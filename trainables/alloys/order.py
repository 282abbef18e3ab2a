"""The composition and short-range order of configurations, and how far they lie from those of others."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..errors import InputError
from .lattice import Float64, Lattice
from .shell_model import Shells, Species, distinct_shells

MOST = 4  # neighbour shells that are looked at
NEAR = 0.07  # of a share of the second element: 2 of 32 sites; errors grow from 3 on, and many times from 4 on
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


def contents_of(species: Species) -> list[float]:
    """The shares of the second element among configurations (n, n_sites), each once."""
    return sorted(set(species.mean(axis=1).tolist()))


def far_content(content: float, known: Sequence[float], symbol: str) -> list[str]:
    """Why a share of the second element is unlike any of some, one sentence at most.

    Args:
        content: the share.
        known: as ``contents_of``, or none.
        symbol: of the second element.
    """
    nearest = min(known, key=lambda one: abs(one - content), default=content)
    if abs(nearest - content) <= NEAR:
        return []
    return [
        f"its share of {symbol} is unlike the training: {100 * content:.3g} %, and the nearest there "
        f"{100 * nearest:.3g} %; errors are unknown"
    ]
