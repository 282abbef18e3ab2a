"""Check that LDOS, density, atoms and the DFT's own numbers of a snapshot belong together.  eV, Å."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, permutations

import numpy as np
from numpy.typing import NDArray

from ..physics.atom_fit import AtomFit
from ..physics.energies import Energies, energies
from ..physics.ewald import ewald
from ..physics.quadrature import Quadrature
from ..physics.reciprocal import fractional
from ..physics.smearing import fermi_dirac
from ..physics.units import BOHR
from .check import Fail, LdosCheck, SnapshotReport, refuse
from .energy_check import EnergyErrors, check_energies
from .energy_grid import EnergyGrid
from .info import DatasetInfo
from .kohn_sham import KohnSham
from .shards import Shard, ShardFile, pieces_of
from .snapshot import Snapshot

# Right data of Al and Be: 0.0003 at most.  The LDOS of another snapshot, of the other order of axes, moved by one point
# or in another unit: 0.025 to 0.16.  Where the rule is not least squares, the energy grid is too coarse to tell.
MOST_DENSITY_DIFFERENCE = 0.01
# Right data: 0.95 to 0.9999.  Positions in another unit: 0.01 to 0.4, moved at random: below 0.7.
LEAST_EXPLAINED = 0.8
CONSTANT = 1e-6  # standard deviation of a density, a share of its mean
MOST_MOVED = 0.15  # [grid points] between density and atoms
FLAT = 0.01  # the shares say nothing of a move where they change by less with half a point
AT_ONCE = 2**17  # numbers of an LDOS that are read at once: for more of them a product of matrices takes more threads
THREADS = 2  # that read and integrate it
# Share of the largest value.  LDOS of ultrasoft pseudopotentials are not negative either; a merge may leave 1 %.
MOST_NEGATIVE = 0.05
MOST_EWALD_ERROR = 1.0  # [meV/atom]; right data: 0.0004
HINT = 0.02  # by how much something else must fit better before it is named
# By how much atoms with other axes must fit better.  Where atoms are at rest to 0.002 Å in a cubic cell, it is 0.0005.
LEAST_GAINED = 1e-5


@dataclass(frozen=True)
class Geometry:
    """How well the parts of a snapshot fit each other; None where that could not be checked.

    Attributes:
        density_correlation: of the density from the LDOS with the density beside it.
        density_difference: ∫ |n_LDOS - n| dr / N.
        unexplained_by_atoms: share of the variance of the LDOS' density that no spherical shapes around atoms explain.
        ewald_error: Ewald energy of the positions minus the DFT's [meV/atom].
        hartree_error, xc_error, total_error: as in ``EnergyErrors`` [meV/atom].
    """

    density_correlation: float | None = None
    density_difference: float | None = None
    unexplained_by_atoms: float | None = None
    ewald_error: float | None = None
    hartree_error: float | None = None
    xc_error: float | None = None
    total_error: float | None = None


def check_geometry(
    snapshot: Snapshot,
    grid: EnergyGrid,
    dos: NDArray[np.float64],
    ldos: Iterable[Shard],
    density: NDArray[np.floating] | None,
    valences: NDArray[np.float64],
    *,
    dft: KohnSham | None,
    where: str,
    fail: Fail = refuse,
) -> Geometry:
    """Check what an import can know of the geometry.  Arrays of the size of the grid are held, not of the LDOS.

    Args:
        snapshot: with its structure and what the DFT said.
        grid: energies of the LDOS.
        dos: from the LDOS, (n_energy,) [1/eV].
        ldos: shards (n_points_in_shard, n_energy) [1/(eV Å³)].
        density: beside it, (n_points,) [1/Å³]; None where there is none.
        valences: of the atoms.
        dft: what the terms of the energy need; None where it is not known.
        where: file or snapshot to name in an error.
        fail: called if something belongs to another structure, or has its axes or its unit otherwise; by default that
            is refused.

    Raises:
        DatasetError: as ``fail`` does.
    """
    quadrature = grid.quadrature()
    own = energies(dos, quadrature, electrons=snapshot.n_electrons, temperature=snapshot.temperature)
    from_ldos, predicted = _densities_of(snapshot, grid, dos, own, ldos, where, fail)
    sharp = grid.better_rule == "least-squares"
    correlation = difference = given = None
    if density is not None:
        given = np.asarray(density, dtype=np.float64).reshape(snapshot.grid)
        correlation, difference = _compare(from_ldos, given, sharp=sharp, where=where, fail=fail)
        _check_atoms(snapshot, given, "the density", where, fail)
    unexplained = _check_atoms(snapshot, from_ldos, "the density of the LDOS", where, fail)
    del from_ldos
    off = _ewald_error(snapshot, valences, where, fail)
    errors = EnergyErrors()
    if dft is not None:
        errors = check_energies(
            snapshot,
            dft,
            density=given,
            from_ldos=predicted,
            electrons=own,
            valences=valences,
            sharp=sharp and grid.rule == "least-squares",
            where=where,
            fail=fail,
        )
    return Geometry(correlation, difference, unexplained, off, **vars(errors))


def check_stored(snapshot: Snapshot, info: DatasetInfo, ldos: ShardFile, density: ShardFile | None) -> SnapshotReport:
    """Check a snapshot of a dataset by its files; arguments and errors as ``LdosCheck`` and ``check_geometry``."""
    grid = info.energy_grid
    check = LdosCheck(snapshot, grid, where=snapshot.id)
    for shard in ldos.read():
        check.add(shard)
    report = check.report()
    values = None if density is None else density.array()
    valences = snapshot.valences(info.species)
    found = check_geometry(snapshot, grid, check.dos, ldos.stored(), values, valences, dft=info.dft, where=snapshot.id)
    return replace(report, **vars(found))


def _densities_of(
    s: Snapshot,
    grid: EnergyGrid,
    dos: NDArray[np.float64],
    own: Energies,
    ldos: Iterable[Shard],
    where: str,
    fail: Fail,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Density of an LDOS by the better rule at the DFT's Fermi level, and by its own rule at its own.

    Fails: it has negative values.
    """

    def weights(quadrature: Quadrature, level: float) -> NDArray[np.float64]:
        return quadrature.weights(lambda e: fermi_dirac(e, fermi_level=level, temperature=s.temperature))

    better, level = grid.quadrature(grid.better_rule), s.fermi_level
    if level is None:
        level = energies(dos, better, electrons=s.n_electrons, temperature=s.temperature).fermi_level
    both = np.stack([weights(better, level), weights(grid.quadrature(), own.fermi_level)], axis=1).astype(np.float32)
    step = max(1, AT_ONCE // grid.n_energy)
    densities = np.empty((2, s.n_points))

    def integrate(shard: Shard, first: int) -> tuple[float, float]:
        lowest = highest = 0.0
        for start, piece in zip(range(first, first + len(shard), step), pieces_of(shard, step), strict=True):
            rows = piece.astype(np.float32, copy=False)
            lowest, highest = min(lowest, float(rows.min())), max(highest, float(rows.max()))
            densities[:, start : start + len(rows)] = (rows @ both).T
        return lowest, highest

    shards = list(ldos)
    places = [0, *accumulate(map(len, shards))]
    with ThreadPoolExecutor(THREADS) as pool:
        lows, highs = zip(*pool.map(integrate, shards, places), strict=True)
    lowest, highest = min(lows), max(highs)
    if -lowest > MOST_NEGATIVE * highest:
        fail(
            f"{where}: the LDOS goes down to {lowest:.3g}, where its largest value is {highest:.3g} 1/(eV Å³); it "
            "cannot be negative, so run the DFT post-processing of this snapshot again"
        )
    return densities[0].reshape(s.grid), densities[1].reshape(s.grid)


def _compare(
    ours: NDArray[np.float64], given: NDArray[np.float64], *, sharp: bool, where: str, fail: Fail
) -> tuple[float | None, float]:
    """Correlation and integrated difference of two densities.  Fails: they are not of one snapshot."""
    ours, given = ours / ours.mean(), given / given.mean()
    difference = float(np.abs(ours - given).mean())
    if min(ours.std(), given.std()) < 1e-9:
        return None, difference
    found = _correlation(ours, given)
    others = _others(ours) if found < 1 - HINT else ()
    other, gained = max(((n, _correlation(o, given)) for n, o in others), key=lambda o: o[1], default=("", found))
    better = gained > found + HINT and 1 - gained < 0.5 * (1 - found)
    if better or (sharp and difference > MOST_DENSITY_DIFFERENCE):
        hint = f"they would fit, to {gained:.4f}, with {other}" if better else "they are not of one snapshot or unit"
        fail(
            f"{where}: the density of the LDOS and the density beside it correlate to {found:.4f} and differ by "
            f"{100 * difference:.1f} % of the electrons; {hint}; both have the axes [nx, ny, nz], and point 0 at the "
            "origin of the cell"
        )
    return found, difference


def _others(density: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """What is often given instead of a density."""
    for axis, name in enumerate("xyz"):
        for step in (-1, 1):
            yield f"the LDOS moved by {step:+d} point along {name}", np.roll(density, step, axis)
        yield f"the LDOS mirrored along {name}", np.flip(density, axis)
    for order in list(permutations(range(3)))[1:]:
        turned = density.transpose(order)
        if turned.shape == density.shape:
            yield f"the axes of the LDOS in the order {''.join('xyz'[i] for i in order)}", turned
    yield "the grid of the LDOS in Fortran order", density.reshape(-1).reshape(density.shape, order="F")


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def _check_atoms(s: Snapshot, density: NDArray[np.float64], what: str, where: str, fail: Fail) -> float | None:
    """Share of a density that the atoms do not explain.  Fails: it is that of other places."""
    if density.size > 1 and density.std() <= CONSTANT * abs(density.mean()):
        fail(f"{where}: {what} is the same at all grid points, so it is not that of atoms; run the DFT again")
        return None
    fit, places = AtomFit(density, s.cell), fractional(s.positions, s.cell)
    found = fit.share(places, s.numbers)
    if found is None:
        return None
    units = {
        "positions that are fractions of the cell vectors": s.positions,
        "positions in bohr": places * BOHR,
        "positions divided by the bohr radius": places / BOHR,
    }
    shares = {name: fit.share(other, s.numbers) or 0.0 for name, other in units.items()} if found < 1 - HINT else {}
    moved, moves = _moved(fit, places, s, found)
    shares |= moves
    name, gained = max(shares.items(), key=lambda o: o[1], default=("", found))
    # In a cell that is nearly symmetric other axes fit nearly as well, so less of a gain counts.
    turned = ((name, fit.share(other, s.numbers) or 0.0) for name, other in _turned(places))
    (axes, by_axes), least = max(turned, key=lambda o: o[1]), HINT
    if by_axes > gained:
        name, gained, least = axes, by_axes, LEAST_GAINED
    better = gained > found + least and 1 - gained < 0.5 * (1 - found)
    if better or found < LEAST_EXPLAINED:
        hint = f"they would fit, to {100 * gained:.4g} %, with {name}" if better else "they are not of one structure"
    elif np.abs(moved).max() > MOST_MOVED:
        hint = f"it lies by {', '.join(f'{m:.2f}' for m in moved)} points along x, y, z from where the atoms are"
    else:
        return 1 - found
    fail(
        f"{where}: {what} does not follow the atoms: shapes around them explain {100 * found:.4g} % of it; {hint}; "
        "check cell, positions [Å] and the axes [nx, ny, nz]"
    )
    return 1 - found


def _turned(places: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Positions whose axes are others, in units of the lattice vectors."""
    for order in list(permutations(range(3)))[1:]:
        yield f"the axes of the positions in the order {''.join('xyz'[i] for i in order)}", places[:, order]
    for axis, name in enumerate("xyz"):
        yield f"the positions mirrored along {name}", np.where(np.arange(3) == axis, -places, places)
    yield "the positions mirrored along all axes", -places


def _moved(
    fit: AtomFit, places: NDArray[np.float64], s: Snapshot, found: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """How far a density lies from its atoms along each axis [grid points], and the shares of whole points."""
    of_all = fit.shares(places, s.numbers, np.concatenate([step * np.eye(3) for step in (-0.5, 0.5, -1, 1)]))
    assert of_all is not None  # as there is a share without a move
    moved, shares = np.zeros(3), {}
    for axis, (back, forth, *whole) in enumerate(of_all.reshape(4, 3).T.tolist()):
        for step, share in zip((-1, 1), whole, strict=True):
            shares[f"the density moved by {step:+d} point along {'xyz'[axis]}"] = share
        curvature = 2 * found - back - forth
        if curvature > FLAT:  # the top of a parabola through the three shares, where the density would have to be
            moved[axis] = -0.25 * (forth - back) / curvature
    return moved, shares


def _ewald_error(s: Snapshot, valences: NDArray[np.float64], where: str, fail: Fail) -> float | None:
    if s.ewald_energy is None:
        return None
    try:
        found = ewald(s.cell, s.positions, valences)[0]
    except ValueError as error:
        fail(f"{where}: {error}; mend the structure")
        return None
    off = 1e3 * (found - s.ewald_energy) / s.n_atoms
    if abs(off) > MOST_EWALD_ERROR:
        fail(
            f"{where}: the Ewald energy of the positions is {found:.4f} eV, the DFT's is {s.ewald_energy:.4f}; the "
            "positions or the cell are of another structure or unit"
        )
    return off
