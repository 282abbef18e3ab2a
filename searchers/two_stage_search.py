"""A training-free score chooses the architecture; then a small Optuna study chooses the training.

Such a score sees a network, and not how it is trained.  The hyperparameters that it sees are the architecture here; all
others are the training.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from .optuna_samplers import OptunaOptions, Sampler
from .optuna_search import OptunaSearch
from .screened_search import Direction, ScreenedSearch, ScreenOptions
from .searcher import WAIT, PastTrial, Scorer, SearchError, Wait
from .space import Choice, Config, Range, Space, Value, active, checked, seen_by


class TwoStageOptions(ScreenOptions):
    """Options of the screening of architectures, and of the Optuna study that follows."""

    top: int = Field(
        default=1,
        ge=1,
        description="best-scored architectures to train; the best of them is taken",
    )
    architecture: tuple[str, ...] | None = Field(
        default=None,
        description="hyperparameters that the score chooses; default all that it sees",
    )
    sampler: Sampler = Field(default="tpe", description="Optuna's sampler for the training hyperparameters")
    sampler_options: dict[str, Any] = Field(
        default_factory=dict, description='arguments of a sampler given as "package:Class"'
    )
    startup: int = Field(default=5, ge=2, description="trials of the second stage before tpe, gp or cmaes learns")

    @model_validator(mode="after")
    def _options_have_a_use(self) -> "TwoStageOptions":
        given = {"startup": self.startup} if "startup" in self.model_fields_set else {}
        OptunaOptions(sampler=self.sampler, sampler_options=self.sampler_options, **given)
        return self

    @property
    def of_training(self) -> OptunaOptions:
        """Options of the second stage."""
        chosen = OptunaOptions(sampler=self.sampler, sampler_options=self.sampler_options)
        return chosen.model_copy(update={"startup": self.startup}) if chosen.takes_startup else chosen


class TwoStageSearch:
    """Choose the architecture by score, then ask Optuna for the rest.

    In the first stage the training hyperparameters stand in the middle of their ranges, at the first value of a choice;
    the trial of the architecture chosen there is the first that Optuna learns from.

    Args:
        space: hyperparameter name -> range.
        seed: equal seeds, scores and histories propose equal configs.
        scorer: gives a score to a config, higher is better as published; asked for architectures alone.
        options: of both stages.
        direction: which way the score points where the options leave it open.
        seen: what the score sees of a config; two configs with the same have the same score.  None: all of it.

    Raises:
        SearchError: the space has no architecture, or nothing else.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        scorer: Scorer,
        options: TwoStageOptions,
        *,
        direction: Direction = "published",
        seen: Callable[[Config], Hashable] | None = None,
    ) -> None:
        self._space, self._options, self._seed = checked(space), options, seed
        if unknown := sorted(set(options.architecture or ()) - set(space)):
            raise SearchError(
                f"architecture names '{unknown[0]}', which is not in the space; there are {', '.join(space)}"
            )
        chosen = options.architecture or (space if seen is None else seen_by(space, seen))
        names = [n for n in space if n in chosen]
        self._architecture = {n: space[n] for n in names}
        self._training = {n: values for n, values in space.items() if n not in names}
        if not self._architecture:
            raise SearchError(f"the score has nothing to choose: {', '.join(space)} are all of the training")
        if not self._training:
            raise SearchError(
                f"Optuna has nothing to choose: {', '.join(space)} are all of the architecture; add hyperparameters "
                "of the training to the space, or take the method without '>optuna'"
            )
        for name, values in self._architecture.items():
            if values.when and (parents := sorted(set(values.when) - set(names))):
                raise SearchError(f"'{name}' depends on '{parents[0]}', which is chosen after it")
        screen = ScreenOptions(**{n: getattr(options, n) for n in ScreenOptions.model_fields})
        self._screen = ScreenedSearch(self._architecture, seed, scorer, screen, direction=direction)
        self._screened: dict[str, Config] = {}  # trial of the first stage -> config
        self._values: dict[str, float | None] = {}
        self._chosen: str | None = None  # the trial of the first stage whose architecture was taken
        self._optuna: OptunaSearch | None = None

    def ask(self, trial: str) -> Config | Wait | None:
        if self._optuna is None:
            answer = self._screen.ask(trial)
            if isinstance(answer, Wait):
                return answer
            if answer is not None:
                training = self._training_space(answer)
                config = answer | active(training, {n: _middle(values) for n, values in training.items()})
                self._screened[trial] = {name: config[name] for name in self._space if name in config}
                return dict(self._screened[trial])
            if not self._screened:
                return None  # no architecture has a score
            chosen = self._best()
            if isinstance(chosen, Wait):
                return chosen
            self._begin(chosen)
        return self._ask_optuna(trial)

    def tell(self, trial: str, value: float | None) -> None:
        self._values[trial] = value
        if trial in self._screened:
            self._screen.tell(trial, value)
        if self._optuna is not None:
            self._optuna.tell(trial, value)

    def replay(self, history: Sequence[PastTrial]) -> None:
        # Architectures of the first stage all differ; the second begins by repeating one of them.
        n = 0
        while n < len(history) and self._part(history[n].config) not in map(self._part, self._screened.values()):
            self._screened[history[n].trial] = history[n].config
            n += 1
        first, second = history[:n], history[n:]
        self._screen.replay([PastTrial(p.trial, self._part(p.config), p.finished, p.value) for p in first])
        self._values = {p.trial: p.value for p in history if p.finished}
        if second:
            architecture = self._part(second[0].config)
            trial = next(t for t, config in self._screened.items() if self._part(config) == architecture)
            self._begin(trial, [PastTrial(p.trial, self._rest(p.config), p.finished, p.value) for p in second])

    @property
    def least_trials(self) -> int:
        """The first stage, whose best one begins the second, and one trial that has learnt something."""
        second = self._options.of_training
        return self._screen.most_trials + (second.startup if second.takes_startup else 1)

    def _best(self) -> str | Wait:
        """The trial of the first stage whose architecture is taken: that of the lowest value."""
        trials = list(self._screened)
        if len(trials) > 1 and any(t not in self._values for t in trials):
            return WAIT
        known = {t: v for t in trials if (v := self._values.get(t)) is not None}
        return min(known, key=known.__getitem__) if known else trials[-1]  # all failed: any will do

    def _begin(self, trial: str, history: Sequence[PastTrial] = ()) -> None:
        """Begin the second stage with the architecture of a trial of the first, or go on with it."""
        self._chosen = trial
        config = self._screened[trial]
        self._optuna = OptunaSearch(self._training_space(self._part(config)), self._seed, self._options.of_training)
        first = PastTrial(trial, self._rest(config), trial in self._values, self._values.get(trial))
        self._optuna.replay([first, *history])

    def _ask_optuna(self, trial: str) -> Config | None:
        assert self._optuna is not None
        assert self._chosen is not None
        if (asked := self._optuna.ask(trial)) is None:
            return None
        answer = self._part(self._screened[self._chosen]) | asked
        return {name: answer[name] for name in self._space if name in answer}

    def _training_space(self, architecture: Config) -> Space:
        """Ranges of the training hyperparameters beside an architecture, their conditions on it resolved."""
        space: Space = {}
        for name, values in self._training.items():
            inner = {n: some for n, some in (values.when or {}).items() if n not in self._architecture}
            outer = {n: some for n, some in (values.when or {}).items() if n in self._architecture}
            if all(architecture.get(n) in some for n, some in outer.items()) and set(inner) <= set(space):
                space[name] = values.model_copy(update={"when": inner or None})
        return space

    def _part(self, config: Mapping[str, Value]) -> Config:
        """The architecture of a config."""
        return {n: v for n, v in config.items() if n in self._architecture}

    def _rest(self, config: Mapping[str, Value]) -> Config:
        """The training hyperparameters of a config."""
        return {n: v for n, v in config.items() if n in self._training}


def _middle(values: Range) -> Value:
    """A value to train with while the architecture is sought."""
    return values.values[0] if isinstance(values, Choice) else values.from_unit(0.5)
