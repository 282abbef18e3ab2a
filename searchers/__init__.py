"""What to try next: the search space, the methods by name, and the adapter that makes them Ray Tune searchers.

To add a method: one file with the class, one line in SEARCHERS; the contract tests then cover it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from .direct_search import DirectOptions, DirectSearch
from .grid_search import GridSearch
from .oat_search import OatOptions, OatSearch
from .optuna_search import OptunaOptions, OptunaSearch
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


def _grid(space: Space, seed: int, scorer: Scorer | None, options: NoOptions) -> Searcher:
    return GridSearch(space, seed)


def _optuna(space: Space, seed: int, scorer: Scorer | None, options: OptunaOptions) -> Searcher:
    return OptunaSearch(space, seed, options)


def _direct(space: Space, seed: int, scorer: Scorer | None, options: DirectOptions) -> Searcher:
    return DirectSearch(space, seed, options)


def _naswot(space: Space, seed: int, scorer: Scorer, options: ScreenOptions) -> Searcher:
    return ScreenedSearch(space, seed, scorer, options, direction="auto")


def _rfr(space: Space, seed: int, scorer: Scorer, options: ScreenOptions) -> Searcher:
    return ScreenedSearch(space, seed, scorer, options, direction="published")


def _oat(space: Space, seed: int, scorer: Scorer | None, options: OatOptions) -> Searcher:
    return OatSearch(space, seed, options)


SEARCHERS: dict[str, Method] = {
    "random": Method(_random, NoOptions, None, "random search, the baseline"),
    "grid": Method(_grid, NoOptions, None, "every combination of the levels, in a shuffled order"),
    "optuna": Method(_optuna, OptunaOptions, None, "one of Optuna's samplers, by default TPE"),
    "direct": Method(_direct, DirectOptions, None, "direct search on the levels: polls, then moves to the better"),
    "naswot": Method(_naswot, ScreenOptions, "naswot", "score candidates by NASWOT, train the best"),
    "rfr": Method(_rfr, ScreenOptions, "rfr", "score candidates by random-feature readout, train the best (default)"),
    "oat": Method(_oat, OatOptions, None, "orthogonal array over the levels, then the optimum that it predicts"),
}
