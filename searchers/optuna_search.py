"""Optuna's samplers by ask and tell; by default TPE (Bergstra et al., NeurIPS 24 (2011)).

Optuna is imported where it is used: every command reads the list of methods, and few need Optuna.
"""

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from . import optuna_private
from .optuna_samplers import OptunaOptions, SamplerFactory, sampler_of, seed_of
from .searcher import PastTrial, SearchError
from .space import Config, Float, Int, Range, Space, Value, active, checked, exists

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial


class OptunaSearch:
    """Ask one of Optuna's samplers.

    A sampler may propose a config twice where the space is discrete; it is trained again, with another seed.  One that
    goes through all configs, as Optuna's ``BruteForceSampler``, ends the search when it has.

    Where hyperparameters are conditional, tpe models each group of them that exists together (``group``).  The other
    samplers that learn do so from those that exist in all configs, and draw the conditional ones.

    ``cmaes``, ``nsgaii`` and ``nsgaiii`` work in generations; a replayed history counts as their first one.

    Which proposals are equal:

    - A sampler by name, by "package:Class" or from a factory is made anew for each proposal, with a seed of its own.
      Equal seeds and histories give equal proposals, in one session or in several.  For that the sampler must take a
      seed, and learn from the trials of its Optuna study alone, as Optuna's own do: what it keeps in itself is lost.
    - A sampler given as an instance is copied once and kept for the whole search.  It may keep what it likes, and
      ``seed`` does not reach it.  A search that is replayed is told of all earlier trials, but the random numbers of
      the sampler begin anew: it may go on differently, and a sampler that only draws repeats its draws.

    Args:
        space: hyperparameter name -> range.
        seed: of the proposals.
        options: the sampler; by default TPE.
        sampler: instead of the options, a sampler for Optuna, or a function that makes one from a seed (an int).
        n_objectives: how many numbers are minimised beside each other, for their Pareto front.

    Raises:
        SearchError: the sampler minimises one number alone, does not exist, or refuses its options.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        options: OptunaOptions | None = None,
        *,
        sampler: "BaseSampler | SamplerFactory | None" = None,
        n_objectives: int = 1,
    ) -> None:
        import optuna

        if options is not None and sampler is not None:
            raise SearchError("give the sampler itself or options, not both: the options choose and set up another one")
        self._options = options or OptunaOptions()
        self._learns = sampler is not None or self._options.learns
        if n_objectives > 1 and sampler is None and self._options.sampler == "cmaes":
            raise SearchError("sampler 'cmaes' minimises one number; for several take tpe, gp, nsgaii or nsgaiii")

        logging.getLogger("optuna").setLevel(logging.ERROR)  # its warnings are on settings that are not the user's
        self._space = checked(space)
        self._distributions = {name: distribution(values) for name, values in space.items()}
        self._by_run = self._learns and any(values.when for values in space.values())
        self._seed = seed
        self._numbers: dict[str, int] = {}  # trial -> Optuna's number
        self._n_objectives = n_objectives
        self._makes_sampler: SamplerFactory | None = None
        kept: BaseSampler | None = None
        if sampler is None:
            self._makes_sampler = sampler_of(self._options, group=self._by_run)
        elif isinstance(sampler, optuna.samplers.BaseSampler):
            kept = copy.deepcopy(sampler)
        else:
            self._makes_sampler = sampler
        self._least = self._options.startup + 1 if sampler is None and self._options.takes_startup else 1
        self._study = optuna.create_study(directions=["minimize"] * n_objectives, sampler=kept)
        self._learns_by_name = sampler is None and self._options.learns and not self._options.foreign
        self._nothing_left = False
        optuna_private.on_stop(self._study, self._end)

    def _end(self) -> None:
        self._nothing_left = True

    def ask(self, trial: str) -> Config | None:
        if self._nothing_left:
            return None
        if self._makes_sampler is not None:
            # A sampler per proposal, seeded by its number: the n-th is the same however the sessions before it ended.
            # qmc has one seed for all: it is a sequence.
            number = 0 if self._options.sampler == "qmc" else len(self._numbers)
            self._study.sampler = self._makes_sampler(seed_of(self._seed, number))
        return self._asked(trial)

    def _asked(self, trial: str) -> Config:
        asked = self._study.ask(None if self._by_run else self._distributions)
        self._numbers[trial] = asked.number
        if not self._by_run:
            return active(self._space, asked.params)
        config: Config = {}
        for name, values in self._space.items():
            if exists(values, config):
                config[name] = _suggest(asked, name, values)
        optuna_private.forget_drawn(asked)
        return config

    def tell(self, trial: str, value: float | None, *others: float) -> None:
        from optuna.trial import TrialState

        if not self._learns:
            return  # qmc counts the trials it was not told of, and stands still at a first one that failed
        if value is not None and len(others) == self._n_objectives - 1:
            self._study.tell(self._numbers[trial], [value, *others], TrialState.COMPLETE)
        else:
            self._study.tell(self._numbers[trial], None, TrialState.FAIL)

    @property
    def learns(self) -> bool:
        """Whether proposals depend on the values told."""
        return self._learns

    @property
    def least_trials(self) -> int:
        """Those at random, and one that has learnt from them; a sampler of other people does not tell how many."""
        return self._least

    def withdraw(self, trial: str) -> None:
        """Forget the latest proposal as if it had never been asked for; several are withdrawn latest first."""
        from optuna.trial import TrialState

        self._study.tell(self._numbers.pop(trial), None, TrialState.FAIL)

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            if self._learns:  # the others count what they are asked, and say the same again
                self._study.enqueue_trial(past.config)
            if self._learns_by_name and self._numbers:
                self._asked(past.trial)  # of whose values all are given, so that no other sampler is asked for one
            else:
                self.ask(past.trial)
        for past in history:
            if past.finished and not past.pruned:
                self.tell(past.trial, past.value, *past.others)


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
