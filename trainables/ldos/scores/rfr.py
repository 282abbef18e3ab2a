"""Random-feature readout: how well the untrained hidden layers already describe the LDOS."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import SurrogateConfig
from ..network import Network
from ..training_data import MiniBatch

N_INITIALIZATIONS = 3  # T
TRAIN_SHARE = 1 / 3  # of the mini-batch: 300 points to fit, 600 to judge
# With 1e-2 small activations fit as well as large ones, and tanh and sigmoid, which train slowly, stand above all.
# τ with trained error for 1e-2, 1, 10, 100: Al 0.32, 0.44, 0.46, 0.45; Be 0.36, 0.48, 0.53, 0.49; regret least at 1.
PENALTY = 1.0


def rfr(
    configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int, *, n_initializations: int = N_INITIALIZATIONS
) -> list[float]:
    """Score -log E of each config, E the validation error of a ridge regression on random features.

    The features of a grid point are the activations of all hidden layers at initialisation, not rescaled; the
    targets its scaled LDOS; E the mean squared error on held-out points, averaged over T initialisations.

    Args:
        configs: the candidates.
        batch: the first third of its points is fitted, the rest judged.
        seed: of the initialisations, the same for every config.

    Returns:
        One score a config, NaN where the activations are not finite.

    Source: ours; random features after Rahimi and Recht, NIPS 2007.
    """
    x, y = torch.from_numpy(batch.descriptors), torch.from_numpy(batch.ldos)
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(n_initializations)]
    return [readout_score(Network(config, x.shape[1], y.shape[1], seeds), x, y) for config in configs]


def n_fitted(n_points: int) -> int:
    """How many points of a mini-batch are fitted, the first ones."""
    return max(1, round(TRAIN_SHARE * n_points))


def readout_score(network: Network, x: Tensor, y: Tensor) -> float:
    """-log E of networks as they are, of standardised descriptors x and a scaled LDOS y; NaN as in ``rfr``."""
    n_fit, y = n_fitted(len(x)), y.double()
    with torch.no_grad():
        features = torch.cat(network.hidden_layers(x), dim=2).double()
    if not features.isfinite().all():
        return float("nan")
    predicted = ridge(features[:, :n_fit], y[:n_fit], features[:, n_fit:])
    return float(-torch.log((predicted - y[n_fit:]).square().mean()))


def ridge(features: Tensor, targets: Tensor, unseen: Tensor, penalty: float = PENALTY) -> Tensor:
    """Ridge regression with an intercept: predictions at ``unseen`` of the fit to (features, targets).

    min_W Σ |t - t̄ - W (φ - φ̄)|² + penalty |W|², solved in the smaller of the two dual forms.

    Args:
        features: (T, n, p), targets: (n, q), unseen: (T, m, p).

    Returns:
        (T, m, q).
    """
    centre, mean = features.mean(dim=1, keepdim=True), targets.mean(dim=0)
    phi, rest = features - centre, targets - mean
    n, p = phi.shape[1:]
    if p <= n:
        gram = phi.mT @ phi + penalty * torch.eye(p, dtype=phi.dtype)
        weights = torch.linalg.solve(gram, phi.mT @ rest)
    else:
        gram = phi @ phi.mT + penalty * torch.eye(n, dtype=phi.dtype)
        weights = phi.mT @ torch.linalg.solve(gram, rest.expand(len(phi), *rest.shape))
    return (unseen - centre) @ weights + mean
