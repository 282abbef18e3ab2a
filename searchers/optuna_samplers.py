"""Optuna's samplers by name, and those of other people by "package:Class".

Optuna is imported where it is used: every command reads the list of methods, and few need Optuna.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..trainables.errors import InputError, did_you_mean, one_line
from ..trainables.registry import class_of
from . import optuna_private
from .searcher import SearchError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "gp", "cmaes", "nsgaii", "nsgaiii", "qmc", "random")


def _known(sampler: str) -> str:
    package, colon, name = sampler.partition(":")
    if not (colon and all(part.isidentifier() for part in [*package.split("."), name])) and sampler not in SAMPLERS:
        raise ValueError(
            f"unknown sampler '{sampler}'; {did_you_mean(sampler, SAMPLERS)}"
            ', or give one of an installed package as "package:Class"'
        )
    return sampler


Sampler = Annotated[str, AfterValidator(_known)]


class OptunaOptions(BaseModel):
    """Which of Optuna's samplers proposes, and when it begins to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Sampler = Field(
        default="tpe",
        description="tpe: tree-structured Parzen estimator; gp: Gaussian process; cmaes: covariance matrix adaptation; "
        "nsgaii, nsgaiii: genetic; qmc: Sobol sequence; random; "
        'or "package:Class", a sampler for Optuna of an installed package',
    )
    sampler_options: dict[str, Any] = Field(
        default_factory=dict, description='arguments of the class given as "package:Class"'
    )
    startup: int = Field(
        default=10,
        ge=2,
        description="trials at random before tpe, gp or cmaes learns; size of a population for nsgaii and nsgaiii",
    )

    @model_validator(mode="after")
    def _options_have_a_use(self) -> "OptunaOptions":
        if self.sampler_options and not self.foreign:
            raise ValueError(f"sampler_options belong to a sampler given as \"package:Class\", not to '{self.sampler}'")
        if "startup" in self.model_fields_set and not self.learns:
            raise ValueError(f"sampler '{self.sampler}' does not learn, so that startup has no use; leave it out")
        if "startup" in self.model_fields_set and self.foreign:
            raise ValueError(f"startup is not for sampler '{self.sampler}'; give the class's own in sampler_options")
        return self

    @property
    def foreign(self) -> bool:
        """Whether the sampler is a class given by its package and name."""
        return ":" in self.sampler

    @property
    def learns(self) -> bool:
        """Whether proposals depend on earlier values; a foreign sampler is taken to learn."""
        return self.sampler not in ("qmc", "random")

    @property
    def takes_startup(self) -> bool:
        """Whether ``startup`` has a meaning for the sampler."""
        return self.learns and not self.foreign


# From a seed, 0 to 2³² - 1, to a sampler.
SamplerFactory = Callable[[int], "BaseSampler"]


def sampler_of(options: OptunaOptions, *, group: bool) -> SamplerFactory:
    """What makes the sampler of these options from a seed.

    Args:
        options: the sampler.
        group: hyperparameters do not always exist; tpe then models each group that exists together.

    Raises:
        SearchError: the class does not exist, is no sampler, or refuses its options.
    """
    if options.foreign:
        return _foreign(options.sampler, options.sampler_options)
    return _kept(_quiet(lambda seed: _named(options, seed, group=group)))


def seed_of(seed: int, number: int) -> int:
    """The seed of the sampler for one proposal of a search."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _named(options: OptunaOptions, seed: int, *, group: bool) -> "BaseSampler":
    from optuna import samplers

    startup = options.startup
    match options.sampler:
        case "tpe":
            # Optuna leaves multivariate out where it minimises two numbers.
            return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=group)
        case "cmaes":
            return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        case "nsgaii":
            return samplers.NSGAIISampler(seed=seed, population_size=startup)
        case "nsgaiii":
            return samplers.NSGAIIISampler(seed=seed, population_size=startup)
        case "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        case "qmc":
            return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        case _:
            return samplers.RandomSampler(seed=seed)


def _foreign(name: str, options: Mapping[str, Any]) -> SamplerFactory:
    from optuna.samplers import BaseSampler

    try:
        found: type[BaseSampler] = class_of(name, BaseSampler)
    except InputError as error:
        raise SearchError(f"sampler '{name}': {error}") from error
    seeded = "seed" in inspect.signature(found).parameters and "seed" not in options

    def make(seed: int) -> "BaseSampler":
        return found(**options, **({"seed": seed} if seeded else {}))

    try:
        _quiet(make)(0)
    except Exception as error:  # whatever the code of somebody else raises
        cause = f"{type(error).__name__}: {one_line(error)}"
        raise SearchError(f"sampler '{name}' refuses its options {dict(options)}: {cause}") from error
    return _quiet(make)


def _kept(make: SamplerFactory) -> SamplerFactory:
    """Gives the first sampler each further seed, where it takes one: to make it anew is half the time of a proposal."""
    kept: BaseSampler | None = None

    def reseeded(seed: int) -> "BaseSampler":
        nonlocal kept
        if kept is None or not optuna_private.reseed(kept, seed):
            kept = make(seed)
        return kept

    return reseeded


def _quiet(make: SamplerFactory) -> SamplerFactory:
    """Without Optuna's warnings that a sampler or an option of it is experimental."""

    def quiet(seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(seed)

    return quiet
