"""Random-feature readout after 30 steps of an optimizer: what the hidden layers describe once they begin to learn."""

from collections.abc import Sequence

import numpy as np
import torch

from ...optimizers import ADAM
from ..config import SurrogateConfig
from ..network import Network
from ..training_data import MiniBatch
from .rfr import N_INITIALIZATIONS, n_fitted, readout_score

N_STEPS = 30
LEARNING_RATE = 3e-3  # the same for every config: scores see the architecture alone


def rfr30(
    configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int, *, n_initializations: int = N_INITIALIZATIONS
) -> list[float]:
    """Score -log E of each config as ``rfr``, of networks that Adam has trained for 30 steps.

    Each step sees all points that the readout is then fitted to.  The features are those of ``rfr``.

    Args:
        configs, batch, seed, n_initializations: as ``rfr``.

    Returns:
        One score a config, NaN where the activations are not finite.

    Source: ours.
    """
    x, y = torch.from_numpy(batch.descriptors), torch.from_numpy(batch.ldos)
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(n_initializations)]
    scores = []
    for config in configs:
        network = Network(config, x.shape[1], y.shape[1], seeds)
        optimizer = ADAM(network.parameters(), lr=LEARNING_RATE, fused=True)
        n_fit = n_fitted(len(x))
        for _ in range(N_STEPS):
            optimizer.zero_grad(set_to_none=True)
            (network(x[:n_fit]) - y[:n_fit]).square().mean(dim=(1, 2)).sum().backward()
            optimizer.step()
        scores.append(readout_score(network, x, y))
    return scores
