"""What every method is: ask for a config, tell its value, replay a history.  No Ray, no network, no file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from .space import Config


class Wait(Enum):
    """Nothing to propose yet: scores or values that the next proposal depends on are still under way."""

    WAIT = "wait"


WAIT = Wait.WAIT

# Scores of configs, higher is better: NaN for a config that has none, None while it is being worked on.
# Asking starts the work and returns at once, so a plain function that computes them on the spot is a scorer too.
Scorer = Callable[[Sequence[Config]], Sequence[float | None]]


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier session; ``value`` is None for one that failed or has not finished."""

    trial: str
    config: Config
    finished: bool
    value: float | None


class Searcher(Protocol):
    """A method.  Equal seed and equal history give equal proposals."""

    def ask(self, trial: str) -> Config | Wait | None:
        """The config of a new trial, WAIT for none yet, or None when nothing is left to propose."""
        ...

    def tell(self, trial: str, value: float | None) -> None:
        """The value of a finished trial, to be minimised; None for a trial that failed."""
        ...

    def replay(self, history: Sequence[PastTrial]) -> None:
        """On a fresh searcher: go on as after asking for these trials, in this order, with the finished ones told."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A method that has something to say about its trials besides their values."""

    def explanation(self) -> list[str]:
        """Lines for people; none while there is nothing to say."""
        ...
