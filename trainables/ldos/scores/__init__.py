"""Training-free scores of a config, by name.  Higher is better, by convention everywhere.

A score is a function (configs, mini-batch, seed) -> one number a config, NaN where it cannot be formed.  To add one:
write it in a file of its own and give it a line in SCORES.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import SurrogateConfig
from ..network import n_parameters
from ..training_data import MiniBatch
from .naswot import naswot
from .rfr import rfr

ScoreFunction = Callable[[Sequence[SurrogateConfig], MiniBatch, int], list[float]]


@dataclass(frozen=True)
class Score:
    """A training-free score.

    Args:
        function: see the module.
        n_points: grid points of the mini-batch it wants.
        needs_targets: whether it looks at the LDOS.
        cost: class of its cost: ``free``, ``forward`` or ``backward`` passes.
        direction_known: False where published and original signs disagree, so that it is learnt from trained trials.
    """

    function: ScoreFunction
    n_points: int
    needs_targets: bool
    cost: str
    direction_known: bool = True


def _first_width(configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int) -> list[float]:
    return [float(c.hidden[0]) for c in configs]


def _n_parameters(configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int) -> list[float]:
    return [float(np.log(n_parameters(c, batch.descriptors.shape[1], batch.ldos.shape[1]))) for c in configs]


SCORES: dict[str, Score] = {
    "naswot": Score(naswot, n_points=256, needs_targets=False, cost="backward", direction_known=False),
    "rfr": Score(rfr, n_points=900, needs_targets=True, cost="forward"),
    # The bar: a score that does not beat these is not worth its name.
    "first_width": Score(_first_width, n_points=1, needs_targets=False, cost="free"),
    "n_parameters": Score(_n_parameters, n_points=1, needs_targets=False, cost="free"),
}
TRIVIAL = ("first_width", "n_parameters")
