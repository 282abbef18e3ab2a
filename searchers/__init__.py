"""What to try next: the search space, the methods by name, and the adapter that makes them Ray Tune searchers.

To add a method: one file with the class, one line in SEARCHERS; the contract tests then cover it.  An installed package
adds one by an entry point of the group ``dftune.searchers`` that names a ``Method``.
"""

from collections.abc import Iterable

from ..trainables.registry import Registry
from .direct_search import DirectOptions, DirectSearch
from .grid_search import GridSearch
from .method import Build, Method, NoOptions, SearchTask
from .oat_search import OatOptions, OatSearch
from .optuna_search import OptunaOptions, OptunaSearch
from .pruned_search import PrunedOptions, PrunedSearch
from .random_search import RandomSearch
from .screened_search import Direction, ScreenedSearch, ScreenOptions
from .searcher import Searcher
from .two_stage_search import TwoStageOptions, TwoStageSearch

__all__ = ["SEARCHERS", "Build", "Method", "NoOptions", "SearchTask", "scored_methods"]


def _random(task: SearchTask, options: NoOptions) -> Searcher:
    return RandomSearch(task.space, task.seed)


def _grid(task: SearchTask, options: NoOptions) -> Searcher:
    return GridSearch(task.space, task.seed)


def _optuna(task: SearchTask, options: OptunaOptions) -> Searcher:
    return OptunaSearch(task.space, task.seed, options, n_objectives=task.n_objectives)


def _direct(task: SearchTask, options: DirectOptions) -> Searcher:
    return DirectSearch(task.space, task.seed, options)


def _oat(task: SearchTask, options: OatOptions) -> Searcher:
    return OatSearch(task.space, task.seed, options)


def _screened(task: SearchTask, options: ScreenOptions) -> Searcher:
    return ScreenedSearch(task.space, task.seed, task.scorer, options, direction=_direction(task))


def _pruned(task: SearchTask, options: PrunedOptions) -> Searcher:
    return PrunedSearch(task.space, task.seed, task.scorer, options, n_objectives=task.n_objectives)


def _two_stage(task: SearchTask, options: TwoStageOptions) -> Searcher:
    return TwoStageSearch(task.space, task.seed, task.scorer, options, direction=_direction(task), seen=task.seen)


def _direction(task: SearchTask) -> Direction:
    return "auto" if task.direction == "learnt" else "published"


SEARCHERS: Registry[Method] = Registry(
    "method",
    "dftune.searchers",
    {
        "random": Method(_random, NoOptions, None, "random search, the baseline"),
        "grid": Method(_grid, NoOptions, None, "every combination of the levels, in a shuffled order"),
        "optuna": Method(_optuna, OptunaOptions, None, "one of Optuna's samplers, by default TPE", several=True),
        "direct": Method(_direct, DirectOptions, None, "direct search on the levels: polls, then moves to the better"),
        "oat": Method(_oat, OatOptions, None, "orthogonal array over the levels, then the optimum that it predicts"),
        "none": Method(_grid, NoOptions, None, "no search and no training: the surrogate that a closed form gives"),
    },
    of=Method,
)


def scored_methods(scores: Iterable[str]) -> dict[str, Method]:
    """The methods that training-free scores make possible, three of each score.

    Args:
        scores: names of the scores.  Which way one points stands in the ``SearchTask``.

    Returns:
        For each score s, first all of ``s``, then all ``optuna+s`` and ``s>optuna``.
    """
    names = list(scores)
    screened = {s: Method(_screened, ScreenOptions, s, f"score candidates by {s}, train the best") for s in names}
    combined: dict[str, Method] = {}
    for s in names:
        combined[f"optuna+{s}"] = Method(
            _pruned,
            PrunedOptions,
            s,
            f"Optuna, without training what {s} rules out",
            several=True,
            goes_on=True,
        )
        combined[f"{s}>optuna"] = Method(
            _two_stage, TwoStageOptions, s, f"{s} chooses the architecture, Optuna the training"
        )
    return screened | combined
