"""One simulation of an alloy around the temperature at which it loses its order.  eV, K."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from ..physics.units import K_B
from .lattice import Float64, Lattice
from .monte_carlo import Chain, Ordering, sample
from .monte_carlo_batched import Energy
from .shell_model import ShellModel, Species
from .thermodynamics import Thermodynamics

NEAR = 0.1  # of the temperature: a peak so near to the guess lies where the temperatures are dense
CLOSE = 0.02  # the same where they do not exchange, and nothing but their density tells where the peak is
TRIES = 5  # to get the peak into the middle of the temperatures
PILOT = 24  # temperatures of the search for the transition
ANNEALING = 300  # rounds of the search for the ordered pattern

Begins = Literal["ordered", "disordered", "both"]  # both: half of the cell each, so that neither phase must nucleate


class TransitionSettings(BaseModel):
    """How the order-disorder transition is looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    content: float = Field(default=0.5, gt=0, lt=1, description="share of the second element")
    copies: tuple[int, int, int] = Field(
        default=(2, 2, 2), description="the simulated cell in copies of the data's cell"
    )
    draws: int = Field(default=40, ge=2, le=10_000, description="models drawn from the posterior, each simulated")
    temperatures: int = Field(default=24, ge=4, le=1000, description="temperatures of a simulation")
    rounds: int = Field(default=2000, ge=16, description="measurements at each temperature")
    sweeps: int = Field(default=2, ge=1, description="attempts a site between two of them")
    configurations: int | None = Field(
        default=None, ge=1, description="how many of the data's are used, drawn at random"
    )
    seed: int = Field(default=0, ge=0, description="of draws and simulations")


@dataclass(frozen=True, eq=False)
class Simulation:
    """A task: one model, simulated around its transition.

    lattice: of the data's cell.  ordering: whose order is measured.  guess: of the transition [K].  settings, seed: of
    the simulation.  moves: whether it is simulated again, around the peak, until that is near the guess.  keep: see
    ``sample``.  begins: in which phase.  energy: on the simulated cell, by default that of the model; the model still
    tells the ordered pattern.
    """

    model: ShellModel
    lattice: Lattice
    ordering: Ordering
    guess: float
    settings: TransitionSettings
    seed: int
    moves: bool = True
    keep: int = 0
    begins: Begins = "both"
    energy: Energy | None = None


def simulate(task: Simulation) -> tuple[Chain, Thermodynamics]:
    """Simulate one model."""
    settings, guess = task.settings, task.guess
    lattice = task.lattice.repeated(settings.copies)
    shells = task.model.shells(lattice)
    start = begun(task, lattice.n_sites)
    for attempt in range(TRIES if task.moves else 1):
        chain = sample(
            task.energy or task.model,
            lattice,
            around(guess, settings.temperatures),
            shells=shells,
            ordering=task.ordering,
            start=start,
            cools=task.begins == "disordered",
            rounds=settings.rounds,
            sweeps=settings.sweeps,
            keep=task.keep,
            seed=task.seed + attempt,
        )
        found = Thermodynamics.of(chain)
        if abs(found.peak / guess - 1) < (NEAR if found.connected else CLOSE):
            break
        guess = found.peak
    return chain, found


def begun(task: Simulation, n_sites: int) -> Species:
    """The configuration that a simulation begins with, (n_sites,), in the order of the copies of the data's cell."""
    start = random_start(n_sites, task.settings.content, task.seed)
    if task.begins == "disordered":
        return start
    found = np.tile(
        ordered(task.model, task.lattice, task.ordering, task.settings, task.seed), n_sites // task.lattice.n_sites
    )
    rng, surplus = np.random.default_rng([task.seed, 4]), int(found.sum()) - int(start.sum())
    others = np.flatnonzero(found == (surplus > 0))
    found[rng.permutation(others)[: abs(surplus)]] ^= 1  # copies may have another composition than the whole
    if task.begins == "both":
        found[n_sites // 2 :] = rng.permutation(found[n_sites // 2 :])
    return found


def ordered(
    model: ShellModel, lattice: Lattice, ordering: Ordering, settings: TransitionSettings, seed: int
) -> Species:
    """The configuration of lowest energy that cooling finds in the data's cell, (n_sites,)."""
    temperatures = np.geomspace(0.1, 1.0, PILOT) * mean_field(ordering, settings.content)
    start, shells = random_start(lattice.n_sites, settings.content, seed), model.shells(lattice)
    chain = sample(
        model, lattice, temperatures, shells=shells, ordering=ordering, start=start, rounds=ANNEALING, keep=8, seed=seed
    )
    cold: Species = chain.configurations[:, 0]
    return np.asarray(cold[model.energy(lattice, cold).argmin()])


def around(guess: float, n: int) -> Float64:
    """Temperatures from 0.6 to 1.4 of a guess, nearest to each other around it, (n,) [K]."""
    x = np.linspace(-1, 1, n)
    return guess * (1 + 0.4 * (0.25 * x + 0.75 * x**3))


def random_start(n_sites: int, content: float, seed: int) -> Species:
    """A configuration without order.  Raises InputError: the cell is too small for this content."""
    n_second = round(content * n_sites)
    if not 0 < n_second < n_sites:
        raise InputError(f"a cell of {n_sites} sites has no whole number of atoms for a content of {content:g}")
    species = np.zeros(n_sites, dtype=np.uint8)
    species[np.random.default_rng([seed, 1]).permutation(n_sites)[:n_second]] = 1
    return species


def pilot(model: ShellModel, lattice: Lattice, ordering: Ordering, settings: TransitionSettings) -> float:
    """A first guess of the transition [K]: in the data's cell, below the mean-field temperature 2 λ (1 - m²) / k_B.

    Source: de Fontaine, Solid State Physics 34, 73 (1979), section 14, for the mean field.
    """
    guess = mean_field(ordering, settings.content)
    temperatures = np.geomspace(0.1, 1.3, PILOT) * guess
    start = random_start(lattice.n_sites, settings.content, settings.seed)
    shells = model.shells(lattice)
    chain = sample(
        model, lattice, temperatures, shells=shells, ordering=ordering, start=start, rounds=1000, seed=settings.seed
    )
    return Thermodynamics.of(chain).peak


def mean_field(ordering: Ordering, content: float) -> float:
    """The temperature below which the mean field orders [K]."""
    return 2 * ordering.strength * (1 - (2 * content - 1) ** 2) / K_B
