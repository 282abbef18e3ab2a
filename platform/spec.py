"""The specification of a study: a TOML file, or keyword arguments, checked where it enters."""

import difflib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..searchers import SEARCHERS
from ..searchers.searcher import NeedsTrials, Scorer, Searcher, no_scores
from ..searchers.space import Choice, Config, Float, Int, Space, checked, largest, probes
from ..trainables.data.mirror import absolute
from ..trainables.descriptors.settings import BispectrumSettings
from ..trainables.errors import InputError
from ..trainables.ldos.config import SurrogateConfig

Objective = Literal["validation_loss", "band_energy_mae"]
Cost = Literal["n_parameters", "inference_time"]
UNITS: dict[str, str] = {
    "validation_loss": "",
    "band_energy_mae": " meV/atom",
    "n_parameters": "",
    "inference_time": " µs a grid point",
}


class SpecError(InputError):
    """A study specification has an unknown key, a wrong value, or does not fit together."""


class Resources(BaseModel):
    """What one trial may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: int = Field(default=1, ge=1, description="CPUs of a trial")
    gpus: float | Literal["auto"] = Field(
        default="auto",
        description="share of a GPU of a trial, 0 to 1; auto: as many trials on each as its memory holds, none without",
    )
    memory: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="GB set aside for a trial on its node, and for its grid points, on its GPU if it has one: what "
        "does not fit is streamed; default its share of half of the node, or of the GPU what the network leaves",
    )
    concurrent: int | None = Field(default=None, ge=1, description="most trials at once; default all that fit")
    time_limit: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds until a trial is ended, as failed; default none"
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _share_of_one(cls, gpus: Any) -> Any:
        number = isinstance(gpus, (int, float)) and not isinstance(gpus, bool)
        if gpus != "auto" and not (number and (gpus == 0 or 0.01 <= gpus <= 1)):
            raise ValueError(
                'needs "auto", 0, or 0.01 to 1: a trial trains on one GPU or shares it, and more GPUs train more trials'
            )
        return gpus


class Budget(BaseModel):
    """What all trials of a study may use together: when it is used up, no further one starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid_points: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="grid points x epochs of training"
    )
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="seconds of training, summed")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.grid_points is None and self.seconds is None:
            raise ValueError("needs grid_points or seconds")
        return self


class Scheduler(BaseModel):
    """How trials that fall behind others at the same epoch are stopped early."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["asha", "median", "hyperband"] = Field(
        description="asha: successive halving without waiting; median: stop what is worse than the median; hyperband: "
        "successive halving of groups that wait for each other"
    )
    grace_epochs: int | None = Field(
        default=None, ge=1, description="asha, median: epochs before the first comparison; default an eighth of all"
    )
    reduction_factor: int | None = Field(
        default=None, ge=2, le=100, description="asha, hyperband: one in so many goes on; default 3"
    )

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Self:
        unused = {"median": "reduction_factor", "hyperband": "grace_epochs"}.get(self.type)
        if unused is not None and getattr(self, unused) is not None:
            raise ValueError(f"'{unused}' has no use with type '{self.type}'; leave it out")
        return self


class Compare(BaseModel):
    """What `dftune compare` varies: the methods, their options and seeds, each with the same budget."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="default all that can work in the space"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="each method is run once with each of them"
    )
    budget: Budget | None = Field(default=None, description="of each method and seed; default that of the study")
    trials: int = Field(default=1000, ge=1, description="most trials of each method and seed")
    options: dict[str, dict[str, Any]] = Field(default={}, description="options of a method, by its name")

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in methods or ():
            if name not in SEARCHERS:
                raise ValueError(f"unknown method '{name}'; there are {', '.join(SEARCHERS)}")
        if methods and len(set(methods)) < len(methods):
            raise ValueError("a method stands there twice")
        return methods


def _default_space() -> Space:
    return {
        "n_layers": Int(low=1, high=3),
        "width": Int(low=16, high=256, log=True),
        "activation": Choice(values=("relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid")),
        "learning_rate": Float(low=3e-4, high=3e-3, log=True),
    }


class StudySpec(BaseModel):
    """All that fixes a study besides its data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="letters, digits, dot, dash, underscore"
    )
    dataset: str = Field(min_length=1, description="dataset folder, relative to the study file, or URL of one")
    method: str = Field(default="rfr", description="how configs are chosen")
    minimize: Objective = Field(default="validation_loss", description="value of a trial, on the validation snapshots")
    cost: Cost | None = Field(
        default=None, description="cost of using the network, minimised beside the value by the methods that can"
    )
    cost_tolerance: float = Field(
        default=0.05,
        ge=0,
        allow_inf_nan=False,
        description="with a cost, the cheapest network with a value up to this share above the best is chosen",
    )
    seed: int = Field(default=0, ge=0, description="equal seeds give equal studies")
    trials: int = Field(default=50, ge=1, description="most trials to train; some methods need fewer")
    budget: Budget | None = Field(default=None, description="end of the search besides trials; default none")
    initializations: int = Field(default=5, ge=1, le=100, description="T, networks of the chosen config")
    descriptors: BispectrumSettings = BispectrumSettings()
    space: Space = Field(default_factory=_default_space, min_length=1, description="hyperparameters to vary")
    config: dict[str, Any] = Field(default={}, description="hyperparameters held at one value")
    options: dict[str, Any] = Field(default={}, description="options of the method")
    scheduler: Scheduler | None = Field(default=None, description="early end of trials that fall behind; default none")
    resources: Resources = Resources()
    compare: Compare = Compare()

    @field_validator("dataset", mode="before")
    @classmethod
    def _text(cls, dataset: object) -> object:
        return str(dataset) if isinstance(dataset, Path) else dataset

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method not in SEARCHERS:
            raise ValueError(f"unknown method '{self.method}'; there are {', '.join(SEARCHERS)}")
        if self.cost is not None and not SEARCHERS[self.method].weighs_cost:
            able = ", ".join(name for name, method in SEARCHERS.items() if method.weighs_cost)
            raise ValueError(f"method '{self.method}' cannot weigh a cost; take {able}, or leave cost out")
        if self.cost is None and self.cost_tolerance != StudySpec.model_fields["cost_tolerance"].default:
            raise ValueError("cost_tolerance has no use without cost")
        if self.scheduler is not None and "epochs" in self.space:
            raise ValueError("[scheduler] compares trials of one length; move epochs from [space] to [config]")
        if both := sorted(set(self.space) & set(self.config)):
            raise ValueError(f"'{both[0]}' stands in [space] and in [config]; choose one")
        if "widths" in self.config and (useless := {"n_layers", "width"} & set(self.space)):
            raise ValueError(f"widths in [config] leaves '{min(useless)}' in [space] without a use; leave one out")
        try:
            checked(self.space)
        except ValueError as error:
            raise ValueError(f"[space]: {error}") from error
        for config in probes(self.space):
            try:
                SurrogateConfig.of({**self.config, **config})
            except InputError as error:
                raise ValueError(f"[space] or [config]: {error}") from error
        if self.scheduler is not None and (grace := self.scheduler.grace_epochs or 1) >= self.epochs:
            raise ValueError(
                f"[scheduler] first compares after {grace} epochs, but a trial has {self.epochs}; nothing can be saved"
            )
        return self

    @property
    def epochs(self) -> int:
        """Epochs of a trial that is not stopped."""
        return int(self.config.get("epochs", SurrogateConfig.model_fields["epochs"].default))

    @property
    def method_options(self) -> BaseModel:
        """The options of the method, checked.

        Raises:
            SpecError: an unknown or wrong one.
        """
        model = SEARCHERS[self.method].options
        try:
            return model.model_validate(self.options)
        except ValidationError as error:
            raise SpecError(f"[options] of method {self.method}: {_explain(error, model)}") from error

    @property
    def metric(self) -> str:
        """The reported number that is minimised: that of the weights kept, not of the last epoch."""
        return {"validation_loss": "best_loss", "band_energy_mae": "best_band_energy_mae"}[self.minimize]

    def largest(self, size: Callable[[SurrogateConfig], float]) -> SurrogateConfig:
        """The config of the space that is largest by ``size``, as far as each hyperparameter alone decides."""

        def of(config: Config) -> SurrogateConfig:
            return SurrogateConfig.of({**self.config, **config})

        return of(largest(self.space, lambda config: size(of(config))))

    def trial_seed(self, trial: int) -> int:
        """Seed of a trial's initial weights: a function of study and trial number, whatever ran before."""
        return int(np.random.SeedSequence([self.seed, trial]).generate_state(1)[0])

    def searcher(self, scorer: Scorer = no_scores) -> Searcher:
        """The method, which asks ``scorer`` for the scores it needs.

        Raises:
            SpecError: the method cannot work in this space, or with so few trials.
        """
        method = SEARCHERS[self.method]
        more = {"with_cost": True} if self.cost is not None else {}
        try:
            searcher = method.build(self.space, self.seed, scorer, self.method_options, **more)
        except ValueError as error:
            raise SpecError(f"method {self.method}: {error}") from error
        if isinstance(searcher, NeedsTrials) and self.trials < searcher.least_trials:
            raise SpecError(
                f"method {self.method} with these options needs at least {searcher.least_trials} trials, and trials = "
                f"{self.trials}; raise trials or change [options]"
            )
        return searcher

    @classmethod
    def read(cls, path: Path) -> "StudySpec":
        """From a TOML file.

        Raises:
            SpecError: missing, not TOML, or wrong somewhere; the message names file and key.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SpecError(f"{path}: no such file; see examples/al4.toml for a study file") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SpecError(f"{path}: not a readable TOML file: {error}") from error
        if isinstance(values.get("dataset"), str):
            values["dataset"] = absolute(values["dataset"], path.parent)
        try:
            return cls.of(values)
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error

    @classmethod
    def of(cls, values: dict[str, Any]) -> "StudySpec":
        """From plain values.  Raises SpecError as ``read``."""
        try:
            spec = cls.model_validate(values)
        except ValidationError as error:
            raise SpecError(_explain(error, cls)) from error
        spec.method_options  # noqa: B018  (checks them)
        return spec


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One problem of a validation error in one line: key, problem, remedy.

    A misspelt key comes first: that another one is missing is often its consequence.
    """
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"] if part not in ("int", "float", "choice") or part == first["loc"][-1]]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"])
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known) or 'none'}"
        return f"unknown key '{key}'; {hint}"
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
