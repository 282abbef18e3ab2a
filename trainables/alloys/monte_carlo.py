"""Monte Carlo of a binary alloy on its lattice, at several temperatures at once.  eV, K.

Canonical: two unlike atoms change places, the composition stays.  Semi-grand: an atom becomes one of the other element,
at a given difference Δμ of chemical potentials.  Replicas at neighbouring temperatures exchange places (parallel
tempering), so that none stays where it began.  The shell model's energies are followed exactly by compiled code
(``monte_carlo_kernel``); any other function of species serves too, in batches of one configuration a temperature.

Sources: Metropolis et al., J. Chem. Phys. 21, 1087 (1953); Hukushima & Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..physics.units import K_B
from ..progress import Progress, Silent
from .lattice import Float64, Int, Lattice
from .monte_carlo_batched import COOLING, Batched, Energy
from .shell_model import ShellModel, Shells, Species

CHUNK = 4_000_000  # attempts between two signs of life: some half a second


@dataclass(frozen=True, eq=False)
class Ordering:
    """The ordered pattern that an alloy tends to, as modes of a small cell.

    The order is √(Σ_modes (mode · σ)² / (n_sites (1 - m²))): of all differences between sites, the share that is in
    this pattern.  1: complete order, of L1_0, L1_2 or B2 for example; about √(n_modes / n_sites) without any.

    modes: (n_modes, n_cell), orthonormal.  strength: λ, with E = -λ n_sites in complete order [eV per site].
    """

    modes: Float64
    strength: float

    @classmethod
    def of(cls, model: ShellModel, lattice: Lattice, m: float) -> "Ordering":
        """The modes of the lowest pair energy at a composition, among patterns that repeat with the lattice's cell.

        For pairs, E = -Σ_ij W_ij σ_i σ_j with W_ij = Σ_r V_r(m) / z_r for each time that j is in shell r of i.  The
        eigenvectors of W are waves, those of one eigenvalue the star of a wave vector.

        Raises:
            InputError: in the cell nothing orders, or the elements separate.

        Source: de Fontaine, Solid State Physics 34, 73 (1979), section 12.
        """
        n = lattice.n_sites
        couplings = model.coefficients[1] @ m ** np.arange(model.degree + 1)
        pairs = np.zeros((n, n))
        for value, sites in zip(couplings, model.shells(lattice).neighbours, strict=True):
            np.add.at(pairs, (np.repeat(np.arange(n), sites.shape[1]), sites.ravel()), value / sites.shape[1])
        others = np.linalg.qr(np.concatenate([np.ones((n, 1)), np.eye(n)[:, 1:]], axis=1))[0][:, 1:]
        values, vectors = np.linalg.eigh(others.T @ pairs @ others)
        if not len(values) or values[-1] <= 0:
            raise InputError("no ordered pattern of this cell is lower in energy than disorder; take a larger cell")
        mean = model.coefficients[0] @ m ** np.arange(model.degree + 1)
        if mean + couplings.sum() >= values[-1]:  # the formation energy of complete order is above 0
            raise InputError(
                "no ordered pattern of this cell is lower in energy than the pure elements beside each other"
            )
        same = values > values[-1] - 1e-6 * abs(values).max()
        return cls(np.ascontiguousarray((others @ vectors[:, same]).T), float(values[-1]))

    @property
    def n_cell(self) -> int:
        return self.modes.shape[1]

    def order(self, species: Species) -> Float64:
        """The order of configurations (n, n_sites) on copies of the cell, (n,)."""
        sigma = 2.0 * np.atleast_2d(species) - 1
        folded = sigma.reshape(len(sigma), -1, self.n_cell).mean(axis=1)
        share = self.n_cell * (1 - sigma.mean(axis=1) ** 2)
        return np.sqrt(np.divide(((folded @ self.modes.T) ** 2).sum(axis=1), share, out=0 * share, where=share > 0))


@dataclass(frozen=True, eq=False)
class Chain:
    """What a Monte Carlo measured, after each of its rounds; the rounds before equilibrium are left out.

    temperatures: (n_temperatures,) [K].  n_sites: of the cell.  energies: E - Δμ n_second of the cells, (n_rounds,
    n_temperatures) [eV].  order: see ``Ordering``.  content: share of the second element.  Both like the energies.
    correlations: mean c_r = <σ_i σ_j> of each shell, (n_temperatures, n_shells).  exchanged: share of accepted
    exchanges of neighbouring temperatures, (n_temperatures - 1,).  accepted: share of accepted moves.
    configurations: some of the species by site, evenly from the rounds, (n_kept, n_temperatures, n_sites).
    """

    temperatures: Float64
    n_sites: int
    energies: Float64
    order: Float64
    content: Float64
    correlations: Float64
    exchanged: Float64
    accepted: Float64
    configurations: Species = field(repr=False)

    @property
    def short_range_order(self) -> Float64:
        """Warren-Cowley parameters of each shell, α_r = (c_r - m²) / (1 - m²), (n_temperatures, n_shells).

        0: as many unlike neighbours as by chance; below 0 more, above 0 fewer.  With the mean composition.

        Source: Cowley, Phys. Rev. 77, 669 (1950).
        """
        square = ((2 * self.content.mean(axis=0) - 1) ** 2)[:, None]
        return (self.correlations - square) / (1 - square)


def joined(chains: Sequence[Chain]) -> Chain:
    """Independent chains of one cell at the same temperatures as one, their rounds one after the other."""
    first = chains[0]

    def mean(name: str) -> Float64:
        return np.asarray(np.mean([getattr(chain, name) for chain in chains], axis=0))

    def all_of(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(chain, name) for chain in chains])

    return Chain(
        first.temperatures,
        first.n_sites,
        all_of("energies"),
        all_of("order"),
        all_of("content"),
        mean("correlations"),
        mean("exchanged"),
        mean("accepted"),
        all_of("configurations"),
    )


def sample(
    energy: ShellModel | Energy,
    lattice: Lattice,
    temperatures: Float64,
    *,
    shells: Shells,
    ordering: Ordering,
    start: Species,
    potential: float | None = None,
    cools: bool = True,
    rounds: int = 2000,
    sweeps: int = 2,
    discard: float = 0.25,
    keep: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Chain:
    """A Monte Carlo of one cell at several temperatures.

    Args:
        energy: the shell model, or a function of species (n, n_sites) with formation energies (n,) [eV per cell].
        lattice: of the cell.
        temperatures: in any order, (n_temperatures,) [K].
        shells: whose correlations are measured; the model's own where it is a shell model.
        ordering: whose order is measured.
        start: species of the first configuration, (n_sites,); its composition is kept unless there is a ``potential``.
        potential: Δμ [eV], for a semi-grand run.  Above 0 it favours the second element.
        cools: the chain begins with the start at the highest temperature and cools; else at every temperature.
        rounds: of measurements, each followed by exchanges.
        sweeps: attempts a site in a round.
        discard: share of the rounds before the first that counts.
        keep: how many configurations of each temperature to keep.
        seed: equal seeds give equal chains.
        progress: where it says how far it is.

    Raises:
        InputError: temperatures that are none, or a start that does not fit.
    """
    temperatures = np.sort(np.asarray(temperatures, dtype=float))
    if not len(temperatures) or not np.isfinite(temperatures).all() or temperatures[0] <= 0:
        raise InputError("temperatures of a Monte Carlo are above 0 K")
    start = np.asarray(start, dtype=np.uint8)
    if start.shape != (lattice.n_sites,) or lattice.n_sites % ordering.n_cell:
        raise InputError(f"the start has {start.size} sites, the lattice {lattice.n_sites}, a copy {ordering.n_cell}")
    if potential is None and start.min() == start.max():
        raise InputError("in a pure element no atoms can change places; give a start of both")
    rng = np.random.default_rng(seed)
    walk: _Compiled | Batched
    if isinstance(energy, ShellModel):
        walk = _Compiled(energy, temperatures, shells, ordering, start, potential, sweeps, rng, cools)
    else:
        walk = Batched(energy, temperatures, shells, ordering, start, potential, sweeps, rng, cools)
    shown = progress or Silent()
    warm = min(int(discard * rounds), rounds - 1)
    chunk = max(1, CHUNK // (len(temperatures) * lattice.n_sites * sweeps * walk.COST))
    for first in range(0, warm, chunk):
        walk.advance(min(chunk, warm - first))
        shown.update("equilibrate", min(first + chunk, warm), warm)
    walk.forget()
    counted = rounds - warm
    stops = np.union1d(np.arange(chunk, counted, chunk), np.linspace(0, counted, keep + 1, dtype=int)[1:])
    wanted, parts, kept, done = set(np.linspace(0, counted, keep + 1, dtype=int)[1:].tolist()), [], [], 0
    for stop in [*stops[(stops > 0) & (stops < counted)].tolist(), counted]:
        parts.append(walk.advance(stop - done))
        done = stop
        if stop in wanted:
            kept.append(walk.species)
        shown.update("sample", done, counted)
    energies, squares, content = (np.concatenate(column) for column in zip(*parts, strict=True))
    share = ordering.n_cell * (1 - (2 * content - 1) ** 2)
    return Chain(
        temperatures,
        lattice.n_sites,
        energies,
        np.sqrt(np.divide(squares, share, out=np.zeros_like(squares), where=share > 0)),
        content,
        walk.correlations / counted,
        walk.exchanged / np.maximum(walk.attempted, 1),
        walk.accepted / (counted * sweeps * lattice.n_sites),
        np.array(kept, dtype=np.uint8).reshape(-1, len(temperatures), lattice.n_sites),
    )


_Measured = tuple[Float64, Float64, Float64]  # energies, squares of the order, content; (n_rounds, n_temperatures)


class _Compiled:
    """Replicas of a shell model, moved by compiled code."""

    COST = 1  # of an attempt, for CHUNK

    def __init__(
        self,
        model: ShellModel,
        temperatures: Float64,
        shells: Shells,
        ordering: Ordering,
        start: Species,
        potential: float | None,
        sweeps: int,
        rng: np.random.Generator,
        cools: bool,
    ) -> None:
        from ..descriptors.native.compiled import ready  # numba
        from .monte_carlo_kernel import temper

        n, n_temperatures = len(start), len(temperatures)
        shells.like(model.radii, model.sizes)
        itself = np.arange(n)[:, None]
        lists = [sites[(sites != itself)].reshape(n, -1) for sites in shells.neighbours]
        self._temper, self._rng, self._sweeps, self._n = temper, rng, sweeps, n
        # Without a sign: of a signed index the kernel asks first whether it counts from the end, half of its time.
        self._neighbours = np.concatenate(lists, axis=1).astype(np.uint32)
        self._starts = np.cumsum([0, *(sites.shape[1] for sites in lists)]).astype(np.uint64)
        self._sizes = np.array(shells.sizes)
        self._table = np.vstack([model.coefficients[0][None], model.coefficients[1]])
        self._flips, self._potential = potential is not None, potential or 0.0
        self._betas, self._modes, self._done = 1 / (K_B * temperatures), ordering.modes, 0
        sigma = (2 * start.astype(np.int8) - 1)[None].repeat(n_temperatures, axis=0)
        pairs = [(sigma[0].astype(int) * sigma[0].astype(int)[sites].sum(axis=1)).sum() for sites in shells.neighbours]
        self._sigmas, self._places = sigma, np.arange(n_temperatures)
        self._pairs = np.array(pairs, dtype=np.int64)[None].repeat(n_temperatures, axis=0)
        self._totals = sigma.sum(axis=1, dtype=np.int64)
        self._plus = np.array([np.flatnonzero(s > 0) for s in sigma])
        self._minus = np.array([np.flatnonzero(s < 0) for s in sigma])
        self.forget()
        ready("Monte Carlo", lambda: self._run(1, slice(0, 1), np.zeros(1, dtype=np.int64)))
        for t in (
            range(n_temperatures - 1, -1, -1) if cools else ()
        ):  # each starts from where the hotter one has come to
            if t + 1 < n_temperatures:
                for of in (self._sigmas, self._pairs, self._totals, self._plus, self._minus):
                    of[t] = of[t + 1]
            self._run(COOLING // sweeps + 1, slice(t, t + 1), np.zeros(1, dtype=np.int64))
        self.forget()

    def forget(self) -> None:
        """Forget what was counted."""
        n = len(self._betas)
        self.correlations = np.zeros((n, len(self._sizes)))
        self.exchanged, self.attempted = np.zeros(max(n - 1, 0)), np.zeros(max(n - 1, 0))
        self.accepted = np.zeros(n)

    @property
    def species(self) -> Species:
        """By temperature, (n_temperatures, n_sites)."""
        return (self._sigmas[self._places] > 0).astype(np.uint8)

    def advance(self, rounds: int) -> _Measured:
        measured = self._run(rounds, slice(None), self._places)
        self._done += rounds
        return measured

    def _run(self, rounds: int, which: slice, places: Int) -> _Measured:
        n = len(self._betas[which])
        energies, squares, content = (np.empty((rounds, n)) for _ in range(3))
        correlations = np.zeros((n, len(self._sizes)))
        self._temper(
            rounds,
            self._sweeps,
            self._flips,
            self._betas[which],
            self._sigmas[which],
            self._plus[which],
            self._minus[which],
            places,
            self._pairs[which],
            self._totals[which],
            self._neighbours,
            self._starts,
            self._sizes,
            self._table,
            self._potential,
            self._modes,
            energies,
            squares,
            content,
            correlations,
            self.exchanged,
            self.attempted,
            self.accepted[which],
            self._done,
            self._rng,
        )
        self.correlations[which] += correlations / (self._n * self._sizes)
        return energies, squares, 0.5 * (1 + content)
