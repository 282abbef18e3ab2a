"""NASWOT: how differently an untrained network responds to different grid points."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import SurrogateConfig
from ..network import Network
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
        s = spectrum_score(centred_jacobian(network, x))
        scores.append(float(s.mean() + s.std(unbiased=False)) if s.isfinite().all() else float("nan"))
    return scores


def centred_jacobian(network: Network, x: Tensor) -> Tensor:
    """Rows of J_nc = ∂(Σ_o y_no) / ∂x_nc of T networks, each minus its mean over c, up to a common rotation.

    By the chain rule J = D W₁ᵀ with D the gradient at the first layer's sums, and centring its rows centres W₁. Where
    the first layer is narrower than the descriptor, W₁ = Q R and the rows of D Rᵀ have all the scalar products that
    the rows of J have, in fewer dimensions.

    Args:
        network: T initialisations, float64.
        x: standardised descriptors, (n_points, n_components).

    Returns:
        Shape (T, n_points, min(width of the first layer, n_components)).
    """
    first = network.first_sum(x).detach().requires_grad_()
    last = network.hidden_layers_from(first)[-1]
    to_outputs = network.weights[-1].sum(dim=2)[:, None].expand_as(last)
    (gradient,) = torch.autograd.grad(last, first, to_outputs)
    weight = network.weights[0].detach()
    weight = weight - weight.mean(dim=1, keepdim=True)
    if weight.shape[2] < weight.shape[1]:
        weight = torch.linalg.qr(weight, mode="r").R
    return gradient @ weight.mT


def spectrum_score(rows: Tensor, k: float = K) -> Tensor:
    """S = Σ_i [log(σ_i + k) + 1/(σ_i + k)] over the eigenvalues σ of the correlation matrix of the rows of J.

    The N x N correlation matrix Z Zᵀ (Z: rows centred and normalised) and the smaller ZᵀZ share their non-zero
    eigenvalues; the others are zero and contribute log k + 1/k each.  A row without any variation (no active
    neuron) correlates with itself alone: eigenvalue 1.

    Args:
        rows: centred rows of J, (T, N_batch, n), float64.
        k: added to the eigenvalues.

    Returns:
        S of each initialisation, (T,).
    """
    n_batch, n = rows.shape[1:]
    norm = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    constant = norm <= 1e-13 * norm.amax(dim=1, keepdim=True)
    z = torch.where(constant, 0.0, rows / norm)
    n_constant = constant.sum(dim=(1, 2))
    gram = z.mT @ z if n < n_batch else z @ z.mT
    if not gram.isfinite().all():
        return torch.full(rows.shape[:1], float("nan"), dtype=rows.dtype)
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0.0)

    def term(value: Tensor) -> Tensor:
        return torch.log(value + k) + 1.0 / (value + k)

    zero, one = term(torch.zeros((), dtype=rows.dtype)), term(torch.ones((), dtype=rows.dtype))
    return term(sigma).sum(dim=1) + (n_batch - gram.shape[1] - n_constant) * zero + n_constant * one
