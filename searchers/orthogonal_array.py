"""Mixed-level orthogonal arrays of strength 2, constructed from subspaces over prime fields.

The runs are the vectors v of V = GF(q)^k.  A factor of q^m levels is an m-dimensional subspace of linear functionals on
V; its level in run v is the tuple of values that a basis of the subspace takes on v.  Functionals of two factors whose
subspaces meet only in 0 are independent, so each pair of their levels stands in q^(k - m - m') runs: strength 2.  An
array is therefore a set of subspaces that meet pairwise only in 0.  Those of dimension 1 are the points of the
projective geometry PG(k - 1, q); for even k there are q^(k/2) + 1 of dimension k/2, a spread.

The subspaces come from one partition.  For k/2 <= a < k let U be a (k - a)-dimensional subspace of GF(q^a), and take
GF(q^a) x U for GF(q)^k.  Then

    W = {(w, 0)}  and, for each c in GF(q^a),  S_c = {(c u, u) : u in U}

meet pairwise only in 0, since c u = c' u means c = c' or u = 0.  W has dimension a, the q^a others k - a, and together
they hold every vector.  Each can be partitioned further in the same way.

Several fields: the runs are the tuples of a vector over each, and a factor has a subspace in each, so that 10 = 2 x 5
levels take one dimension over GF(2) and one over GF(5).  A factor whose levels are no such product is collapsed from a
larger one, as evenly as can be.  Joint frequencies stay the products of the marginal ones, over the number of runs
(proportional frequencies), which is what makes two factors exactly uncorrelated.

Sources: Hedayat, Sloane & Stufken, Orthogonal Arrays, Springer (1999); Beutelspacher, Math. Z. 145, 211 (1975), and Bu,
Discrete Math. 31, 79 (1980), for the partition; Addelman, Technometrics 4, 21 (1962), for proportional frequencies.
Arrays that are not linear can be smaller: 2^11 needs 12 runs instead of 16, 2 x 3^7 needs 18 instead of 27.
"""

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

MOST_RUNS = 10_000  # longer arrays are refused: nobody trains one, and to construct it takes minutes
# The fields of a construction: (q, k) for GF(q)^k, q rising.
Fields = tuple[tuple[int, int], ...]
# How many subspaces there are of each dimension: counts[m] of dimension m.
Counts = tuple[int, ...]


def orthogonal_array(
    levels: Sequence[int], *, max_runs: int | None = None, balanced: bool = False
) -> NDArray[np.int64]:
    """The array with the fewest runs of those constructed here.

    Args:
        levels: number of levels of each factor; a factor of one level is constant.
        max_runs: refuse an array of more runs.
        balanced: admit only arrays with all levels of a factor equally often.

    Returns:
        Indices of levels, shape (n_runs, n_factors).  For any two factors, n_ij = n_i n_j / n_runs runs have the levels
        i and j; within a factor no level is more than twice as frequent as another.  Where levels are collapsed, rows
        can coincide; none may be dropped without losing the balance.

    Raises:
        ValueError: a factor has no level, or the array has more than ``max_runs`` or MOST_RUNS runs.
    """
    for i, s in enumerate(levels):
        if s < 1:
            raise ValueError(f"factor {i} has {s} levels; every factor needs at least 1")
    # The largest factors are placed first; the columns keep the order of ``levels``.
    factors = sorted((i for i, s in enumerate(levels) if s > 1), key=lambda i: -levels[i])
    given = f"levels {', '.join(map(str, levels))} take {'a balanced' if balanced else 'an'} orthogonal array of"
    found = _fewest_runs([levels[i] for i in factors], balanced)
    if found is None:
        raise ValueError(f"{given} more than {MOST_RUNS} runs; give fewer levels")
    fields, dimensions = found
    n_runs = _n_runs(fields)
    if max_runs is not None and n_runs > max_runs:
        raise ValueError(f"{given} {n_runs} runs, but max_runs is {max_runs}; allow more runs or give fewer levels")
    vectors = np.indices([q for q, k in fields for _ in range(k)]).reshape(-1, n_runs)
    cells = np.zeros((n_runs, len(levels)), dtype=np.int64)  # levels before they are collapsed
    n_cells = np.ones(len(levels), dtype=np.int64)
    for j, (q, k) in enumerate(fields):
        v, vectors = vectors[:k], vectors[k:]
        for i, basis in zip(factors, _subspaces(q, k, [m[j] for m in dimensions]), strict=True):
            for functional in basis:
                cells[:, i] = q * cells[:, i] + functional @ v % q
                n_cells[i] *= q
    return cells * np.array(levels, dtype=np.int64) // n_cells


def _n_runs(fields: Fields) -> int:
    return math.prod(q**k for q, k in fields)


def _fewest_runs(levels: Sequence[int], balanced: bool) -> tuple[Fields, list[tuple[int, ...]]] | None:
    """The fields with the fewest runs, and the dimensions of each factor in them; ``levels`` fall and exceed 1.

    None if they have more than MOST_RUNS: the search, which would take long, ends there.
    """
    # Two factors have s s' pairs of levels; all factors have sum (s - 1) contrasts, and there is the mean.
    least = max(math.prod(levels[:2]), 1 + sum(s - 1 for s in levels))
    if least > MOST_RUNS:
        return None
    # GF(q)^2 has q + 1 points, one for each factor of up to q levels, so that no larger prime is needed.
    enough = max([2, len(levels) - 1, *levels])
    primes: list[int] = []
    while not primes or primes[-1] < enough:
        primes.append(next(n for n in itertools.count(primes[-1] + 1 if primes else 2) if all(n % q for q in primes)))
    # The loop ends at that GF(q)^2, or at the full factorial where balance is asked for.
    for fields in _by_size(primes):
        if _n_runs(fields) > MOST_RUNS:
            return None
        if _n_runs(fields) >= least and (found := _dimensions(fields, levels, balanced)) is not None:
            return fields, found
    raise AssertionError("unreachable")


def _by_size(primes: Sequence[int]) -> Iterator[Fields]:
    """All fields over the primes by number of runs, without end."""
    heap: list[tuple[int, Fields]] = [(1, ())]
    while True:
        n_runs, fields = heapq.heappop(heap)
        yield fields
        last, k = fields[-1] if fields else (0, 0)
        for q in primes:
            if q == last:
                heapq.heappush(heap, (n_runs * q, (*fields[:-1], (q, k + 1))))
            elif q > last:
                heapq.heappush(heap, (n_runs * q, (*fields, (q, 1))))


def _dimensions(fields: Fields, levels: Sequence[int], balanced: bool) -> list[tuple[int, ...]] | None:
    """Dimensions in each field for each factor, such that the subspaces exist; None if there are none."""
    options = {s: _options(fields, s, balanced) for s in set(levels)}
    # Sums of s - 1 over the factors from i on: fewer contrasts than these cannot be left for them.
    rest = [sum(s - 1 for s in levels[i:]) for i in range(len(levels) + 1)]
    dead: set[tuple[int, tuple[Counts, ...]]] = set()

    def place(i: int, taken: tuple[Counts, ...], n_free: int) -> list[tuple[int, ...]] | None:
        if i == len(levels):
            return []
        if n_free < rest[i] or (i, taken) in dead:
            return None
        for size, m in options[levels[i]]:
            more = tuple(tuple(n + (d == dim) for d, n in enumerate(counts)) for counts, dim in zip(taken, m))
            if all(_partition(q, _whole(k), counts) is not None for (q, k), counts in zip(fields, more)):
                others = place(i + 1, more, n_free - (size - 1))
                if others is not None:
                    return [m, *others]
        dead.add((i, taken))
        return None

    return place(0, tuple((0,) * (k + 1) for _, k in fields), _n_runs(fields) - 1)


def _options(fields: Fields, s: int, balanced: bool) -> list[tuple[int, tuple[int, ...]]]:
    """(number of cells, dimension in each field) that can carry s levels, none larger than need be, smallest first."""
    found = []
    for m in itertools.product(*(range(k + 1) for _, k in fields)):
        size = math.prod(q**d for (q, _), d in zip(fields, m))
        if balanced and size != s:
            continue
        if size >= s and all(d == 0 or size // q < s for (q, _), d in zip(fields, m)):
            found.append((size, m))
    return sorted(found)


def _whole(k: int) -> Counts:
    """One space of dimension k."""
    return (*(0,) * k, 1)


@lru_cache(maxsize=1 << 16)
def _partition(q: int, free: Counts, wanted: Counts) -> tuple[tuple[int, int], ...] | None:
    """Steps (d, a) that get the wanted subspaces out of the free ones; None if there are no such steps.

    Each splits a free subspace of dimension d into one of dimension a and q^a of dimension d - a.  Dimension 0 is not
    counted: any number of zero spaces is there.
    """
    used = [min(f, w) for f, w in zip(free, wanted)]
    left = [f - u for f, u in zip(free, used)]
    wanted = (0, *(w - u for w, u in zip(wanted[1:], used[1:])))
    if not any(wanted):
        return ()
    if sum(n * (q**d - 1) for d, n in enumerate(wanted)) > sum(n * (q**d - 1) for d, n in enumerate(left)):
        return None
    m = max(d for d, n in enumerate(wanted) if n)
    for d in range(m + 1, len(left)):
        if left[d] == 0:
            continue
        # a = d - 1 comes first: over GF(2) no three of the points S_c lie on a line, so few factors get resolution IV.
        for a in range(d - 1, (d - 1) // 2, -1):
            if max(a, d - a) < m:
                continue
            split = left.copy()
            split[d] -= 1
            split[a] += 1
            split[d - a] += q**a
            steps = _partition(q, tuple(split), wanted)
            if steps is not None:
                return ((d, a), *steps)
    return None


def _subspaces(q: int, k: int, dimensions: Sequence[int]) -> list[NDArray[np.int64]]:
    """Bases (dimension, k) of subspaces of GF(q)^k that meet pairwise only in 0, as ``_partition`` found them."""
    steps = _partition(q, _whole(k), tuple(list(dimensions).count(m) for m in range(k + 1)))
    assert steps is not None
    free: list[list[NDArray[np.int64]]] = [[] for _ in range(k + 1)]
    free[k].append(np.eye(k, dtype=np.int64))
    remaining = iter(steps)
    bases = [np.zeros((0, k), dtype=np.int64) for _ in dimensions]
    for i in sorted((i for i, m in enumerate(dimensions) if m > 0), key=lambda i: -dimensions[i]):
        while not free[dimensions[i]]:
            d, a = next(remaining)
            largest, *others = _split(q, a, free[d].pop(0))
            free[d - a] += others  # for d = 2 a the spread's W comes last
            free[a].append(largest)
        bases[i] = free[dimensions[i]].pop(0)
    return bases


def _split(q: int, a: int, basis: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """W and then all S_c of the partition of the space that ``basis`` (d, k) spans, U being spanned by x^0, x^1, ..."""
    times_x = _times_x(q, a)
    parts = [basis[:a]]
    for c in itertools.product(range(q), repeat=a):
        rows, cu = [], np.array(c, dtype=np.int64)
        for u in basis[a:]:
            rows.append((cu @ basis[:a] + u) % q)
            cu = cu @ times_x % q
        parts.append(np.array(rows))
    return parts


@cache
def _times_x(q: int, a: int) -> NDArray[np.int64]:
    """Matrix (a, a) of u -> x u on GF(q^a) = GF(q)[x] / f, row vectors of coefficients, f irreducible of degree a."""

    def monic(degree: int) -> Iterator[tuple[int, ...]]:
        return ((*c, 1) for c in itertools.product(range(q), repeat=degree))

    reducible = {
        tuple(int(c) for c in np.convolve(g, h) % q)
        for degree in range(1, a // 2 + 1)
        for g in monic(degree)
        for h in monic(a - degree)
    }
    f = next(f for f in monic(a) if f not in reducible)
    matrix = np.eye(a, k=1, dtype=np.int64)
    matrix[-1] = -np.array(f[:-1]) % q
    return matrix
