"""The specification of a study: a TOML file, or keyword arguments, checked where it enters."""

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from ..searchers import Method, SearchTask
from ..searchers.first import FirstThese
from ..searchers.searcher import NeedsTrials, Scorer, Searcher, no_scores
from ..searchers.space import SPACE, Choice, Float, Int, Space, checked, contains, largest, probes
from ..trainables.data.location import absolute
from ..trainables.errors import InputError, did_you_mean, key_of, one_line, printable
from ..trainables.files import read_text
from ..trainables.kind import Kind
from ..trainables.kinds import KINDS, kind_of
from .methods import (
    NOTHING,
    Own,
    default_method,
    has_method,
    method_of,
    methods_of,
    refuse_taken_names,
    score_of,
)
from .objective import GONE, in_words_of_today, measure_of, refuse_objectives, weights_of
from .tables import Budget, Compare, Resources, Scheduler, WrongType, refuse_text_for_numbers

UNTRAINED = "none"  # the method that neither searches nor trains


class SpecError(InputError):
    """A study specification has an unknown key, a wrong value, or does not fit together."""


class StudySpec(BaseModel):
    """All that fixes a study besides its data.

    Made by ``of`` or ``read``: the kind of surrogates decides what can be minimised, and has a table of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    of_kind: ClassVar[Kind]

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="letters, digits, dot, dash, underscore"
    )
    kind: str = Field(description="kind of surrogates; default that of the dataset")
    dataset: str = Field(min_length=1, description="dataset folder, relative to the study file, or URL of one")
    method: str = Field(description="how configs are chosen")
    minimize: tuple[str, ...] = Field(
        min_length=1,
        description="value of a trial, on the validation data, or a sum with weights, as 'a + 50 b'; or a list of one "
        "and of other values or costs of use, for the methods that can minimise several",
    )
    tolerance: float = Field(
        default=0.05,
        ge=0,
        allow_inf_nan=False,
        description="with a list, the network is chosen whose last number is lowest, among those whose others are, one "
        "after the other, up to this share above the lowest",
    )
    seed: int = Field(default=0, ge=0, description="equal seeds give equal studies")
    trials: int = Field(default=50, ge=1, description="most trials to train; some methods need fewer")
    budget: Budget | None = Field(default=None, description="end of the search besides trials; default none")
    initializations: int = Field(default=5, ge=1, le=100, description="T, networks of the chosen config")
    space: Space = Field(min_length=1, description="hyperparameters to vary")
    start_from: tuple[str, ...] = Field(
        default=(), description="studies of the same kind, in the same place, whose best configs come first"
    )
    first: tuple[dict[str, Any], ...] = Field(default=(), description="configs of the space that come first of all")
    config: dict[str, Any] = Field(default={}, description="hyperparameters held at one value")
    options: dict[str, Any] = Field(default={}, description="options of the method")
    scheduler: Scheduler | None = Field(default=None, description="early end of trials that fall behind; default none")
    loggers: dict[str, dict[str, Any]] = Field(
        default={},
        description="where trials are logged besides the ledger, each with its options: tensorboard, mlflow, wandb, "
        "csv, json, or package:Class of a Ray Tune callback; default nowhere",
    )
    resources: Resources = Resources()
    compare: Compare = Compare()

    @field_validator("dataset", mode="before")
    @classmethod
    def _text(cls, dataset: object) -> object:
        return str(dataset) if isinstance(dataset, Path) else dataset

    @field_validator("minimize", mode="before")
    @classmethod
    def _one_is_a_list(cls, minimize: object) -> object:
        return (minimize,) if isinstance(minimize, str) else minimize

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        context = info.context or {}
        own: Own = context.get("own", NOTHING)
        refuse_objectives(self.minimize, self.of_kind)
        if not context.get("as_it_was"):
            self._check_methods(own)
        if len(self.minimize) == 1 and self.tolerance != StudySpec.model_fields["tolerance"].default:
            raise ValueError("tolerance has no use where minimize is one value; make it a list or leave tolerance out")
        if self.scheduler is not None and "epochs" in self.space:
            raise ValueError("[scheduler] compares trials of one length; move epochs from [space] to [config]")
        if both := sorted(set(self.space) & set(self.config)):
            raise ValueError(f"'{both[0]}' stands in [space] and in [config]; choose one")
        try:
            self.of_kind.refuse_space(set(self.space), self.config)
        except InputError as error:
            raise ValueError(str(error)) from error
        try:
            checked(self.space)
        except ValueError as error:
            raise ValueError(f"[space]: {error}") from error
        for config in self.first:
            if not contains(self.space, config):
                raise ValueError(f"first: {config} is not a config of [space]; give each hyperparameter a value in it")
        if len(self.first) >= self.trials:
            raise ValueError(f"first has {len(self.first)} configs, and trials = {self.trials}; raise trials")
        for config in probes(self.space):
            try:
                self.full(config)
            except InputError as error:
                raise ValueError(f"[space] or [config]: {error}") from error
        if self.scheduler is not None and (grace := self.scheduler.grace_epochs or 1) >= self.epochs:
            raise ValueError(
                f"[scheduler] first compares after {grace} epochs, but a trial has {self.epochs}; nothing can be saved"
            )
        return self

    def _check_methods(self, own: Own) -> None:
        """Refuse methods that there are not, or that cannot do what is asked of them.  Raises ValueError."""
        kind = self.of_kind
        try:
            refuse_taken_names(kind, own)
            method = method_of(kind, self.method, own)
            for name in self.compare.methods or ():
                method_of(kind, name, own)
        except InputError as error:
            raise ValueError(str(error)) from error
        if len(self.minimize) > 1 and not method.several:
            able = ", ".join(name for name, one in methods_of(kind, own)[0].items() if one.several)
            raise ValueError(f"method '{self.method}' minimises one value; take {able}, or name one in minimize")

    @property
    def settings(self) -> Any:
        """The kind's own table."""
        return getattr(self, self.of_kind.table)

    @property
    def value_name(self) -> str:
        """What is minimised, or the first of several: the value of a trial."""
        return self.minimize[0]

    @property
    def value_measure(self) -> Any:
        """Its measure."""
        return measure_of(self.value_name, self.of_kind)

    @property
    def other_measures(self) -> list[Any]:
        """Measures of all that is minimised beside it."""
        return [measure_of(name, self.of_kind) for name in self.minimize[1:]]

    @property
    def minimized(self) -> list[str]:
        """Names of the values and costs that are minimised, those of a sum one by one."""
        return [*weights_of(self.value_name, self.of_kind), *self.minimize[1:]]

    def refuse(self, data: Any) -> None:
        """Check what would make the study fail on its data, before it starts.  Raises InputError."""
        minimized = [name for name in self.minimized if name in self.of_kind.values]
        for name in minimized:
            self.of_kind.refuse(data, self.settings, name)
        self.of_kind.refuse_config(data, self.config, set(self.space), minimized)

    @property
    def epochs(self) -> int:
        """Epochs of a trial that is not stopped."""
        fixed = {"epochs": self.config["epochs"]} if "epochs" in self.config else {}
        return int(self.of_kind.config.of(fixed).epochs)

    def full(self, config: Mapping[str, Any]) -> Any:
        """The full config of what a method proposes: with all that is held at one value.

        Raises:
            InputError: an unknown hyperparameter or a wrong value.
        """
        return self.of_kind.config.of({**self.config, **config})

    def method_options(self, own: Own = NOTHING) -> BaseModel:
        """The options of the method, checked.

        Raises:
            SpecError: an unknown or wrong one.
        """
        model = method_of(self.of_kind, self.method, own).options
        try:
            refuse_text_for_numbers(model, self.options)
            return model.model_validate(self.options)
        except WrongType as error:
            raise SpecError(f"[options] of method {self.method}: {error}") from None
        except ValidationError as error:
            raise SpecError(f"[options] of method {self.method}: {_explain(error, model)}") from error

    @property
    def metric(self) -> str:
        """The reported number that is minimised: that of the weights kept, not of the last epoch."""
        return self.value_measure.report

    def largest(self, size: Callable[[Any], float]) -> Any:
        """The config of the space that is largest by ``size``, as far as each hyperparameter alone decides."""
        return self.full(largest(self.space, lambda config: size(self.full(config))))

    def trial_seed(self, trial: int) -> int:
        """Seed of a trial's initial weights: a function of study and trial number, whatever ran before."""
        return int(np.random.SeedSequence([self.seed, trial]).generate_state(1)[0])

    def method_of(self, own: Own = NOTHING) -> Method:
        """Its method.  Raises InputError: there is none of that name."""
        return method_of(self.of_kind, self.method, own)

    def has_method(self, own: Own = NOTHING) -> bool:
        """Whether its method is here: it may be a plug-in, or of a script, that is not."""
        return has_method(self.of_kind, self.method, own)

    def score(self, own: Own = NOTHING) -> str | None:
        """Name of the score that its method searches by, None where it has none or is not here."""
        return self.method_of(own).score if self.has_method(own) else None

    def searcher(self, scorer: Scorer = no_scores, own: Own = NOTHING) -> Searcher:
        """The method's searcher, which asks ``scorer`` for the scores it needs.

        Raises:
            SpecError: the method cannot work in this space, or with so few trials.
        """
        method = self.method_of(own)
        task = SearchTask(
            space=self.space,
            seed=self.seed,
            scorer=scorer,
            n_objectives=len(self.minimize),
            direction="published" if method.score is None else score_of(self.of_kind, method.score, own).direction,
            seen=lambda config: self.full(config).seen_by_scores,
        )
        try:
            searcher = method.build(task, self.method_options(own))
        except ValueError as error:
            raise SpecError(f"method {self.method}: {error}") from error
        left = self.trials - len(self.first)
        if isinstance(searcher, NeedsTrials) and left < searcher.least_trials:
            raise SpecError(
                f"method {self.method} with these options needs at least {searcher.least_trials} trials, and trials = "
                f"{self.trials}"
                + (f", {len(self.first)} of them for configs that come first" if self.first else "")
                + "; raise trials or change [options]"
            )
        return FirstThese(searcher, self.first) if self.first else searcher

    @classmethod
    def read(cls, path: Path, own: Own = NOTHING) -> "StudySpec":
        """From a TOML file.

        Raises:
            SpecError: missing, not TOML, or wrong somewhere; the message names file and key.
        """
        try:
            values = tomllib.loads(read_text(path))
        except FileNotFoundError as error:
            raise SpecError(f"{path}: no such file; see examples/al4.toml for a study file") from error
        except InputError as error:
            raise SpecError(str(error)) from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise SpecError(f"{path}: not a readable TOML file: {one_line(error)}") from error
        if isinstance(values.get("dataset"), str):
            values["dataset"] = absolute(values["dataset"], path.parent)
        try:
            return cls.of(values, own)
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error

    @classmethod
    def of(cls, values: Mapping[str, Any], own: Own = NOTHING, *, as_it_was: bool = False) -> "StudySpec":
        """From plain values.

        Args:
            values: as in a study file.
            own: scores and searcher of the script.
            as_it_was: of a study that has begun: its method need not be there, to look at it.

        Raises:
            SpecError: as ``read``.
        """
        try:
            kind = KINDS[str(values.get("kind") or kind_of(str(values.get("dataset", ""))))]
        except SpecError:
            raise
        except InputError as error:
            raise SpecError(f"key 'kind': {error}") from error
        model = _model(kind)  # type: ignore[arg-type]
        values = in_words_of_today(values) if as_it_was else values
        filled = {
            "kind": kind.name,
            "method": default_method(kind),
            "minimize": next(iter(kind.values)),
            "space": SPACE.validate_python(kind.space) if kind.space else {},
            **values,
        }
        if filled["method"] == UNTRAINED and not as_it_was:
            filled["space"] = _untrained(kind, filled.get("config"))
        try:
            if not as_it_was:
                refuse_text_for_numbers(model, filled)
            spec = model.model_validate(filled, context={"own": own, "as_it_was": as_it_was})
        except ValidationError as error:
            raise SpecError(_explain(error, model)) from error
        except WrongType as error:
            raise SpecError(str(error)) from None
        if not as_it_was:
            spec.method_options(own)
        return spec


def _untrained(kind: Kind, config: Any) -> Space:
    """The space of one point that a study without training has: but for what [config] holds at a value.

    Raises:
        SpecError: the kind has none.
    """
    if kind.untrained is None:
        raise SpecError(f"method {UNTRAINED}: surrogates of kind '{kind.name}' need training; choose another method")
    held = config if isinstance(config, Mapping) else {}
    return {name: Choice(values=(value,)) for name, value in kind.untrained.items() if name not in held}


@cache
def _model(kind: Kind) -> type[StudySpec]:
    """The specification of a study of one kind: with its own table, and its own name for work in a budget."""
    work = (float | None, Field(default=None, gt=0, allow_inf_nan=False, description=kind.compute.label))
    budget = create_model("Budget", __base__=Budget, **{kind.compute.report: work})  # type: ignore[call-overload]
    budget.counts = kind.compute.report
    compare = create_model("Compare", __base__=Compare, budget=(budget | None, None))
    try:
        own_table: Any = (kind.settings, kind.settings())
    except ValidationError:  # it has settings without a default
        own_table = (kind.settings, ...)
    model = create_model(
        "StudySpec",
        __base__=StudySpec,
        budget=(budget | None, None),
        compare=(compare, compare()),
        **{kind.table: own_table},
    )
    model.of_kind = kind
    return model


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One problem of a validation error in one line: key, problem, remedy.

    A misspelt key comes first: that another one is missing is often its consequence.
    """
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = first["loc"]
    of_range = place[:1] == ("space",) and len(place) > 2  # then the type of the range stands behind its name
    key = ".".join([str(place[0]), key_of(place[1:2]), *map(str, place[3:])]) if of_range else key_of(place)
    if first["type"] == "extra_forbidden":
        hint = GONE.get(key) or did_you_mean(str(place[-1]), _known_keys(model, place))
        return f"unknown key '{printable(key)}'; {hint}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    if first["type"].startswith("union_tag"):
        return f'key \'{key}\': needs type = "int", "float" or "choice", got {first["input"]!r}'
    message = first["msg"].removeprefix("Value error, ")
    return f"key '{key}': {message}, got {first['input']!r}" if key else message


def _known_keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    ranges: dict[object, type[BaseModel]] = {"int": Int, "float": Float, "choice": Choice}
    if len(place) >= 3 and place[0] == "space":
        return list(ranges[place[2]].model_fields)
    for part in place[:-1]:
        annotation = model.model_fields[str(part)].annotation
        for kind in (annotation, *get_args(annotation)):  # Budget, or Budget | None
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return list(model.model_fields)
