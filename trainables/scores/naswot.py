"""NASWOT: how differently an untrained network responds to different grid points."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..network import Network
from ..surrogate_config import SurrogateConfig
from ..training_data import MiniBatch

K = 1e-4  # k of Eq. 5; at 1e-5 rounding of the zero eigenvalues would show
N_INITIALIZATIONS = 5  # T


def naswot(
    configs: Sequence[SurrogateConfig], batch: MiniBatch, seed: int, *, n_initializations: int = N_INITIALIZATIONS
) -> list[float]:
    """Score S' of each config: mean plus standard deviation of S over T initialisations (Eq. 6).

    Args:
        configs: the candidates.
        batch: only its descriptors are used; N_batch is their number, best above the number of components.
        seed: of the initialisations, the same for every config.

    Returns:
        One S' a config, NaN where the gradients are not finite.

    Source: Fiedler et al. (2022), Eq. 5 and 6, where larger is better; Mellor et al., ICML 2021 (arXiv:2006.04647)
    has the opposite sign, so the direction is learnt or chosen by the searcher.
    """
    x = torch.from_numpy(batch.descriptors).double()
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(n_initializations)]
    scores = []
    for config in configs:
        network = Network(config, x.shape[1], batch.ldos.shape[1], seeds, dtype=torch.float64)
        s = spectrum_score(jacobian(network, x))
        scores.append(float(s.mean() + s.std(unbiased=False)) if s.isfinite().all() else float("nan"))
    return scores


def jacobian(network: Network, x: Tensor) -> Tensor:
    """J_nc = ∂(Σ_o y_no) / ∂x_nc of T networks, shape (T, n_points, n_components), for x (n_points, n_components)."""
    inputs = x.expand(network.n_initializations, *x.shape).contiguous().requires_grad_()
    (gradient,) = torch.autograd.grad(network(inputs).sum(), inputs)
    return gradient


def spectrum_score(j: Tensor, k: float = K) -> Tensor:
    """S = Σ_i [log(σ_i + k) + 1/(σ_i + k)] over the eigenvalues σ of the correlation matrix of the rows of J.

    The N x N correlation matrix Z Zᵀ (rows of J centred and normalised) and the smaller ZᵀZ share their non-zero
    eigenvalues; the others are zero and contribute log k + 1/k each.  A row without any variation (no active
    neuron) correlates with itself alone: eigenvalue 1.

    Args:
        j: Jacobians, (T, N_batch, n_components), float64.
        k: added to the eigenvalues.

    Returns:
        S of each initialisation, (T,).
    """
    n_batch, n_components = j.shape[1:]
    centred = j - j.mean(dim=2, keepdim=True)
    norm = centred.norm(dim=2, keepdim=True)
    constant = norm <= 1e-12 * j.norm(dim=2, keepdim=True)
    z = torch.where(constant, 0.0, centred / norm)
    n_constant = constant.sum(dim=(1, 2))
    gram = z.mT @ z if n_components < n_batch else z @ z.mT
    if not gram.isfinite().all():
        return torch.full(j.shape[:1], float("nan"), dtype=j.dtype)
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0.0)

    def term(value: Tensor) -> Tensor:
        return torch.log(value + k) + 1.0 / (value + k)

    zero, one = term(torch.zeros((), dtype=j.dtype)), term(torch.ones((), dtype=j.dtype))
    return term(sigma).sum(dim=1) + (n_batch - gram.shape[1] - n_constant) * zero + n_constant * one
