"""Random search (Bergstra & Bengio, JMLR 13, 281 (2012)): the baseline every other searcher must beat."""

from collections.abc import Sequence

import numpy as np

from .searcher import PastTrial
from .space import Config, Space, checked, draw


class RandomSearch:
    """Draw each hyperparameter uniformly over its range (over its logarithm if so marked).

    Args:
        space: hyperparameter name -> range.
        seed: equal seeds propose equal configs in equal order.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = checked(space)
        self._seed = seed
        self._asked = 0

    def ask(self, trial: str) -> Config | None:
        # A generator per proposal: the n-th config is the same however the session before it ended.
        config = draw(self.space, np.random.default_rng([self._seed, self._asked]))
        self._asked += 1
        return config

    def tell(self, trial: str, value: float | None) -> None:
        """Learn nothing: draws do not depend on earlier values."""

    def replay(self, history: Sequence[PastTrial]) -> None:
        self._asked = len(history)
