"""From configurations with formation energies to the temperature at which order is lost, with its uncertainty.  eV, K.

Models are drawn from what the configurations leave possible (``drawn_models``), and each is simulated on its own.  The
transition is where the heat capacity of the cell is largest; between those of the draws lies the interval.  So the
interval has the uncertainty of the model's coefficients and the noise of the Monte Carlo.  It does not have what no
shell model has, the errors of the reference code, or those of the cell's size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ..errors import InputError, one_line
from ..physics.units import RYDBERG
from ..progress import Execute, Progress, Silent
from .data import AlloyData
from .lattice import Float64, Int, Lattice
from .monte_carlo import Chain, Ordering, joined
from .network_energy import MeanEnergy, Networks, networks_of
from .order import contents_of, far_content
from .shell_model import ShellModel, SiteModel, Species, drawn_models
from .simulation import Begins, Simulation, TransitionSettings, mean_field, pilot, simulate
from .thermodynamics import Curves, Thermodynamics

if TYPE_CHECKING:
    from .surrogate import AlloySurrogate

CHAINS = 3  # independent ones of the model of the largest evidence, besides one from order and one from disorder
APART = 0.15  # of the range of energies: chains whose means differ by more are not in equilibrium
NOTHING = 1e-3  # electrons, μ_B: a property that is smaller everywhere is not there
LEVEL = 0.95  # of the interval
KEPT = 20  # configurations of each temperature, for charges and moments


def some_of(n: int, wanted: int, seed: int) -> Int:
    """The numbers of some of n configurations.  Raises InputError: there are not as many."""
    if wanted > n:
        raise InputError(f"there are {n} configurations, fewer than the {wanted} wanted; leave that out to take all")
    return np.sort(np.random.default_rng([seed, 3]).permutation(n)[:wanted])


def here(work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Do tasks one after the other in this process."""
    for number, task in enumerate(tasks):
        yield number, work(task)


@dataclass(frozen=True, eq=False)
class Transition:
    """The transition of an alloy, and what surrounds it.

    symbols: of both elements.  n_configurations: that the models were fitted to.  model: of the largest evidence.
    chain, thermodynamics: of that one, from independent chains that began half in order.  drawn: transition
    temperatures of the draws that have one, (n_drawn,) [K].  n_draws: of all draws.  curves: of the draws, at the same
    temperatures, each (n_drawn, n_temperatures); NaN where a draw was not simulated.  sites: mean and standard
    deviation over sites of properties such as the charge, (n_temperatures, 2 elements, 2).  apart: temperatures between
    which a chain from order and one from disorder have other energies [K]; None if nowhere.  energies_by: in words.
    extrapolates: why the content is unlike that of the configurations.
    """

    settings: TransitionSettings
    symbols: tuple[str, str]
    n_configurations: int
    model: ShellModel
    ordering: Ordering
    chain: Chain
    thermodynamics: Thermodynamics
    drawn: Float64
    n_draws: int
    curves: Curves
    sites: dict[str, Float64]
    apart: tuple[float, float] | None
    energies_by: str
    extrapolates: list[str]

    @property
    def temperature(self) -> float:
        """Of the largest heat capacity of the model of the largest evidence [K]."""
        return self.thermodynamics.peak

    @property
    def level(self) -> float:
        """The probability with which the interval holds the transition of a further model: 0.95, or less of few draws.

        Between the lowest and the highest of n draws one more lies with (n - 1) / (n + 1).
        """
        n = len(self.drawn)
        return min(LEVEL, (n - 1) / (n + 1))

    @property
    def interval(self) -> tuple[float, float]:
        """Within which the transition of a model is, with the probability ``level`` [K].

        Source: Hyndman & Fan, Am. Stat. 50, 361 (1996), definition 6, which is right in the mean for any distribution.
        """
        low, high = np.quantile(self.drawn, (0.5 - LEVEL / 2, 0.5 + LEVEL / 2), method="weibull")
        return float(low), float(high)

    @property
    def warnings(self) -> list[str]:
        """What should be known before the numbers are used."""
        found = list(self.extrapolates)
        if self.apart is not None:
            low, high = self.apart
            found.append(
                f"chains that begin in order and in disorder differ between {low:.0f} and {high:.0f} K, so the cell is "
                "not in equilibrium there; the transition is where chains that begin half in order change: one of "
                "first order, as in a large cell, or too few rounds"
            )
        if not self.thermodynamics.connected:
            found.append(
                "neighbouring temperatures hardly exchange, so the curves between them are not certain: take more "
                "temperatures, or a smaller cell"
            )
        if (lost := self.n_draws - len(self.drawn)) > 0:
            found.append(f"{lost} of {self.n_draws} drawn models have no transition; more configurations are needed")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        found = self.thermodynamics
        low, high = self.interval
        _, couplings = self.model.coefficients
        return {
            "transition_temperature": self.temperature,
            "interval": [low, high],
            "level": self.level,
            "not_in_equilibrium": None if self.apart is None else list(self.apart),
            "energies_by": self.energies_by,
            "standard_deviation": float(self.drawn.std(ddof=1)),
            "simulation_error": found.peak_error,
            "drawn": self.drawn.tolist(),
            "mean_field_temperature": mean_field(self.ordering, self.settings.content),
            "symbols": list(self.symbols),
            "n_configurations": self.n_configurations,
            "n_sites": self.chain.n_sites,
            "smallest_exchange": float(self.chain.exchanged.min()),
            "settings": self.settings.model_dump(mode="json"),
            "model": {
                "radii": self.model.radii.tolist(),
                "neighbours": list(self.model.sizes),
                "degree": self.model.degree,
                "couplings": couplings.tolist(),
                "noise": 1e3 * self.model.noise / RYDBERG,
            },
            "curves": {
                "temperature": found.at.temperatures.tolist(),
                "energy": found.at.energy.tolist(),
                "energy_error": found.errors.energy.tolist(),
                "heat_capacity": found.at.heat_capacity.tolist(),
                "heat_capacity_error": found.errors.heat_capacity.tolist(),
                "order": found.at.order.tolist(),
                "order_error": found.errors.order.tolist(),
                "short_range_order": self.chain.short_range_order.T.tolist(),
                **{
                    name: {"mean": v[:, :, 0].T.tolist(), "std": v[:, :, 1].T.tolist()}
                    for name, v in self.sites.items()
                },
            },
            "warnings": self.warnings,
            "units": UNITS,
        }

    def draw(self, path: str | Path) -> None:
        """Draw it as a PNG file."""
        from .transition_figure import draw_transition  # matplotlib

        draw_transition(self, path)

    def lines(self) -> list[str]:
        """What is printed for people."""
        low, high = self.interval
        error = self.thermodynamics.peak_error
        one_phase = "; chains from order and from disorder agree: no sign of a first-order transition"
        agree = one_phase if self.apart is None else ""
        shells = ", ".join(f"{n} at {r:.2f} Å" for n, r in zip(self.model.sizes, self.model.radii, strict=True))
        return [
            f"order-disorder transition at {self.temperature:.0f} K, "
            f"with {100 * self.level:.0f} % between {low:.0f} and {high:.0f} K",
            f"  from {self.n_configurations} configurations; energies by {self.energies_by}, {len(self.drawn)} models",
            f"  standard deviation {self.drawn.std(ddof=1):.0f} K, to which the simulation adds some {error:.0f} K",
            f"  cell of {self.chain.n_sites} sites, {100 * self.chain.content[0, 0]:.3g} % {self.symbols[1]}{agree}",
            f"shell model: neighbours {shells}; couplings of degree {self.model.degree} in the composition",
            f"  leaves {1e3 * self.model.noise / RYDBERG:.2f} mRy/atom of the energies it was fitted to",
            *(f"warning: {warning}" for warning in self.warnings),
        ]


UNITS = {
    "transition_temperature": "K",
    "interval": "K",
    "not_in_equilibrium": "K",
    "standard_deviation": "K",
    "simulation_error": "K",
    "drawn": "K",
    "mean_field_temperature": "K",
    "radii": "Å",
    "couplings": "eV per site",
    "noise": "mRy/atom",
    "curves.temperature": "K",
    "curves.energy": "eV per site",
    "curves.energy_error": "eV per site",
    "curves.heat_capacity": "k_B per site",
    "curves.heat_capacity_error": "k_B per site",
    "curves.charge": "electrons",
    "curves.moment": "mu_B",
}


def transition(
    lattice: Lattice,
    species: Species,
    energies: Float64,
    settings: TransitionSettings | None = None,
    *,
    networks: Networks | None = None,
    sites: dict[str, Float64] | None = None,
    symbols: tuple[str, str] = ("A", "B"),
    execute: Execute = here,
    progress: Progress | None = None,
) -> Transition:
    """The order-disorder transition of an alloy, from configurations with energies.

    Args:
        lattice: of the configurations.
        species: 0 or 1 by site, (n, n_sites).
        energies: formation energies, (n,) [eV per cell].
        settings: how it is looked for.
        networks: whose energies are taken in place of the shell model's and of the draws from its posterior.
        sites: properties by site to follow, such as ``charge`` (transfer) or ``moment``, each (n, n_sites).
        symbols: what the elements are called.
        execute: does the simulations; by default one after the other in this process.
        progress: where it says how far it is.

    Raises:
        InputError: too few configurations, nothing orders, or no transition is found.
    """
    shown, settings = progress or Silent(), settings or TransitionSettings()
    if settings.configurations is not None:
        chosen = some_of(len(species), settings.configurations, settings.seed)
        species, energies = species[chosen], energies[chosen]
        sites = {name: values[chosen] for name, values in (sites or {}).items()}
    if networks is not None:
        energies = MeanEnergy(networks.on(lattice))(species)
    candidates = ShellModel.candidates(lattice, species, energies)
    model = max(candidates, key=lambda candidate: candidate.posterior.evidence)
    m = 2 * settings.content - 1
    ordering = Ordering.of(model, lattice, m)
    shown.update("search", 0, None)
    first = Simulation(model, lattice, ordering, pilot(model, lattice, ordering, settings), settings, settings.seed)
    quick = settings.model_copy(update={"rounds": max(16, settings.rounds // 4)})
    guess = simulate(replace(first, settings=quick))[1].peak
    shown.end("search")
    n_draws = settings.draws if networks is None else len(networks)
    seeds = np.random.SeedSequence(settings.seed).generate_state(CHAINS + 2 + n_draws).tolist()
    large = lattice.repeated(settings.copies)
    of_networks = [] if networks is None else networks.on(large)
    first = replace(first, guess=guess, moves=False, energy=MeanEnergy(of_networks) if of_networks else None)
    tasks = [replace(first, seed=seed, keep=-(-KEPT // CHAINS)) for seed in seeds[:CHAINS]]
    begins: tuple[Begins, Begins] = ("ordered", "disordered")
    tasks += [replace(first, seed=seeds[CHAINS + k], begins=phase) for k, phase in enumerate(begins)]
    tasks += [
        replace(first, seed=seed, energy=energy, moves=True)
        for energy, seed in zip(of_networks, seeds[CHAINS + 2 :], strict=False)
    ]
    ratio = guess / mean_field(ordering, settings.content)
    rng = np.random.default_rng([settings.seed, 2])
    draws = drawn_models(candidates, settings.draws, rng) if networks is None else []
    for draw, seed in zip(draws, seeds[CHAINS + 2 :], strict=False):
        try:
            own = Ordering.of(draw, lattice, m)
        except InputError:
            continue  # nothing orders; counted among the draws without a transition
        expected = ratio * mean_field(own, settings.content)
        tasks.append(Simulation(draw, lattice, own, expected, settings, seed))
    chains, found = dict[int, Chain](), dict[int, Thermodynamics]()
    shown.update("simulate", 0, len(tasks))
    for number, (chain, thermodynamics) in execute(simulate, tasks):
        found[number] = thermodynamics
        if number < CHAINS + 2:
            chains[number] = chain
        shown.update("simulate", len(found), len(tasks), f"{thermodynamics.peak:.0f} K")
    shown.end("simulate")
    chain = joined([chains[number] for number in range(CHAINS)])
    best = Thermodynamics.of(chain, CHAINS)
    drawn = [found[number] for number in range(CHAINS + 2, len(tasks)) if found[number].inside]
    if not best.inside or len(drawn) < 2:
        raise InputError(
            "the heat capacity has no peak at any temperature that was simulated; take a larger cell or another content"
        )
    return Transition(
        settings,
        symbols,
        len(species),
        model,
        ordering,
        chain,
        best,
        np.array([one.peak for one in drawn]),
        n_draws,
        _common(best.fine.temperatures, [one.fine for one in drawn]),
        {name: _along(lattice, settings, species, values, chain) for name, values in (sites or {}).items()},
        apart_between(chains[CHAINS], chains[CHAINS + 1], float(CHAINS**0.5 * best.errors.energy.mean())),
        "the shell model" if networks is None else f"{len(networks)} networks",
        far_content(settings.content, contents_of(species), symbols[1]),
    )


def apart_between(one: Chain, other: Chain, error: float) -> tuple[float, float] | None:
    """Temperatures between which two chains have other mean energies, None if nowhere [K].

    Args:
        one, other: of one cell at the same temperatures.
        error: standard error of the energies of one chain [eV per site].
    """
    means = np.array([chain.energies.mean(axis=0) / chain.n_sites for chain in (one, other)])
    (where,) = np.nonzero(abs(means[1] - means[0]) > max(APART * np.ptp(means), 3 * np.sqrt(2) * error))
    if not len(where):
        return None
    low, high = max(int(where[0]) - 1, 0), min(int(where[-1]) + 1, means.shape[1] - 1)
    return float(one.temperatures[low]), float(one.temperatures[high])


def transition_of(
    data: AlloyData,
    asked: Mapping[str, Any],
    execute: Execute,
    progress: Progress,
    surrogate: "AlloySurrogate | None" = None,
) -> Transition:
    """The transition of a dataset's alloy, from its converged configurations, one of each orbit.

    Args:
        data: opened.
        asked: keys of ``TransitionSettings``.
        execute, progress: as for ``transition``.
        surrogate: whose networks give the energies, by default the shell model.

    Raises:
        InputError: as ``transition``, a setting is unknown or out of range, or the surrogate does not suit the data.
    """
    try:
        settings = TransitionSettings.model_validate(asked)
    except ValidationError as error:
        raise InputError(one_line(error)) from None
    every = data.all
    first = dict(zip(reversed(every.orbit), reversed(range(len(every))), strict=True))
    rows = np.sort([row for row in first.values() if every.converged[row]]).astype(np.int64)
    sites = {"charge": data.net_charges[rows], "moment": every.moment[rows]}
    return transition(
        data.info.lattice,
        every.species[rows],
        data.formation_energies[rows],
        settings,
        networks=None if surrogate is None else networks_of(surrogate, data),
        sites={name: values for name, values in sites.items() if abs(values).max(initial=0.0) > NOTHING},
        symbols=data.info.symbols,
        execute=execute,
        progress=progress,
    )


def _common(temperatures: Float64, curves: Sequence[Curves]) -> Curves:
    """Curves of draws at the same temperatures, NaN outside their own."""

    def at(name: str) -> Float64:
        rows = [np.interp(temperatures, c.temperatures, getattr(c, name), np.nan, np.nan) for c in curves]
        return np.array(rows)

    return Curves(temperatures, at("energy"), at("heat_capacity"), at("order"))


def _along(lattice: Lattice, settings: TransitionSettings, species: Species, values: Float64, chain: Chain) -> Float64:
    """Mean and standard deviation of a property over the sites of each element, (n_temperatures, 2 elements, 2)."""
    model, large = SiteModel.fit(lattice, species, values), lattice.repeated(settings.copies)
    kept = chain.configurations
    of_sites = model.predict(large, kept.reshape(-1, large.n_sites)).reshape(kept.shape)
    rows = []
    for t in range(kept.shape[1]):
        chosen: list[Any] = [of_sites[:, t][kept[:, t] == element] for element in (0, 1)]
        rows.append([[some.mean(), some.std()] for some in chosen])
    return np.array(rows)
