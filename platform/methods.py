"""The methods that a study can have: the plain ones, and three for each training-free score of its kind.

Names are known without loading a plug-in.  A plug-in is loaded where it is used, and where all there are is asked for;
one that cannot be used does not disturb the others.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..searchers import SEARCHERS, Method, NoOptions, SearchTask, scored_methods
from ..searchers.searcher import Searcher
from ..trainables.errors import InputError, did_you_mean
from ..trainables.kind import Kind, Score
from ..trainables.registry import Registry

PLUGGED_IN: Registry[Score] = Registry("score", "dftune.scores", {}, of=Score)

SEARCHER = ("ask", "tell", "replay")  # what a searcher can do


@dataclass(frozen=True)
class Own:
    """What a script brings along that no registry has.

    scores: training-free scores by name, each of which makes three methods.
    searcher: a fresh searcher, or a function of a ``SearchTask`` that makes one.

    Raises:
        InputError: something is no score, or no searcher.
    """

    scores: Mapping[str, Score] = field(default_factory=dict)
    searcher: Searcher | Callable[[SearchTask], Searcher] | None = None

    def __post_init__(self) -> None:
        for name, score in self.scores.items():
            if not isinstance(score, Score):
                what = "a function alone" if callable(score) else repr(score)
                raise InputError(f"score '{name}' is {what}; give a Score of dftune.trainables.kind, which holds it")
        if isinstance(self.searcher, type) or not callable(self.searcher):
            self._refuse_no_searcher(self.searcher)

    @property
    def name(self) -> str | None:
        """By which the study's method is known where a searcher is brought along: that of its class or function."""
        if self.searcher is None:
            return None
        return getattr(self.searcher, "__name__", type(self.searcher).__name__)

    def build(self, task: SearchTask, options: Any) -> Searcher:
        """A searcher that has not been asked yet.  Raises InputError: what the script's function made is none."""
        if hasattr(self.searcher, "ask") and not isinstance(self.searcher, type):
            return copy.deepcopy(self.searcher)  # type: ignore[return-value]
        made = self.searcher(task)  # type: ignore[misc]
        self._refuse_no_searcher(made)
        return made

    def _refuse_no_searcher(self, searcher: Any) -> None:
        """Raises InputError: it cannot do what a searcher can."""
        missing = [name for name in SEARCHER if not callable(getattr(searcher, name, None))]
        if (searcher is None and self.searcher is None) or not missing:
            return
        raise InputError(
            f"'{self.name}' of the script gives no searcher: it has no {', '.join(missing)}; "
            "docs/extending.md shows one, and dftune.testing.check_searcher checks one"
        )


NOTHING = Own()


def refuse_taken_names(kind: Kind, own: Own) -> None:
    """Raises InputError: a script's score or searcher has the name of another one."""
    for name in own.scores:
        if name in kind.scores or name in PLUGGED_IN or name in SEARCHERS:
            raise InputError(f"score '{name}' of the script has the name of another one, or of a method; rename it")
    if own.name is not None and has_method(kind, own.name, Own(own.scores)):
        raise InputError(f"'{own.name}' of the script has the name of another method; rename it")


def scores_of(kind: Kind, own: Own = NOTHING) -> tuple[dict[str, Score], dict[str, str]]:
    """All scores of a kind, those of plug-ins and of the script included; the default one first.

    Returns:
        The scores by name, and of each plug-in that cannot be used the reason.
    """
    found, broken = {**kind.scores, **own.scores}, dict[str, str]()
    for name in PLUGGED_IN:
        try:
            score = PLUGGED_IN[name]
        except InputError as error:
            broken[name] = str(error)
            continue
        if score.kind == kind.name and name in found:
            broken[name] = f"score '{name}' of a package has the name of one of {kind.name}, which is used instead"
        elif score.kind == kind.name:
            found[name] = score
    return found, broken


def methods_of(kind: Kind, own: Own = NOTHING) -> tuple[dict[str, Method], dict[str, str]]:
    """All methods of a kind, and of each plug-in that cannot be used the reason."""
    scores, broken = scores_of(kind, own)
    mine = [own.name] if own.name is not None else []
    found: dict[str, Method] = {}
    for name in [*mine, *SEARCHERS, *scored_methods(name for name, score in scores.items() if not score.trivial)]:
        try:
            found[name] = method_of(kind, name, own)
        except InputError as error:
            broken[name] = str(error)
    return found, broken


def method_names(kind: Kind, own: Own = NOTHING) -> list[str]:
    """The names of all methods of a kind, and of those that plug-in scores of any kind make."""
    mine = [own.name] if own.name is not None else []
    return list(dict.fromkeys([*mine, *SEARCHERS, *_scored(kind, own), *scored_methods(PLUGGED_IN)]))


def default_method(kind: Kind) -> str:
    """That of the kind's first score, which must not be a trivial one; random search without a score."""
    return next((name for name, score in kind.scores.items() if not score.trivial), "random")


def has_method(kind: Kind, name: str, own: Own = NOTHING) -> bool:
    """Whether there is a method of a name; plug-ins are looked at only where nothing else has it."""
    return name == own.name or name in _scored(kind, own) or name in SEARCHERS or name in scored_methods(PLUGGED_IN)


def method_of(kind: Kind, name: str, own: Own = NOTHING) -> Method:
    """The method of a name; plug-ins are looked at only where nothing else has it.

    Raises:
        InputError: there is none, or its plug-in cannot be used.
    """
    if name == own.name:
        return Method(own.build, NoOptions, None, "the searcher of the script")
    if (found := _scored(kind, own).get(name)) is not None:
        return found
    if name in SEARCHERS:
        return SEARCHERS[name]
    if (found := scored_methods(PLUGGED_IN).get(name)) is not None and found.score is not None:
        score_of(kind, found.score)  # it can be used, for this kind
        return found
    raise InputError(f"unknown method '{name}'; {did_you_mean(name, method_names(kind, own))}")


def score_of(kind: Kind, name: str, own: Own = NOTHING) -> Score:
    """The score of a name.  Raises InputError: there is none for this kind, or its plug-in cannot be used."""
    if name in own.scores or name in kind.scores:
        return own.scores.get(name) or kind.scores[name]
    if name not in PLUGGED_IN:
        raise InputError(f"unknown score '{name}'; {did_you_mean(name, [*kind.scores, *own.scores, *PLUGGED_IN])}")
    score = PLUGGED_IN[name]
    if score.kind != kind.name:
        raise InputError(f"score '{name}' is for surrogates of kind '{score.kind}', not '{kind.name}'")
    return score


def _scored(kind: Kind, own: Own) -> dict[str, Method]:
    """The methods that the kind's own scores and those of the script make possible."""
    return scored_methods(name for name, score in {**kind.scores, **own.scores}.items() if not score.trivial)
