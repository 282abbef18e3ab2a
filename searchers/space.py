"""The hyperparameters' ranges.  One description gives draws, levels for arrays and polls, and a check of configs."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Value = int | float | str
Config = dict[str, Value]


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Int(_Range):
    """Whole numbers from low to high, both included; ``log`` draws them evenly over their logarithm."""

    type: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False
    n_levels: int = Field(default=4, ge=2, le=1000, description="values for the methods that need a few levels")

    @model_validator(mode="after")
    def _ordered(self) -> "Int":
        _check_bounds(self.low, self.high, self.log)
        return self

    def from_unit(self, u: float) -> int:
        """The value at u in [0, 1) of the range."""
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(max(round(math.exp(low + u * (high - low))), self.low), self.high)
        return min(self.low + int(u * (self.high - self.low + 1)), self.high)

    @property
    def levels(self) -> list[Value]:
        """Few values over the range, ends included."""
        return list(dict.fromkeys(round(v) for v in _spread(self.low, self.high, self.log, self.n_levels)))

    def holds(self, value: Value) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


class Float(_Range):
    """Numbers from low to high; ``log`` draws them evenly over their logarithm."""

    type: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False
    n_levels: int = Field(default=4, ge=2, le=1000, description="values for the methods that need a few levels")

    @model_validator(mode="after")
    def _ordered(self) -> "Float":
        _check_bounds(self.low, self.high, self.log)
        return self

    def from_unit(self, u: float) -> float:
        """The value at u in [0, 1) of the range."""
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)

    @property
    def levels(self) -> list[Value]:
        """Few values over the range, ends included."""
        return list(_spread(self.low, self.high, self.log, self.n_levels))

    def holds(self, value: Value) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


class Choice(_Range):
    """One of several values, in the order given."""

    type: Literal["choice"] = "choice"
    values: tuple[Value, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "Choice":
        if len(set(self.values)) != len(self.values):
            raise ValueError("values must differ from each other")
        return self

    def from_unit(self, u: float) -> Value:
        """The value at u in [0, 1) of the list."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    @property
    def levels(self) -> list[Value]:
        """All values."""
        return list(self.values)

    def holds(self, value: Value) -> bool:
        return value in self.values


Range = Annotated[Int | Float | Choice, Field(discriminator="type")]
Space = dict[str, Range]
SPACE: TypeAdapter[Space] = TypeAdapter(Space)


def draw(space: Mapping[str, Range], rng: np.random.Generator) -> Config:
    """One config, each hyperparameter drawn on its own."""
    return {name: values.from_unit(rng.random()) for name, values in space.items()}


def _check_bounds(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("low and high must be finite")
    if low > high:
        raise ValueError(f"low ({low:g}) is above high ({high:g})")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range needs low above 0, got {low:g}")


def _spread(low: float, high: float, log: bool, n: int) -> list[float]:
    if low == high:
        return [low]
    values: Any = np.geomspace(low, high, n) if log else np.linspace(low, high, n)
    return [low, *map(float, values[1:-1]), high]
