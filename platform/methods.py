"""The methods that a study can have: the plain ones, and three for each training-free score of its kind."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..searchers import SEARCHERS, Method, NoOptions, SearchTask, scored_methods
from ..searchers.registry import Registry
from ..searchers.searcher import Searcher
from ..trainables.errors import InputError, did_you_mean
from ..trainables.kind import Kind, Score

PLUGGED_IN: Registry[Score] = Registry("dftune.scores", {}, of=Score)


@dataclass(frozen=True)
class Own:
    """What a script brings along that no registry has.

    scores: training-free scores by name, each of which makes three methods.
    searcher: a fresh searcher, or a function of a ``SearchTask`` that makes one.
    """

    scores: Mapping[str, Score] = field(default_factory=dict)
    searcher: Searcher | Callable[[SearchTask], Searcher] | None = None

    @property
    def name(self) -> str | None:
        """By which the study's method is known where a searcher is brought along: that of its class or function."""
        if self.searcher is None:
            return None
        return getattr(self.searcher, "__name__", type(self.searcher).__name__)

    def build(self, task: SearchTask, options: Any) -> Searcher:
        """A searcher that has not been asked yet."""
        if hasattr(self.searcher, "ask") and not isinstance(self.searcher, type):
            return copy.deepcopy(self.searcher)  # type: ignore[return-value]
        return self.searcher(task)  # type: ignore[misc]


NOTHING = Own()


def scores_of(kind: Kind, own: Own = NOTHING) -> dict[str, Score]:
    """All scores of a kind, those of plug-ins and of the script included; the default one first."""
    plugged_in = {name: score for name, score in PLUGGED_IN.items() if score.kind == kind.name}
    return {**kind.scores, **plugged_in, **own.scores}


def method_names(kind: Kind, own: Own = NOTHING) -> list[str]:
    """All methods of a kind."""
    mine = [own.name] if own.name is not None else []
    return [*mine, *SEARCHERS, *_scored(scores_of(kind, own))]


def default_method(kind: Kind) -> str:
    """That of the kind's first score, which must not be a trivial one; random search without a score."""
    return next((name for name, score in kind.scores.items() if not score.trivial), "random")


def method_of(kind: Kind, name: str, own: Own = NOTHING) -> Method:
    """The method of a name; plug-ins are looked at only where nothing else has it.

    Raises:
        InputError: there is none.
    """
    if name == own.name:
        return Method(own.build, NoOptions, None, "the searcher of the script")
    if (found := _scored({**kind.scores, **own.scores}).get(name)) is not None:
        return found
    if name in SEARCHERS:
        return SEARCHERS[name]
    if (found := _scored(scores_of(kind, own)).get(name)) is not None:
        return found
    raise InputError(f"unknown method '{name}'; {did_you_mean(name, method_names(kind, own))}")


def score_of(kind: Kind, name: str, own: Own = NOTHING) -> Score:
    """The score of a name.  Raises InputError: there is none."""
    if name in own.scores or name in kind.scores:
        return own.scores.get(name) or kind.scores[name]
    if name in (every := scores_of(kind, own)):
        return every[name]
    raise InputError(f"unknown score '{name}'; {did_you_mean(name, every)}")


def _scored(scores: Mapping[str, Score]) -> dict[str, Method]:
    return scored_methods(name for name, score in scores.items() if not score.trivial)
