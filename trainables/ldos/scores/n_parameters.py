"""The number of parameters: a score that costs nothing, which any other must beat."""

from collections.abc import Sequence

from ..config import SurrogateConfig
from ..network import n_parameters as count
from ..training_data import MiniBatch


def n_parameters(configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int) -> list[float]:
    """Number of weights and biases of each config."""
    sizes = batch.descriptors.shape[1], batch.ldos.shape[1]
    return [float(count(config, *sizes)) for config in configs]
