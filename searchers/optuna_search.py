"""Optuna's samplers by ask and tell; by default TPE (Bergstra et al., NeurIPS 24 (2011)).

Optuna is imported where it is used: every command reads the list of methods, and few need Optuna.
"""

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .searcher import PastTrial, SearchError
from .space import Config, Float, Int, Range, Space, Value, active, checked, exists

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial


Sampler = Literal["tpe", "gp", "cmaes", "nsgaii", "nsgaiii", "qmc", "random"]


class OptunaOptions(BaseModel):
    """Which of Optuna's samplers proposes, and when it begins to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Sampler = Field(
        default="tpe",
        description="tpe: tree-structured Parzen estimator; gp: Gaussian process; cmaes: covariance matrix adaptation; "
        "nsgaii, nsgaiii: genetic; qmc: Sobol sequence; random",
    )
    startup: int = Field(
        default=10,
        ge=2,
        description="trials at random before tpe, gp or cmaes learns; size of a population for nsgaii and nsgaiii",
    )

    @model_validator(mode="after")
    def _startup_has_a_use(self) -> "OptunaOptions":
        if "startup" in self.model_fields_set and not self.learns:
            raise ValueError(f"sampler '{self.sampler}' does not learn, so that startup has no use; leave it out")
        return self

    @property
    def learns(self) -> bool:
        """Whether proposals depend on earlier values."""
        return self.sampler not in ("qmc", "random")


class OptunaSearch:
    """Ask one of Optuna's samplers.

    A sampler may propose a config twice where the space is discrete; it is trained again, with another seed.

    Where hyperparameters are conditional, tpe models each group of them that exists together (``group``); the other
    samplers that learn do so from those that exist in all configs, and draw the conditional ones.

    ``cmaes``, ``nsgaii`` and ``nsgaiii`` work in generations; a replayed history counts as their first one.

    Args:
        space: hyperparameter name -> range.
        seed: equal seeds and histories propose equal configs.
        options: the sampler.
        with_cost: minimise the cost too, for a Pareto front of value and cost.

    Raises:
        SearchError: the sampler cannot weigh two numbers.
    """

    def __init__(self, space: Space, seed: int, options: OptunaOptions, *, with_cost: bool = False) -> None:
        import optuna

        if with_cost and options.sampler == "cmaes":
            raise SearchError("sampler 'cmaes' minimises one number; for value and cost take tpe, gp or nsgaii")

        logging.getLogger("optuna").setLevel(logging.ERROR)  # its warnings are on settings that are not the user's
        self._space = checked(space)
        self._distributions = {name: distribution(values) for name, values in space.items()}
        self._by_run = options.learns and any(values.when for values in space.values())
        self._options = options
        self._seed = seed
        self._numbers: dict[str, int] = {}  # trial -> Optuna's number
        self._with_cost = with_cost
        self._study = optuna.create_study(directions=["minimize"] * (1 + with_cost))

    def ask(self, trial: str) -> Config:
        # A sampler per proposal, seeded by its number: the n-th is the same however the sessions before it ended.
        self._study.sampler = _sampler(self._options, self._seed, len(self._numbers), group=self._by_run)
        asked = self._study.ask(None if self._by_run else self._distributions)
        self._numbers[trial] = asked.number
        if not self._by_run:
            return active(self._space, asked.params)
        config: Config = {}
        for name, values in self._space.items():
            if exists(values, config):
                config[name] = _suggest(asked, name, values)
        # What was drawn for hyperparameters that do not exist here would steer the proposals while this trial runs, and
        # is in no history.
        for sampler in ("tpe", "gp"):
            asked.storage.set_trial_system_attr(asked._trial_id, f"{sampler}:relative_params:0", "")
        return config

    def tell(self, trial: str, value: float | None, cost: float | None = None) -> None:
        from optuna.trial import TrialState

        if not self._options.learns:
            return  # qmc counts the trials it was not told of, and stands still at a first one that failed
        values = [v for v in (value, cost)[: 1 + self._with_cost] if v is not None]
        if len(values) == 1 + self._with_cost:
            self._study.tell(self._numbers[trial], values, TrialState.COMPLETE)
        else:
            self._study.tell(self._numbers[trial], None, TrialState.FAIL)

    @property
    def learns(self) -> bool:
        """Whether proposals depend on the values told."""
        return self._options.learns

    @property
    def least_trials(self) -> int:
        """Those at random, and one that has learnt from them."""
        return self._options.startup + 1 if self.learns else 1

    def withdraw(self, trial: str) -> None:
        """Forget the latest proposal as if it had never been asked for; several are withdrawn latest first."""
        from optuna.trial import TrialState

        self._study.tell(self._numbers.pop(trial), None, TrialState.FAIL)

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            if self._options.learns:  # the others count what they are asked, and say the same again
                self._study.enqueue_trial(past.config)
            self.ask(past.trial)
        for past in history:
            if past.finished and not past.pruned:
                self.tell(past.trial, past.value, past.cost)


def distribution(values: Range) -> "BaseDistribution":
    """The Optuna distribution of a range."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Int):
        return IntDistribution(values.low, values.high, log=values.log)
    if isinstance(values, Float):
        return FloatDistribution(values.low, values.high, log=values.log)
    return CategoricalDistribution(values.values)


def _suggest(trial: "Trial", name: str, values: Range) -> Value:
    """The value of a hyperparameter in a trial that is told of its names one by one."""
    if isinstance(values, Int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    if isinstance(values, Float):
        return trial.suggest_float(name, values.low, values.high, log=values.log)
    return cast(Value, trial.suggest_categorical(name, values.values))


def _sampler(options: OptunaOptions, seed: int, asked: int, *, group: bool) -> "BaseSampler":
    """The sampler for the proposal after ``asked`` others; ``group``: for hyperparameters that do not always exist."""
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    def seed_of(n: int) -> int:
        return int(np.random.SeedSequence([seed, n]).generate_state(1)[0])

    if options.sampler == "tpe":
        # The constant liar keeps away from running trials, so that parallel ones differ.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return samplers.TPESampler(
                seed=seed_of(asked),
                n_startup_trials=options.startup,
                multivariate=True,
                constant_liar=True,
                group=group,
            )
    if options.sampler == "cmaes":
        return samplers.CmaEsSampler(
            seed=seed_of(asked), n_startup_trials=options.startup, warn_independent_sampling=False
        )
    if options.sampler in ("nsgaii", "nsgaiii"):
        kind = samplers.NSGAIISampler if options.sampler == "nsgaii" else samplers.NSGAIIISampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return kind(seed=seed_of(asked), population_size=options.startup)
    if options.sampler == "gp":
        return samplers.GPSampler(
            seed=seed_of(asked), n_startup_trials=options.startup, warn_independent_sampling=False
        )
    if options.sampler == "qmc":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return samplers.QMCSampler(seed=seed_of(0), scramble=True, warn_independent_sampling=False)
    return samplers.RandomSampler(seed=seed_of(asked))
