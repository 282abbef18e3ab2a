"""Configs, and what scores see of them, as points in space; and numbers interpolated between such points."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...searchers.space import Choice, Config, Space

TINY = 1e-9
Path = tuple[int, ...]  # of a number or text in nested tuples: its index in the outermost one, and so on inwards


class Interpolation:
    """Numbers at places, interpolated by inverse cubes of the distance: exact where one was measured (mean of several).

    Source: Shepard, Proc. 23rd ACM National Conference, 517 (1968).
    """

    def __init__(self, places: Sequence[NDArray[np.float64]], numbers: Sequence[float]) -> None:
        self._places, self._numbers = np.array(places), np.array(numbers)

    def __call__(self, place: NDArray[np.float64]) -> float:
        distance = np.linalg.norm(self._places - place, axis=1)
        here = distance < 1e-9
        weights = here.astype(float) if here.any() else distance**-3.0
        return float(np.average(self._numbers, weights=weights))


def place_of(space: Space, config: Config) -> NDArray[np.float64]:
    """A config as a point: ranges from 0 to 1, values of a choice 1 apart, what exists 1 apart from what does not."""
    place: list[float] = []
    for name, values in space.items():
        exists = name in config
        place.append(float(exists))
        if isinstance(values, Choice):
            place += [math.sqrt(0.5) * (exists and config[name] == value) for value in values.values]
        else:
            scale = math.log if values.log else float
            low, high = scale(values.low), scale(values.high)
            place.append((scale(cast(float, config[name])) - low) / (high - low) if exists and high > low else 0.0)
    return np.array(place)


class SeenPlaces:
    """What a score sees of a config as a point, such that like things are near each other.

    What is seen are numbers and texts in nested tuples, as ``TrialConfig.seen_by_scores``: ((128, 64), "gelu").  Each
    place in the tuples has coordinates of its own, so that tuples of any length have equally many:

    - A number is its logarithm to base 2, or itself where not all known numbers at its place are positive.  It is
      divided by 2 √k, where k is the number of places for numbers in its tuple.
    - A number that is missing, of a layer that a smaller network lacks, takes the mean of the others in its tuple.  A
      second coordinate, 0 or √½, says whether it is there.
    - A text is 1 in the coordinate of that text, and 0 in the coordinates of other texts.

    Networks with all layers twice as wide are ½ apart, with one more layer of the mean width √½, with another text √2.

    Args:
        known: what has a score.  It says which places, and which texts, there are.
    """

    def __init__(self, known: Sequence[Hashable]) -> None:
        numbers: dict[Path, list[float]] = {}
        texts: dict[tuple[Path, str], None] = {}
        for path, leaf in (pair for seen in known for pair in _leaves(seen)):
            if isinstance(leaf, str):
                texts[path, leaf] = None
            else:
                numbers.setdefault(path, []).append(leaf)
        self._texts = list(texts)
        self._is_log = {path: min(some) > 0 for path, some in numbers.items()}
        self._in_tuple = Counter(path[:-1] for path in numbers)
        self._means = {path: float(np.mean([self._scaled(path, x) for x in some])) for path, some in numbers.items()}

    def __call__(self, seen: Hashable) -> NDArray[np.float64]:
        """The point; what stands where nothing was known has no part in it."""
        leaves = dict(_leaves(seen))
        there: dict[Path, float] = {}
        for path, leaf in leaves.items():
            if path in self._is_log and not isinstance(leaf, str):
                there[path] = self._scaled(path, leaf)
        place: list[float] = []
        for path, mean in self._means.items():
            beside = [number for other, number in there.items() if other[:-1] == path[:-1]]
            place.append(math.sqrt(0.5) * (path in there))
            place.append(there.get(path, float(np.mean(beside)) if beside else mean))
        return np.array(place + [float(leaves.get(path) == text) for path, text in self._texts])

    def _scaled(self, path: Path, number: float) -> float:
        # A number that is not positive, where all known ones are, is far away.
        scaled = math.log2(max(number, TINY)) if self._is_log[path] else number
        return scaled / (2 * math.sqrt(self._in_tuple[path[:-1]]))


def _leaves(seen: Hashable, path: Path = ()) -> Iterator[tuple[Path, float | str]]:
    """Numbers and texts in nested tuples, with where they stand; what is neither is its text."""
    if isinstance(seen, tuple):
        for i, part in enumerate(seen):
            yield from _leaves(part, (*path, i))
    elif isinstance(seen, int | float) and not isinstance(seen, bool):
        yield path, float(seen)
    else:
        yield path, str(seen)
