"""Training-free scores of alloy networks, by name; the default one first.

They are those of the LDOS networks (Fiedler et al. 2022, eq. 5 and 6; random-feature readout) on these networks: an
untrained network is judged by what it makes of a mini-batch of symmetry images.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..kind import Score
from .config import AlloyConfig

if TYPE_CHECKING:
    from .training_data import MiniBatch

N_INITIALIZATIONS = 3  # T
FIT_SHARE = 0.5  # of the configurations of a mini-batch; all images of one are fitted, or all are judged


def naswot(configs: Sequence[AlloyConfig], batch: "MiniBatch", seed: int) -> list[float]:
    """S' of each config, from the gradients of the sum of all outputs by σ; NaN where they are not finite.

    Source: Fiedler et al. (2022), eq. 5 and 6, where larger is better.
    """
    import torch

    from ..ldos.scores.naswot import spectrum_score
    from .network import Network

    seeds = _seeds(seed)
    x = torch.from_numpy(batch.sigma).double().expand(len(seeds), *batch.sigma.shape)
    scores = []
    for config in configs:
        network = Network(config, batch.lattice, seeds, torch.float64, begins_linear=False)
        sigma = x.clone().requires_grad_()
        total = torch.stack([values.sum() for values in network(sigma).values()]).sum()
        (gradient,) = torch.autograd.grad(total, sigma)
        s = spectrum_score(gradient - gradient.mean(dim=2, keepdim=True))
        scores.append(float(s.mean() + s.std(unbiased=False)) if s.isfinite().all() else float("nan"))
    return scores


def rfr(configs: Sequence[AlloyConfig], batch: "MiniBatch", seed: int) -> list[float]:
    """-log E of each config, E the error of a ridge regression on the activations of the untrained hidden layers.

    E is the mean over the tasks of the mean squared error of standardised targets, on configurations no image of which
    was fitted.  NaN where the activations are not finite.
    """
    import torch

    from ..ldos.scores.rfr import ridge
    from .network import Network

    seeds = _seeds(seed)
    known = np.unique(batch.rows)
    fitted = np.isin(batch.rows, np.random.default_rng(seed).permutation(known)[: round(FIT_SHARE * len(known))])
    x = torch.from_numpy(batch.sigma).expand(len(seeds), *batch.sigma.shape)
    scores = []
    for config in configs:
        with torch.no_grad():
            network = Network(config, batch.lattice, seeds, begins_linear=False)
            features = torch.cat(network.hidden_layers(x), dim=2).double()
        if not features.isfinite().all():
            scores.append(float("nan"))
            continue
        errors = []
        by_site = features.unflatten(1, (len(batch.rows), -1)) if config.architecture == "equivariant" else None
        for task in config.learnt:
            y = torch.from_numpy(batch.values[task]).double()
            phi = features
            if by_site is not None:  # the energy is a mean over sites; of the other tasks one site is enough
                phi = by_site.mean(dim=2) if task == "E" else by_site[:, :, 0]
                y = y[:, :1]
            predicted = ridge(phi[:, fitted], y[fitted], phi[:, ~fitted])
            errors.append(float((predicted - y[~fitted]).square().mean()))
        scores.append(-float(np.log(np.mean(errors))))
    return scores


def n_parameters(configs: Sequence[AlloyConfig], batch: "MiniBatch", seed: int) -> list[float]:
    """Number of weights and biases of each config."""
    from .network import n_parameters as count

    return [float(count(config, batch.sigma.shape[1])) for config in configs]


def _seeds(seed: int) -> list[int]:
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(N_INITIALIZATIONS)]


SCORES: dict[str, Score] = {
    "rfr": Score(
        rfr, 512, "random-feature readout, -log E", direction="learnt", about="random-feature readout", kind="alloys"
    ),
    "naswot": Score(naswot, 256, "NASWOT, S'", direction="learnt", about="NASWOT", kind="alloys"),
    "n_parameters": Score(n_parameters, 1, "number of parameters", trivial=True, kind="alloys"),
}
