"""Grid search: every combination of the levels, each once, in a shuffled order."""

import random
from collections.abc import Iterator, Mapping, Sequence

from .searcher import PastTrial
from .space import Config, Space, Value, checked, exists, levels_of


class GridSearch:
    """Propose all configs on the levels; a study cut short has seen all of the range, not one corner of it.

    Args:
        space: hyperparameter name -> range.
        seed: of the order; equal seeds propose equal configs in equal order.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._configs = shuffled_configs(space, seed)

    def ask(self, trial: str) -> Config | None:
        return next(self._configs, None)

    def tell(self, trial: str, value: float | None) -> None:
        """Learn nothing: the order does not depend on earlier values."""

    def replay(self, history: Sequence[PastTrial]) -> None:
        for past in history:
            self.ask(past.trial)


def shuffled_configs(space: Space, seed: int) -> Iterator[Config]:
    """All configs on the levels of a space, each once, in an order that the seed fixes."""
    grid = LevelGrid(space)
    return (grid.config(index) for index in shuffled(grid.size, seed))


# A hyperparameter's place in the space, and the values before it that conditions from there on name.
_Branch = tuple[int, tuple[tuple[str, Value], ...]]


class LevelGrid:
    """The configs on the levels of a space, numbered without being built; the last hyperparameter changes fastest.

    What can follow the first i hyperparameters depends on those of them that later conditions name, and on no others:
    so it is found once for each branch, however large the grid is.

    Args:
        space: hyperparameter name -> range.
    """

    def __init__(self, space: Space) -> None:
        self._ranges, self._levels = list(checked(space).items()), levels_of(space)
        # The last place where a condition names a hyperparameter.
        self._last_named = {parent: i for i, (_, values) in enumerate(self._ranges) for parent in values.when or ()}
        self._sizes: dict[_Branch, int] = {}
        self.size = self._size(0, {})

    def config(self, number: int) -> Config:
        """The config of a number from 0 to ``size`` - 1."""
        config: Config = {}
        for i, (name, values) in enumerate(self._ranges):
            if not exists(values, config):
                continue
            if name not in self._last_named:
                place, number = divmod(number, self._size(i + 1, config))
                config[name] = self._levels[name][place]
                continue
            for value in self._levels[name]:
                config[name] = value
                size = self._size(i + 1, config)
                if number < size:
                    break
                number -= size
        return config

    def least(self, effects: Mapping[str, Mapping[Value, float]]) -> Config:
        """The config with the least sum of effects, name -> level -> effect; of equal ones that of the first levels."""
        known: dict[_Branch, tuple[float, Config]] = {}

        def least(i: int, config: Config) -> tuple[float, Config]:
            if i == len(self._ranges):
                return 0.0, {}
            branch = self._branch(i, config)
            if branch not in known:
                name, values = self._ranges[i]
                if exists(values, config):
                    rest = {value: least(i + 1, config | {name: value}) for value in self._levels[name]}
                    best = min(rest, key=lambda value: effects[name][value] + rest[value][0])
                    known[branch] = effects[name][best] + rest[best][0], {name: best} | rest[best][1]
                else:
                    known[branch] = least(i + 1, config)
            return known[branch]

        return least(0, {})[1]

    def _size(self, i: int, config: Config) -> int:
        """Number of ways to go on from the i-th hyperparameter after ``config``."""
        if i == len(self._ranges):
            return 1
        branch = self._branch(i, config)
        if branch not in self._sizes:
            name, values = self._ranges[i]
            if exists(values, config):
                self._sizes[branch] = sum(self._size(i + 1, config | {name: value}) for value in self._levels[name])
            else:
                self._sizes[branch] = self._size(i + 1, config)
        return self._sizes[branch]

    def _branch(self, i: int, config: Config) -> _Branch:
        return i, tuple((name, value) for name, value in config.items() if self._last_named.get(name, -1) >= i)


def shuffled(size: int, seed: int) -> Iterator[int]:
    """The numbers from 0 to ``size`` - 1, each once, in an order that the seed fixes.

    The n-th step of a Fisher-Yates shuffle needs of the earlier ones only the places they swapped: so every order is
    equally likely, and 10⁹ numbers cost the memory of those that were drawn.

    Source: Durstenfeld, Commun. ACM 7, 420 (1964), Algorithm 235.
    """
    rng = random.Random(seed)
    swapped: dict[int, int] = {}  # place -> the number that stands there instead of its own
    for n in range(size):
        place = rng.randrange(n, size)
        number = swapped.pop(place, place)
        if place != n:
            swapped[place] = swapped.pop(n, n)
        yield number
