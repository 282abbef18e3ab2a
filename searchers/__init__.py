"""What to try next: the search space, the methods by name, and the adapter that makes them Ray Tune searchers.

To add a method: one file with the class, one line in SEARCHERS; the contract tests then cover it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict

from .direct_search import DirectOptions, DirectSearch
from .grid_search import GridSearch
from .oat_search import OatOptions, OatSearch
from .optuna_search import OptunaOptions, OptunaSearch
from .pruned_search import PrunedOptions, PrunedSearch
from .random_search import RandomSearch
from .screened_search import ScreenedSearch, ScreenOptions
from .searcher import Scorer, Searcher
from .space import Space
from .two_stage_search import TwoStageOptions, TwoStageSearch


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
        weighs_cost: it can minimise a cost beside the value; ``build`` then takes ``with_cost``.
        goes_on: it asks its scorer to the end of the search, while trials run.
    """

    build: Callable[..., Searcher]
    options: type[BaseModel]
    score: str | None
    about: str
    weighs_cost: bool = False
    goes_on: bool = False


def _random(space: Space, seed: int, scorer: Scorer | None, options: NoOptions) -> Searcher:
    return RandomSearch(space, seed)


def _grid(space: Space, seed: int, scorer: Scorer | None, options: NoOptions) -> Searcher:
    return GridSearch(space, seed)


def _optuna(
    space: Space, seed: int, scorer: Scorer | None, options: OptunaOptions, with_cost: bool = False
) -> Searcher:
    return OptunaSearch(space, seed, options, with_cost=with_cost)


def _direct(space: Space, seed: int, scorer: Scorer | None, options: DirectOptions) -> Searcher:
    return DirectSearch(space, seed, options)


def _oat(space: Space, seed: int, scorer: Scorer | None, options: OatOptions) -> Searcher:
    return OatSearch(space, seed, options)


SEARCHERS: dict[str, Method] = {
    "random": Method(_random, NoOptions, None, "random search, the baseline"),
    "grid": Method(_grid, NoOptions, None, "every combination of the levels, in a shuffled order"),
    "optuna": Method(_optuna, OptunaOptions, None, "one of Optuna's samplers, by default TPE", weighs_cost=True),
    "direct": Method(_direct, DirectOptions, None, "direct search on the levels: polls, then moves to the better"),
    "oat": Method(_oat, OatOptions, None, "orthogonal array over the levels, then the optimum that it predicts"),
    "naswot": Method(
        partial(ScreenedSearch, direction="auto"), ScreenOptions, "naswot", "score candidates by NASWOT, train the best"
    ),
    "rfr": Method(
        partial(ScreenedSearch, direction="published"),
        ScreenOptions,
        "rfr",
        "score candidates by random-feature readout, train the best (default)",
    ),
}
for _score, _two_stage in (
    ("naswot", partial(TwoStageSearch, direction="auto")),
    ("rfr", partial(TwoStageSearch, direction="published")),
):
    SEARCHERS[f"optuna+{_score}"] = Method(
        PrunedSearch,
        PrunedOptions,
        _score,
        f"Optuna, without training what {_score} rules out",
        weighs_cost=True,
        goes_on=True,
    )
    SEARCHERS[f"{_score}>optuna"] = Method(
        _two_stage, TwoStageOptions, _score, f"{_score} chooses the architecture, Optuna the training"
    )
