"""The LDOS network: T initialisations of one feed-forward network, evaluated at once by batched products.

Axes: (initialisation, grid point, component) in, (initialisation, grid point, energy) out.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import SurrogateConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "leaky_relu": nn.functional.leaky_relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Network(nn.Module):
    """T networks of one architecture with independent weights.

    Args:
        config: hidden layers and activation.
        n_in, n_out: number of descriptor components and of energies.
        seeds: one per initialisation; equal seeds give equal weights, whatever the others are.
        dtype: of the weights.

    ``reference`` is None, or weights of the last hidden layer and a constant, (T, width + 1) [eV], whose mean over the
    grid points of a structure is the absolute energy that those of its LDOS are relative to (``energy_reference``).

    Source: Fiedler et al. (2022), Eq. 3; initial weights uniform in ±1/√fan_in, as torch's own linear layer.
    """

    def __init__(
        self, config: SurrogateConfig, n_in: int, n_out: int, seeds: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.sizes = (n_in, *config.hidden, n_out)
        self.activation = ACTIVATIONS[config.activation]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for fan_in, fan_out in pairwise(self.sizes):
            drawn = [torch.rand(fan_in + 1, fan_out, generator=g, dtype=torch.float64) for g in generators]
            both = ((2 * torch.stack(drawn) - 1) / fan_in**0.5).to(dtype)
            self.weights.append(nn.Parameter(both[:, :fan_in].contiguous()))
            self.biases.append(nn.Parameter(both[:, fan_in:].contiguous()))
        self.register_buffer("reference", None)

    reference: Tensor | None

    @property
    def n_initializations(self) -> int:
        """T."""
        return self.weights[0].shape[0]

    def only(self, t: int | slice) -> "Network":
        """One initialisation alone, or some of them, a copy."""
        some, alone = slice(t, t + 1) if isinstance(t, int) else t, copy.deepcopy(self)
        for parameters in (alone.weights, alone.biases):
            for i, parameter in enumerate(parameters):
                parameters[i] = nn.Parameter(parameter.detach()[some].clone())
        if alone.reference is not None:
            alone.reference = alone.reference[some].clone()
        return alone

    def arrays(self) -> dict[str, NDArray[np.floating]]:
        """Weights and biases by name, for a file or another process; a copy only where they are on a GPU."""
        return {name: weight.cpu().numpy() for name, weight in self.state_dict().items()}

    def hidden_layers(self, x: Tensor) -> list[Tensor]:
        """Activations of every hidden layer, each (T, n_points, width).

        Args:
            x: standardised descriptors, (T, n_points, n_in), or (n_points, n_in) for the same in each.
        """
        return self.hidden_layers_from(self.first_sum(x))

    def first_sum(self, x: Tensor) -> Tensor:
        """What the first hidden layer's neurons receive, (T, n_points, width); ``x`` as in ``hidden_layers``."""
        weight, bias = self._layers()[0]
        return torch.baddbmm(bias, x.expand(len(weight), *x.shape[-2:]), weight)

    def hidden_layers_from(self, first_sum: Tensor) -> list[Tensor]:
        """As ``hidden_layers``, from what the first one receives."""
        layers = [self.activation(first_sum)]
        for weight, bias in self._layers()[1:-1]:
            layers.append(self.activation(torch.baddbmm(bias, layers[-1], weight)))
        return layers

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of each layer; to cut a list out of torch's took a sixth of a small network's step."""
        both = (parameters._parameters.values() for parameters in (self.weights, self.biases))
        return list(zip(*both, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Scaled LDOS, (T, n_points, n_out); ``x`` as in ``hidden_layers``."""
        weight, bias = self._layers()[-1]
        return torch.baddbmm(bias, self.hidden_layers(x)[-1], weight)


def n_parameters(config: SurrogateConfig, n_in: int, n_out: int) -> int:
    """Number of weights and biases of one network."""
    sizes = (n_in, *config.hidden, n_out)
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
