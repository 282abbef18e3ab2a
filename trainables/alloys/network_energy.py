"""Energies of configurations by the networks of a surrogate, for Monte Carlo.  eV per cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .data import AlloyData
from .lattice import Float64, Lattice
from .monte_carlo_batched import Energy
from .shell_model import Species

if TYPE_CHECKING:
    from .network import Network
    from .surrogate import AlloySurrogate
    from .training import Scaling

FEWEST = 2  # networks, for an interval


@dataclass(frozen=True, eq=False)
class NetworkEnergy:
    """The formation energy by a network of its own, of configurations of one cell: species (n, n_sites) -> (n,)."""

    network: "Network"
    scaling: "Scaling"

    def __call__(self, species: Species) -> Float64:
        from .training import predict

        found = predict(self.network, self.scaling, 2 * species.astype(np.float32) - 1)
        return np.asarray(found["E"][0, :, 0] * species.shape[1])


@dataclass(frozen=True, eq=False)
class MeanEnergy:
    """The mean of several: species (n, n_sites) -> (n,)."""

    energies: Sequence[Energy]

    def __call__(self, species: Species) -> Float64:
        return np.asarray(np.mean([energy(species) for energy in self.energies], axis=0))


@dataclass(frozen=True, eq=False)
class Networks:
    """All networks of a surrogate."""

    surrogate: "AlloySurrogate"

    def __len__(self) -> int:
        return self.surrogate.network.n_networks

    def on(self, lattice: Lattice) -> list[NetworkEnergy]:
        """The energy by each, on a cell.  Raises ModelError: they do not predict it."""
        from .network import Network

        together = self.surrogate.on(lattice)
        found = []
        for t in range(len(self)):
            alone = Network(together.config, lattice, seeds=[0])
            alone.load({name: values[t : t + 1] for name, values in together.arrays().items()})
            scaling = {task: values[t : t + 1] for task, values in self.surrogate.scaling.items()}
            found.append(NetworkEnergy(alone, scaling))
        return found


def networks_of(surrogate: "AlloySurrogate", data: AlloyData) -> Networks:
    """Those that give the energies of the data's alloy.

    Raises:
        InputError: they are of another alloy, do not predict energies, are too few, or all the same.
    """
    card, symbols = surrogate.card, data.info.symbols
    if tuple(card.symbols) != tuple(symbols):
        raise InputError(f"the model is of {'-'.join(card.symbols)}, and the data are of {'-'.join(symbols)}")
    if "E" not in surrogate.network.config.learnt:
        raise InputError("the model does not predict energies; take one with E among its tasks")
    if surrogate.network.n_networks < FEWEST:
        raise InputError("the model has one network; an interval needs several, so train it with initializations = 5")
    if surrogate.network.config.training == "none":
        raise InputError(
            "the networks of a model without training are all the same, and an interval lies between networks; leave "
            "--model out, and the interval is of models that the data leave possible"
        )
    surrogate.on(data.info.lattice)
    return Networks(surrogate)
