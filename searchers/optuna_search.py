"""Optuna's samplers by ask and tell; by default TPE (Bergstra et al., NeurIPS 24 (2011)).

Optuna is imported where it is used: every command reads the list of methods, and few need Optuna.
"""

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .searcher import PastTrial
from .space import Config, Float, Int, Range, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


class OptunaOptions(BaseModel):
    """Which of Optuna's samplers proposes, and when it begins to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["tpe", "gp", "qmc", "random"] = Field(
        default="tpe",
        description="tpe: tree-structured Parzen estimator; gp: Gaussian process; qmc: Sobol sequence; random",
    )
    startup: int = Field(
        default=10, ge=1, description="finished trials before tpe or gp learns from them; until then it draws at random"
    )

    @model_validator(mode="after")
    def _startup_has_a_use(self) -> "OptunaOptions":
        if "startup" in self.model_fields_set and not self.learns:
            raise ValueError(f"sampler '{self.sampler}' does not learn, so that startup has no use; leave it out")
        return self

    @property
    def learns(self) -> bool:
        """Whether proposals depend on earlier values."""
        return self.sampler in ("tpe", "gp")


class OptunaSearch:
    """Ask one of Optuna's samplers.

    A sampler may propose a config twice where the space is discrete; it is trained again, with another seed.

    CMA-ES needs a further package, and NSGA-II keeps notes on its trials that a history does not bring back: neither is
    offered.

    Args:
        space: hyperparameter name -> range.
        seed: equal seeds and histories propose equal configs.
        options: the sampler.
    """

    def __init__(self, space: Space, seed: int, options: OptunaOptions) -> None:
        import optuna

        logging.getLogger("optuna").setLevel(logging.ERROR)  # its warnings are on settings that are not the user's
        self._distributions = {name: distribution(values) for name, values in space.items()}
        self._options = options
        self._seed = seed
        self._numbers: dict[str, int] = {}  # trial -> Optuna's number
        self._study = optuna.create_study()

    def ask(self, trial: str) -> Config | None:
        # A sampler per proposal, seeded by its number: the n-th is the same however the sessions before it ended.
        self._study.sampler = _sampler(self._options, self._seed, len(self._numbers))
        asked = self._study.ask(self._distributions)
        self._numbers[trial] = asked.number
        return dict(asked.params)

    def tell(self, trial: str, value: float | None) -> None:
        from optuna.trial import TrialState

        if not self._options.learns:
            return  # qmc counts the trials it was not told of, and stands still at a first one that failed
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._study.tell(self._numbers[trial], value, state)

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            if self._options.learns:  # the others count what they are asked, and say the same again
                self._study.enqueue_trial(past.config)
            self.ask(past.trial)
        for past in history:
            if past.finished:
                self.tell(past.trial, past.value)


def distribution(values: Range) -> "BaseDistribution":
    """The Optuna distribution of a range."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Int):
        return IntDistribution(values.low, values.high, log=values.log)
    if isinstance(values, Float):
        return FloatDistribution(values.low, values.high, log=values.log)
    return CategoricalDistribution(values.values)


def _sampler(options: OptunaOptions, seed: int, asked: int) -> "BaseSampler":
    """The sampler for the proposal after ``asked`` others."""
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    def seed_of(n: int) -> int:
        return int(np.random.SeedSequence([seed, n]).generate_state(1)[0])

    if options.sampler == "tpe":
        # The constant liar keeps away from running trials, so that parallel ones differ.
        return samplers.TPESampler(
            seed=seed_of(asked), n_startup_trials=options.startup, multivariate=True, constant_liar=True
        )
    if options.sampler == "gp":
        return samplers.GPSampler(
            seed=seed_of(asked), n_startup_trials=options.startup, warn_independent_sampling=False
        )
    if options.sampler == "qmc":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return samplers.QMCSampler(seed=seed_of(0), scramble=True, warn_independent_sampling=False)
    return samplers.RandomSampler(seed=seed_of(asked))
