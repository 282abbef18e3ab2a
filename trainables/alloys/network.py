"""Networks of alloys: T of one architecture with weights of their own, evaluated at once by batched products.

Axes: (network, configuration, site) in, σ = -1 for the first element and +1 for the second; (network, configuration, n)
out for each task, n = 1 for the energy and one a site for charges and moments, all standardised.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..ldos.network import ACTIVATIONS
from .config import AlloyConfig, Task
from .lattice import Lattice

Chain = tuple[int, ...]  # neurons from the input to the last layer


def chains(config: AlloyConfig, n_sites: int) -> dict[str, Chain]:
    """The chains of layers of a network: ``trunk`` and one a task.

    Source: Lupo Pasini et al. (2020), section 3.2.  A multi-task network has ``depth`` hidden layers; all but the last
    are shared, and the last one is one of width/T neurons for each of T tasks.
    """
    tasks, width, depth = config.learnt, config.width, config.depth
    n_in = n_sites
    trunk: Chain = (n_in,)
    if config.architecture == "multi":
        trunk = (n_in, *[width] * (depth - 1))
        hidden: Chain = (width // len(tasks),)
    elif config.architecture == "single":
        hidden = (width,) * depth
    else:
        n_features = 2 + 2 * config.shells  # m, σ_i, the means over shells, their products
        trunk, hidden = (n_features, *[width] * depth), ()
    out = {task: 1 if task == "E" or config.architecture == "equivariant" else n_sites for task in tasks}
    heads = {task: (trunk[-1], *hidden, out[task]) for task in tasks}
    found: dict[str, Chain] = {"trunk": trunk}
    found.update({str(task): chain for task, chain in heads.items()})
    return found


def n_parameters(config: AlloyConfig, n_sites: int) -> int:
    """Number of weights and biases of one network."""
    found = 0
    if config.architecture == "equivariant":
        found = sum(n_linear(task, config.shells) for task in config.learnt)
    for name, chain in chains(config, n_sites).items():
        for layer, (a, b) in enumerate(pairwise(chain)):
            more = config.shells * a if _sees_neighbours(config, name, layer) else 0
            found += (a + more + 1) * b
    return found


def _sees_neighbours(config: AlloyConfig, chain: str, layer: int) -> bool:
    """Whether a layer gets its neighbours' values, too: those of an equivariant trunk, but the first, whose input has
    the shells already."""
    return config.architecture == "equivariant" and chain == "trunk" and layer > 0


class Network(nn.Module):
    """T networks of one architecture.

    Args:
        config: the architecture.
        lattice: of the configurations.
        seeds: one a network; equal seeds give equal weights, whatever the others are.
        dtype: of the weights.
        begins_linear: an equivariant network begins as its linear part alone, with zeros in the layers after the trunk.

    Initial weights are uniform in ±1/√fan_in, as torch's own linear layer.
    """

    def __init__(
        self,
        config: AlloyConfig,
        lattice: Lattice,
        seeds: Sequence[int],
        dtype: torch.dtype = torch.float32,
        *,
        begins_linear: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.activation = config, ACTIVATIONS[config.activation]
        self._chains = chains(config, lattice.n_sites)
        self.weights = nn.ParameterDict()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for name, chain in self._chains.items():
            for layer, (fan_in, fan_out) in enumerate(pairwise(chain)):
                if _sees_neighbours(config, name, layer):
                    fan_in *= 1 + config.shells
                drawn = [torch.rand(fan_in + 1, fan_out, generator=g, dtype=torch.float64) for g in generators]
                both = ((2 * torch.stack(drawn) - 1) / fan_in**0.5).to(dtype)
                if begins_linear and config.architecture == "equivariant" and name != "trunk":
                    both.zero_()
                self.weights[f"{name}_{layer}"] = nn.Parameter(both)
        if config.architecture == "equivariant":
            for task in config.learnt:  # not learnt by steps: see ``fit_linear``
                shape = (len(seeds), n_linear(task, config.shells), 1)
                self.weights[f"linear_{task}"] = nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)
        self.neighbours: Tensor = torch.empty(0)
        if config.architecture == "equivariant":
            self.to_lattice(lattice)

    def to_lattice(self, lattice: Lattice) -> None:
        """Let an equivariant network see configurations of another cell.  Raises StructureError: it has no shells."""
        averages = shell_averages(lattice, self.config.shells)
        first = next(iter(self.weights.values()))
        self.neighbours = torch.from_numpy(averages).to(first.device, first.dtype)

    @property
    def n_networks(self) -> int:
        """T."""
        return int(next(iter(self.weights.values())).shape[0])

    def arrays(self) -> dict[str, NDArray[np.floating]]:
        """All weights by name, (T, fan_in + 1, fan_out) with the bias last."""
        return {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}

    def load(self, arrays: Mapping[str, NDArray[np.floating]]) -> None:
        """Take weights of ``arrays``.  Raises ValueError: other names or shapes."""
        if set(arrays) != set(self.weights):
            raise ValueError(f"weights {sorted(arrays)}, and the network has {sorted(self.weights)}")
        with torch.no_grad():
            for name, mine in self.weights.items():
                if tuple(mine.shape) != arrays[name].shape:
                    raise ValueError(f"'{name}' is {arrays[name].shape}, and the network's {tuple(mine.shape)}")
                mine.copy_(torch.from_numpy(np.array(arrays[name])))

    def forward(self, sigma: Tensor) -> dict[Task, Tensor]:
        """Standardised targets of each task, (T, n, n_out), of configurations (T, n, n_sites)."""
        if self.config.architecture == "equivariant":
            return self._equivariant(sigma)
        found: dict[Task, Tensor] = {}
        trunk = self._layers("trunk", sigma, all_hidden=True)[-1]
        for task in self.config.learnt:
            found[task] = self._layers(task, trunk)[-1]
        return found

    def hidden_layers(self, sigma: Tensor) -> list[Tensor]:
        """Activations of all hidden layers of all tasks, (T, n, width) each; (T, n n_sites, width) if equivariant."""
        if self.config.architecture == "equivariant":
            return self._trunk_of_sites(sigma)[1:]
        trunk = self._layers("trunk", sigma, all_hidden=True)
        heads = [layer for task in self.config.learnt for layer in self._layers(task, trunk[-1])[1:-1]]
        return [*trunk[1:], *heads]

    def _layers(self, name: str, x: Tensor, *, all_hidden: bool = False) -> list[Tensor]:
        """Input, hidden layers and last layer of a chain; the last one is linear unless ``all_hidden``."""
        layers, n = [x], len(self._chains[name]) - 1
        for layer in range(n):
            x = self._linear(f"{name}_{layer}", x)
            if all_hidden or layer < n - 1:
                x = self.activation(x)
            layers.append(x)
        return layers

    def _linear(self, name: str, x: Tensor) -> Tensor:
        both = self.weights[name]
        return torch.baddbmm(both[:, -1:], x, both[:, :-1])

    def _trunk_of_sites(self, sigma: Tensor) -> list[Tensor]:
        """Features and hidden layers of all sites, (T, n n_sites, width)."""
        n, n_sites = sigma.shape[1:]
        means = self._means(sigma[..., None])
        m = sigma.mean(dim=2, keepdim=True).expand_as(sigma)
        x = torch.cat([m[..., None], sigma[..., None], means, sigma[..., None] * means], dim=-1).flatten(1, 2)
        layers = [x]
        for layer in range(len(self._chains["trunk"]) - 1):
            if layer > 0:
                by_site = x.unflatten(1, (n, n_sites))
                x = torch.cat([by_site, self._means(by_site)], dim=-1).flatten(1, 2)
            x = self.activation(self._linear(f"trunk_{layer}", x))
            layers.append(x)
        return layers

    def _means(self, by_site: Tensor) -> Tensor:
        """Means over each shell around each site, (T, n, n_sites, k) -> (T, n, n_sites, n_shells k)."""
        return torch.cat([torch.matmul(shell, by_site) for shell in self.neighbours], dim=-1)

    def _equivariant(self, sigma: Tensor) -> dict[Task, Tensor]:
        last, means = self._trunk_of_sites(sigma)[-1], self._means(sigma[..., None])
        found: dict[Task, Tensor] = {}
        for task in self.config.learnt:
            values = self._linear(f"{task}_0", last).unflatten(1, sigma.shape[1:])[..., 0]
            linear = torch.einsum(
                "t...k,tkj->t...", linear_features(task, sigma, means), self.weights[f"linear_{task}"]
            )
            found[task] = values.mean(dim=2, keepdim=True) + linear[..., None] if task == "E" else values + linear
        return found


def shell_averages(lattice: Lattice, n_shells: int) -> NDArray[np.float64]:
    """Matrices that average over each shell around each site, (n_shells, n_sites, n_sites)."""
    _, shells = lattice.shells(n_shells)
    n = lattice.n_sites
    return np.array([[np.bincount(row, minlength=n) / len(row) for row in shell] for shell in shells])


def n_linear(task: Task, n_shells: int) -> int:
    """Number of ``linear_features``."""
    pairs = n_shells * (n_shells + 1) // 2
    return 6 + 4 * n_shells if task == "E" else 2 * (3 * (1 + n_shells) + pairs)


def linear_features(task: Task, sigma: Tensor, means: Tensor) -> Tensor:
    """What the linear part of an equivariant network is linear in.

    With m the mean of σ over the cell, and s_k over shell k around a site.  Energy: m to the powers 0 to 5, and the
    pair correlations c_k = mean of σ s_k times m to the powers 0 to 3, (T, n, n_linear).  Charges and moments: s_k s_l,
    and 1 and s_k times m to the powers 0 to 2, all of it also times σ, (T, n, n_sites, n_linear).

    Args:
        task: which.
        sigma: (T, n, n_sites).
        means: (T, n, n_sites, n_shells).

    Source: Sanchez, Phys. Rev. B 81, 224202 (2010), couplings that depend on the composition; the rest is ours.
    """
    own = sigma[..., None]
    m = sigma.mean(dim=2)[..., None]
    if task == "E":
        correlations = (own * means).mean(dim=2)
        return torch.cat([*(m**k for k in range(6)), *(correlations * m**k for k in range(4))], dim=-1)
    k, j = torch.triu_indices(means.shape[-1], means.shape[-1])
    first, m = torch.cat([torch.ones_like(own), means], dim=-1), m[..., None]
    even = torch.cat([first, m * first, m * m * first, means[..., k] * means[..., j]], dim=-1)
    return torch.cat([even, own * even], dim=-1)
