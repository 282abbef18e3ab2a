"""What to try next: the search space, the methods by name, and the adapter that makes them Ray Tune searchers.

To add a method: one file with the class, one line in SEARCHERS; the contract tests then cover it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from .random_search import RandomSearch
from .screened_search import ScreenedSearch, ScreenOptions
from .searcher import Scorer, Searcher
from .space import Space


class NoOptions(BaseModel):
    """A method without options of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Method:
    """A method by name.

    Args:
        build: (space, seed, scorer, options) -> searcher.
        options: model of the options it takes.
        score: name of the training-free score its scorer must give, or None.
        about: one line for help texts.
    """

    build: Callable[..., Searcher]
    options: type[BaseModel]
    score: str | None
    about: str


def _random(space: Space, seed: int, scorer: Scorer | None, options: NoOptions) -> Searcher:
    return RandomSearch(space, seed)


def _naswot(space: Space, seed: int, scorer: Scorer, options: ScreenOptions) -> Searcher:
    return ScreenedSearch(space, seed, scorer, options, direction="auto")


def _rfr(space: Space, seed: int, scorer: Scorer, options: ScreenOptions) -> Searcher:
    return ScreenedSearch(space, seed, scorer, options, direction="published")


SEARCHERS: dict[str, Method] = {
    "random": Method(_random, NoOptions, None, "random search, the baseline"),
    "naswot": Method(_naswot, ScreenOptions, "naswot", "score candidates by NASWOT, train the best"),
    "rfr": Method(_rfr, ScreenOptions, "rfr", "score candidates by random-feature readout, train the best (default)"),
}
