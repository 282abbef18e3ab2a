"""The last hidden layer of a network, and what it is at each grid point: features φ of which the LDOS is linear."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import SurrogateConfig
from ..network import Network
from ..training_data import Scaling, SnapshotData

# What counts as much in the reference of the energies, at a grid point, as the mean variation of the LDOS [eV].
REFERENCE_SCALE = 1.0
CHUNK = 2048  # grid points at once: 512 features of them are 8 MB in float64


def random_network(config: SurrogateConfig, n_in: int, n_out: int, seeds: list[int]) -> Network:
    """Networks as they are drawn, one a seed, their hidden weights and biases times ``config.weight_scale``.

    With ``config.connected`` c < 1 each weight is 0 with the probability 1 - c, and the others are larger by c^(-1/2).
    """
    network, c = Network(config, n_in, n_out, seeds), config.connected
    with torch.no_grad():
        for part in (network.weights, network.biases):
            for hidden in part[:-1]:
                hidden *= config.weight_scale
        for layer, hidden in enumerate(network.weights[:-1] if c < 1 else ()):
            seen = [np.random.default_rng((layer, seed)).random(hidden.shape[1:]) < c for seed in seeds]
            hidden *= torch.from_numpy(np.stack(seen) * c**-0.5).to(hidden)
    return network


def features(network: Network, x: Tensor) -> Tensor:
    """φ: the last hidden layer and a 1, (T, n_points, width + 1), of standardised descriptors (n_points, n_in)."""
    last = network.hidden_layers(x)[-1]
    return torch.cat([last, last.new_ones(*last.shape[:-1], 1)], dim=-1)


def chunks(
    network: Network, scaling: Scaling, data: SnapshotData
) -> Iterator[tuple[range, Tensor, NDArray[np.floating]]]:
    """Chunk by chunk in grid order: which points, φ (T, n_points, width + 1), and the LDOS (n_points, n_energy).

    φ is on the network's device, the LDOS as the shards hold it [1/(eV Å³)].
    """
    done = 0
    with torch.no_grad():
        for descriptors, ldos in zip(data.descriptors, data.learnt, strict=True):
            for start in range(0, len(ldos), CHUNK):
                rows = slice(start, start + CHUNK)
                values = ldos[rows]
                x = torch.from_numpy(scaling.descriptors(descriptors[rows])).to(network.weights[0].device)
                yield range(done, done + len(values)), features(network, x), values
                done += len(values)


def n_columns(network: Network, data: SnapshotData) -> int:
    """Energies of the LDOS, and one more where these are relative to an energy, which is then learnt, too."""
    return network.sizes[-1] + (data.reference is not None)


def readout_of(network: Network) -> NDArray[np.float64]:
    """The last layers as ``set_readout`` takes them."""
    parts = [torch.cat([network.weights[-1], network.biases[-1]], dim=1).detach()]
    if network.reference is not None:
        parts.append(network.reference[..., None] / REFERENCE_SCALE)
    return torch.cat(parts, dim=-1).double().cpu().numpy()


def set_readout(network: Network, weights: NDArray[np.float64]) -> None:
    """Give networks another last layer, (T, width + 1, n_energy), the bias last.

    A column more is ``Network.reference``, in units of ``REFERENCE_SCALE``.
    """
    n_energy = network.sizes[-1]
    with torch.no_grad():
        for mine, values in ((network.weights[-1], weights[:, :-1]), (network.biases[-1], weights[:, -1:])):
            mine.copy_(torch.from_numpy(values[..., :n_energy]))
        if weights.shape[-1] > n_energy:
            network.reference = (REFERENCE_SCALE * torch.from_numpy(weights[..., n_energy])).to(network.weights[-1])
