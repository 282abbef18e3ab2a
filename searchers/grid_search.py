"""Grid search: every combination of the levels, each once, in a shuffled order."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence

from .searcher import PastTrial
from .space import Config, Space, Value

Point = tuple[int, ...]  # the place of each hyperparameter's value among its levels


class GridSearch:
    """Propose the full product of the levels; a study cut short has seen all of the range, not one corner of it.

    Args:
        space: hyperparameter name -> range.
        seed: of the order; equal seeds propose equal configs in equal order.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._levels = levels_of(space)
        self._points = shuffled_points([len(values) for values in self._levels.values()], seed)

    def ask(self, trial: str) -> Config | None:
        point = next(self._points, None)
        return None if point is None else config_at(self._levels, point)

    def tell(self, trial: str, value: float | None) -> None:
        """Learn nothing: the order does not depend on earlier values."""

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            self.ask(past.trial)


def levels_of(space: Space) -> dict[str, list[Value]]:
    """The levels of each hyperparameter."""
    return {name: values.levels for name, values in space.items()}


def config_at(levels: Mapping[str, Sequence[Value]], point: Point) -> Config:
    """The config at a point of the grid of ``levels``."""
    return {name: values[place] for (name, values), place in zip(levels.items(), point, strict=True)}


def shuffled_points(shape: Sequence[int], seed: int) -> Iterator[Point]:
    """All points of a grid of this ``shape``, each once, in an order that the seed fixes.

    The n-th step of a Fisher-Yates shuffle needs of the earlier ones only the places they swapped: so every order is
    equally likely, and a grid of 10⁹ points costs the memory of those that were drawn.

    Source: Durstenfeld, Commun. ACM 7, 420 (1964), Algorithm 235.
    """
    size, rng = math.prod(shape), random.Random(seed)
    swapped: dict[int, int] = {}  # place -> the index that stands there instead of its own
    for n in range(size):
        place = rng.randrange(n, size)
        index = swapped.pop(place, place)
        if place != n:
            swapped[place] = swapped.pop(n, n)
        yield _unravel(index, shape)


def _unravel(index: int, shape: Sequence[int]) -> Point:
    """As ``numpy.unravel_index``, for grids of more points than 64 bits count."""
    point = []
    for length in reversed(shape):
        index, place = divmod(index, length)
        point.append(place)
    return tuple(reversed(point))
