"""What every method is: ask for a config, tell its value, replay a history.  No Ray, no network, no file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from ..trainables.errors import DftuneError
from .space import Config


class Wait(Enum):
    """Nothing to propose yet: scores or values that the next proposal depends on are still under way."""

    WAIT = "wait"


WAIT = Wait.WAIT


@dataclass(frozen=True)
class Pruned:
    """A candidate that its score rules out: it counts as proposed, is written down and not trained; ask again."""

    config: Config


class SearchError(DftuneError, ValueError):
    """A method cannot go on; the message says why and what to do."""


# Scores of configs, higher is better: NaN for a config that has none, None while it is being worked on.
# Asking starts the work and returns at once, so a plain function that computes them on the spot is a scorer too.
Scorer = Callable[[Sequence[Config]], Sequence[float | None]]


def no_scores(configs: Sequence[Config]) -> list[None]:
    """The scorer of a method that asks for none, or that is made only to see whether it can be."""
    return [None] * len(configs)


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier session; ``value`` is None for one that failed, was pruned or has not finished.

    others: further objectives, where the method minimises several.
    """

    trial: str
    config: Config
    finished: bool
    value: float | None
    others: tuple[float, ...] = ()
    pruned: bool = False


class Searcher(Protocol):
    """A method.  Equal seed and equal history give equal proposals."""

    def ask(self, trial: str) -> Config | Pruned | Wait | None:
        """The config of a new trial, one not worth a trial, WAIT for none yet, or None when nothing is left."""
        ...

    def tell(self, trial: str, value: float | None) -> None:
        """The value of a finished trial, to be minimised; None for a trial that failed."""
        ...

    def replay(self, history: Sequence[PastTrial]) -> None:
        """On a fresh searcher: go on as after asking for these trials, in this order, with the finished ones told."""
        ...


class SeveralSearcher(Searcher, Protocol):
    """A method that can minimise several numbers beside each other."""

    def tell(self, trial: str, value: float | None, *others: float) -> None:
        """As ``Searcher.tell``; ``others`` are the further numbers, none for a trial that failed."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A method that has something to say about its trials besides their values."""

    def explanation(self) -> list[str]:
        """Lines for people; none while there is nothing to say."""
        ...


@runtime_checkable
class NeedsTrials(Protocol):
    """A method that comes to nothing with too few trials."""

    @property
    def least_trials(self) -> int:
        """Trials without which it is not itself: its array, its calibration, its draws at random."""
        ...
