"""A method by name: how a searcher is built, from what it is to search and from options of its own."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .searcher import Scorer, Searcher, no_scores
from .space import Config, Space


@dataclass(frozen=True)
class SearchTask:
    """What is to be searched, the same for every method.

    Args:
        space: hyperparameter name -> range.
        seed: equal seeds, scores and histories propose equal configs.
        scorer: gives a training-free score to a config; only methods with a score ask it.
        n_objectives: how many numbers are minimised beside each other; more than one only by methods that can.
        direction: which way the score points.  published: the larger is better; learnt: the trials must tell.
        seen: what the score sees of a config.  Two configs with the same have the same score.  None: all of the config.
    """

    space: Space
    seed: int
    scorer: Scorer = no_scores
    n_objectives: int = 1
    direction: Literal["published", "learnt"] = "published"
    seen: Callable[[Config], Hashable] | None = None


# The options are an instance of the method's own model; the searcher is a fresh one.
# It raises ValueError (often SearchError) where the method cannot search this space.
Build = Callable[[SearchTask, Any], Searcher]


class NoOptions(BaseModel):
    """A method without options of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Method:
    """A method by name.

    Args:
        build: (task, options) -> searcher.
        options: model of the options that it takes.
        score: name of the training-free score that its scorer must give, or None.
        about: one line for help texts.
        several: it can minimise several numbers beside each other.
        goes_on: it asks its scorer to the end of the search, while trials run.
    """

    build: Build
    options: type[BaseModel]
    score: str | None
    about: str
    several: bool = False
    goes_on: bool = False
