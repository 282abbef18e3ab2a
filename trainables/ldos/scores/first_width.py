"""The width of the first layer: a score that costs nothing, which any other must beat."""

from collections.abc import Sequence

from ..config import SurrogateConfig
from ..training_data import MiniBatch


def first_width(configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int) -> list[float]:
    """Neurons of the first hidden layer of each config."""
    return [float(config.hidden[0]) for config in configs]
