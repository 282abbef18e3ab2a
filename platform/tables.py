"""The tables of a study file that all kinds of surrogates share."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..trainables.errors import InputError


class WrongType(InputError):
    """A text, or true, stands where a number belongs."""


def refuse_text_for_numbers(model: type[BaseModel], values: Any, *, place: str = "") -> None:
    """Refuse "5" and true for 5, which pydantic would take: a study file says what it means.

    Args:
        model: what the values are checked against afterwards.
        values: as given, by name.
        place: key of the values, with a dot at its end.

    Raises:
        WrongType: naming the key and the value.
    """
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if name not in model.model_fields:
            continue
        types = list(_types(model.model_fields[name].annotation))
        key, a_number = f"{place}{name}", bool({int, float} & set(types))
        takes_text = str in types or bool in types or any(isinstance(part, str) for part in types)
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if a_number and not takes_text and isinstance(part, (str, bool)):
                raise WrongType(f"key '{key}': needs a number, got {part!r}")
        for part in types:
            if isinstance(part, type) and issubclass(part, BaseModel):
                refuse_text_for_numbers(part, value, place=f"{key}.")


def _types(annotation: Any) -> Iterator[Any]:
    """The types of a union or of the members of a tuple, and the values of a literal; nothing of a mapping."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _types(get_args(annotation)[0])
    elif origin is Literal:
        yield from get_args(annotation)
    elif origin in (Union, UnionType, tuple, list):
        for part in get_args(annotation):
            yield from _types(part)
    elif origin is None:
        yield annotation


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
        description="GB set aside for a trial on its node, and for its data, on its GPU if it has one: what does not "
        "fit is streamed; default its share of half of the node, or of the GPU what the network leaves",
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
    """What all trials of a study may use together.  Once it is used up, no further trial starts.

    The first limit counts work; the study's kind names it (``Kind.compute``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    counts: ClassVar[str]  # name of the first limit

    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="seconds of training, summed")

    @property
    def work(self) -> float | None:
        """The limit of work, as trials report it."""
        return getattr(self, self.counts)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.work is None and self.seconds is None:
            raise ValueError(f"needs {self.counts} or seconds")
        return self


class Scheduler(BaseModel):
    """How trials are stopped early that fall behind others at the same epoch."""

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
    splits: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="splits of the data on which the best config and the kind's own rows are repeated; default none",
    )
    curve: tuple[Annotated[int, Field(ge=3)], ...] = Field(
        default=(), description="with splits: sizes of the training data, for learning curves"
    )

    @model_validator(mode="after")
    def _curve_needs_splits(self) -> Self:
        if self.curve and self.splits is None:
            raise ValueError("curve has no use without splits")
        return self

    @field_validator("methods")
    @classmethod
    def _once(cls, methods: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if methods and len(set(methods)) < len(methods):
            raise ValueError("a method stands there twice")
        return methods
