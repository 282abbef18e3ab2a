"""The hyperparameters' ranges.  One description gives draws, levels for arrays and polls, and a check of configs.

A hyperparameter whose range has ``when`` is conditional: it exists only where others have the values given.  A config
lacks the names that do not exist in it; a *point* has a value for every name of the space.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from ..trainables.errors import did_you_mean

Value = int | float | str
Config = dict[str, Value]

N_LEVELS = 4


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("needs a number or a text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def _listed(values: Any) -> Any:
    if not isinstance(values, (list, tuple)):
        raise ValueError("needs a list, as in [1, 2]")
    return values


# Not the pydantic way of taking "2" and true for numbers: a study file says what it means.
_Whole = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
_Number = Annotated[float, Field(strict=True)]
_Flag = Annotated[bool, Field(strict=True)]
_Values = Annotated[
    tuple[Annotated[Value, BeforeValidator(_plain)], ...], BeforeValidator(_listed), Field(min_length=1)
]


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    when: dict[str, _Values] | None = Field(
        default=None,
        description="the hyperparameter exists only where each one named here, which stands before it, has one of the "
        "values given",
    )


class Int(_Range):
    """Whole numbers from low to high, both included; ``log`` draws them evenly over their logarithm."""

    type: Literal["int"] = "int"
    low: _Whole
    high: _Whole
    log: _Flag = False
    n_levels: _Whole | None = Field(
        default=None, ge=2, le=1000, description="number of values for the methods that need a few; default 4"
    )
    levels: Annotated[tuple[_Whole, ...], BeforeValidator(_listed), Field(min_length=1)] | None = Field(
        default=None, description="these values, rising, instead of n_levels"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Int":
        _check_numbers(self)
        return self

    def from_unit(self, u: float) -> int:
        """The value at u in [0, 1) of the range."""
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(max(round(math.exp(low + u * (high - low))), self.low), self.high)
        return min(self.low + int(u * (self.high - self.low + 1)), self.high)

    @property
    def grid_values(self) -> list[Value]:
        """The levels, rising: those given, or a few over the range, ends included."""
        return list(self.levels) if self.levels else list(dict.fromkeys(round(v) for v in _spread(self)))

    def holds(self, value: Value) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


class Float(_Range):
    """Numbers from low to high; ``log`` draws them evenly over their logarithm."""

    type: Literal["float"] = "float"
    low: _Number
    high: _Number
    log: _Flag = False
    n_levels: _Whole | None = Field(
        default=None, ge=2, le=1000, description="number of values for the methods that need a few; default 4"
    )
    levels: Annotated[tuple[_Number, ...], BeforeValidator(_listed), Field(min_length=1)] | None = Field(
        default=None, description="these values, rising, instead of n_levels"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Float":
        _check_numbers(self)
        return self

    def from_unit(self, u: float) -> float:
        """The value at u in [0, 1) of the range."""
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)

    @property
    def grid_values(self) -> list[Value]:
        """The levels, rising: those given, or a few over the range, ends included."""
        return list(self.levels) if self.levels else list(_spread(self))

    def holds(self, value: Value) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


class Choice(_Range):
    """One of several values, in the order given."""

    type: Literal["choice"] = "choice"
    values: _Values

    @model_validator(mode="after")
    def _distinct(self) -> "Choice":
        if len(set(self.values)) != len(self.values):
            raise ValueError("values must differ from each other")
        return self

    def from_unit(self, u: float) -> Value:
        """The value at u in [0, 1) of the list."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    @property
    def grid_values(self) -> list[Value]:
        """All values."""
        return list(self.values)

    def holds(self, value: Value) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Range = Annotated[Int | Float | Choice, Field(discriminator="type")]
Space = dict[str, Range]
SPACE: TypeAdapter[Space] = TypeAdapter(Space)


def exists(values: Range, config: Mapping[str, Value]) -> bool:
    """Whether a hyperparameter of this range exists beside the hyperparameters that stand before it."""
    return values.when is None or all(name in config and config[name] in some for name, some in values.when.items())


def active(space: Mapping[str, Range], point: Mapping[str, Value]) -> Config:
    """The config at a point: without the hyperparameters that do not exist there."""
    config: Config = {}
    for name, values in space.items():
        if exists(values, config):
            config[name] = point[name]
    return config


def contains(space: Mapping[str, Range], config: Mapping[str, Value]) -> bool:
    """Whether a config has the hyperparameters that exist in it, and no others, with values of their ranges."""
    there = {name for name, values in space.items() if exists(values, config)}
    return there == set(config) and all(space[name].holds(value) for name, value in config.items())


def complete(space: Mapping[str, Range], config: Mapping[str, Value]) -> Config:
    """A point at which this is the config: hyperparameters that do not exist in it are at their middle level."""
    return {name: config[name] if name in config else middle_level(values) for name, values in space.items()}


def middle_level(values: Range) -> Value:
    """The level in the middle; of an even number of them the upper one of the two."""
    levels = values.grid_values
    return levels[len(levels) // 2]


def draw(space: Mapping[str, Range], rng: np.random.Generator) -> Config:
    """One config, each hyperparameter drawn on its own; one random number a name, also where it does not exist."""
    return active(space, {name: values.from_unit(rng.random()) for name, values in space.items()})


def checked(space: Space) -> Space:
    """The space, if the conditions in it can be met.

    Raises:
        ValueError: a condition on what is not in the space, stands later, is a float or never has the value given, or
            conditions that contradict each other.
    """
    for i, (name, values) in enumerate(space.items()):
        for parent, some in (values.when or {}).items():
            place = f"when of '{name}' names '{parent}'"
            if parent not in space:
                raise ValueError(f"{place}, which is not in the space; {did_you_mean(parent, space)}")
            if parent not in list(space)[:i]:
                raise ValueError(f"{place}, which must stand before it; move '{name}' down")
            condition = space[parent]
            if isinstance(condition, Float):
                raise ValueError(f"{place}, a float; a condition needs an int or a choice: list its values as a choice")
            if never := [value for value in some if not condition.holds(value)]:
                raise ValueError(f"{place} with the value {never[0]!r}, which it never has; it has {condition}")
        for other, left in _conditions(space, name).items():
            if not left:
                raise ValueError(f"'{name}' never exists: its conditions, and theirs, leave no value for '{other}'")
    return space


def probes(space: Space) -> Iterator[Config]:
    """Configs to check a space by: each hyperparameter at its ends and in between, and under each of its conditions.

    A choice is at each of its values, and the other hyperparameters at their first.
    """
    for name, values in space.items():
        first: Config = {n: _some(others)[0] for n, others in space.items()}
        conditions = _conditions(space, name)
        first |= {n: some[0] for n, some in conditions.items()}
        for value in _some(values):
            yield active(space, first | {name: value})
        for n, some in conditions.items():
            for condition in some:
                yield active(space, first | {n: condition})


def largest(space: Space, size: Callable[[Config], float]) -> Config:
    """The config of the largest ``size``, where each hyperparameter raises or lowers it whatever the others are."""
    point: Config = {name: _some(values)[0] for name, values in space.items()}
    for _ in "12":  # a second time for what exists only beside what has been chosen since
        for name, values in space.items():
            point[name] = max(_some(values), key=lambda value: size(active(space, point | {name: value})))
    return active(space, point)


def seen_by(space: Space, seen: Callable[[Config], Hashable]) -> list[str]:
    """The hyperparameters that ``seen`` depends on: a change of one of them alone can change what it gives.

    Each is changed at the configs of ``probes``.  What exists only beside some of its values comes and goes with it.
    """
    points = [complete(space, config) for config in probes(space)]

    def matters(name: str) -> bool:
        return any(
            len({seen(active(space, point | {name: value})) for value in _some(space[name])}) > 1 for point in points
        )

    return [name for name in space if matters(name)]


def _some(values: Range) -> Sequence[Value]:
    # Between the ends too: 2.0 to 5.0 are whole numbers of epochs, 3.5 is not.
    return values.values if isinstance(values, Choice) else (values.low, values.high, values.from_unit(0.37))


def _conditions(space: Space, name: str) -> dict[str, list[Value]]:
    """For all that a hyperparameter depends on, directly or through another, the values at which it exists."""
    found: dict[str, list[Value]] = {}
    for other in reversed(space):
        if other == name or other in found:
            for parent, some in (space[other].when or {}).items():
                found[parent] = [value for value in found.get(parent, some) if value in some]
    return found


def levels_of(space: Mapping[str, Range]) -> dict[str, list[Value]]:
    """The levels of each hyperparameter."""
    return {name: values.grid_values for name, values in space.items()}


def _check_numbers(values: Int | Float) -> None:
    low, high = values.low, values.high
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("low and high must be finite")
    if low > high:
        raise ValueError(f"low ({low:g}) is above high ({high:g})")
    if values.log and low <= 0:
        raise ValueError(f"a logarithmic range needs low above 0, got {low:g}")
    if values.levels is None:
        return
    if values.n_levels is not None:
        raise ValueError("give levels or n_levels, not both")
    if any(a >= b for a, b in itertools.pairwise(values.levels)):
        raise ValueError("levels must rise from each to the next")
    if not low <= values.levels[0] <= values.levels[-1] <= high:
        raise ValueError(f"levels must lie between low ({low:g}) and high ({high:g})")


def _spread(values: Int | Float) -> list[float]:
    low, high, n = values.low, values.high, values.n_levels or N_LEVELS
    if low == high:
        return [low]
    found: Any = np.geomspace(low, high, n) if values.log else np.linspace(low, high, n)
    return [low, *map(float, found[1:-1]), high]
