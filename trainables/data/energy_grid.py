"""The energies at which an LDOS is sampled, and how it was broadened.  Energies in eV."""

from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..physics.quadrature import LeastSquares, Linear, Quadrature, Rule
from ..physics.rule_error import RuleError, rule_error
from ..physics.smearing import Array, Kernel
from ..physics.units import K_B

# Where least squares err by more than this an electron, the grid does not resolve what they undo: their errors grow
# without a bound [eV].  With spacings up to 1.5 widths, and widths up to 3 eV, they err by 0.01 to 0.018.
RESOLVED = 0.025


class EnergyGrid(BaseModel):
    """Uniform grid of absolute DFT energies ε_j = minimum + j spacing, and the kernel of the LDOS on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum: float = Field(ge=-1e6, le=1e6, description="lowest energy ε_0 [eV]")
    spacing: float = Field(ge=1e-6, le=1e3, description="distance of neighbouring energies [eV]")
    n_energy: int = Field(ge=2, le=100_000, description="number of energies")
    kernel: Kernel = Field(description="shape of the broadening")
    width: float = Field(ge=1e-6, le=1e3, description="width of the broadening [eV]")
    rule: Rule = Field(default="least-squares", description="of integration; older datasets and models do not say it")

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

    def quadrature(self, rule: Rule | None = None) -> Quadrature:
        """A rule of integration on this grid, by default its own; the costly part is computed once per grid."""
        return _quadrature(self._with(rule))

    def rule_error(self, rule: Rule | None = None) -> RuleError:
        """How far a rule, by default its own, is off on this grid, as ``physics.rule_error`` estimates it."""
        return _rule_error(self._with(rule))

    @property
    def better_rule(self) -> Rule:
        """Least squares where the grid resolves it and it is the better one, the linear rule where not."""
        least, linear = self.rule_error("least-squares"), self.rule_error("linear")
        return "least-squares" if least.band_energy < min(linear.band_energy, RESOLVED) else "linear"

    def samples_as(self, other: "EnergyGrid") -> bool:
        """Whether LDOS on it and on another are the same numbers; the rules may differ."""
        return self == other._with(self.rule)

    def _with(self, rule: Rule | None) -> "EnergyGrid":
        return self if rule in (None, self.rule) else self.model_copy(update={"rule": rule})


@lru_cache(maxsize=8)
def _quadrature(grid: EnergyGrid) -> Quadrature:
    if grid.rule == "linear":
        return Linear(grid.energy)
    return LeastSquares(grid.energy, grid.kernel, grid.width)


@lru_cache(maxsize=32)
def _rule_error(grid: EnergyGrid) -> RuleError:
    return rule_error(grid.quadrature(), kernel=grid.kernel, width=grid.width)
