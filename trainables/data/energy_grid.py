"""The energies at which an LDOS is sampled, and how it was broadened.  Energies in eV."""

from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..physics.quadrature import LeastSquares, Linear, Quadrature, Rule
from ..physics.smearing import Array, Kernel
from ..physics.units import K_B


class EnergyGrid(BaseModel):
    """Uniform grid of absolute DFT energies ε_j = minimum + j spacing, and the kernel of the LDOS on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum: float = Field(description="lowest energy ε_0 [eV]")
    spacing: float = Field(gt=0, description="distance of neighbouring energies [eV]")
    n_energy: int = Field(ge=2, le=100_000, description="number of energies")
    kernel: Kernel = Field(description="shape of the broadening")
    width: float = Field(gt=0, description="width of the broadening [eV]")

    @property
    def energy(self) -> Array:
        """ε_j, shape (n_energy,) [eV]."""
        return self.minimum + self.spacing * np.arange(self.n_energy, dtype=np.float64)

    @property
    def coldest(self) -> float:
        """Electronic temperature, k_B τ = spacing / 100, below which energies are not to be trusted [K].

        The quadrature samples states at a sixteenth of the spacing; where the Fermi edge falls between two of them, the
        count of electrons becomes a staircase.  Down to here the band energy follows Sommerfeld's τ² to 0.2 meV/atom.
        """
        return self.spacing / (100 * K_B)

    def quadrature(self, rule: Rule = "least-squares") -> Quadrature:
        """The integration rule on this grid; the costly part is computed once per grid."""
        return _quadrature(self, rule)


@lru_cache(maxsize=8)
def _quadrature(grid: EnergyGrid, rule: Rule) -> Quadrature:
    if rule == "linear":
        return Linear(grid.energy)
    return LeastSquares(grid.energy, grid.kernel, grid.width)
