"""The part of a DFT calculation that the total free energy needs besides the LDOS.  Energies in eV, lengths in Å."""

from collections.abc import Mapping
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

from ..errors import InputError
from ..physics.exchange_correlation import Functional
from .pseudopotential import Pseudopotential
from .species import Symbol

MOST_POINTS = 100_000  # of a radial mesh; those of pslibrary have about 1,000


class CoreCharge(BaseModel):
    """Spherical charge n_core(r) of the nonlinear core correction of one species; zero beyond the last radius."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    radius: tuple[NonNegativeFloat, ...] = Field(min_length=3, max_length=MOST_POINTS, description="r, increasing [Å]")
    density: tuple[float, ...] = Field(min_length=3, max_length=MOST_POINTS, description="n_core(r) [1/Å³]")

    @model_validator(mode="after")
    def _is_a_function_of_the_radius(self) -> "CoreCharge":
        if len(self.radius) != len(self.density):
            raise ValueError(f"{len(self.radius)} radii, but {len(self.density)} densities")
        if not all(a < b for a, b in pairwise(self.radius)):
            raise ValueError("the radii do not increase")
        return self


class KohnSham(BaseModel):
    """The part of the DFT that the total free energy needs besides the LDOS."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    functional: Functional = Field(description="of exchange and correlation")
    density_cutoff: PositiveFloat = Field(description="kinetic-energy cutoff of the density, QE's ecutrho [eV]")
    core_charges: dict[Symbol, CoreCharge] = Field(
        default={}, description="chemical symbol -> core charge, of species with a nonlinear core correction"
    )

    @classmethod
    def from_pseudopotentials(
        cls,
        pseudopotentials: Mapping[str, Pseudopotential],
        *,
        species: Mapping[str, float],
        density_cutoff: float,
        functional: Functional | None = None,
    ) -> "KohnSham":
        """Read it off the pseudopotentials of a DFT calculation.

        Args:
            pseudopotentials: chemical symbol -> pseudopotential, for each of ``species``.
            species: chemical symbol -> valence electrons that the DFT had.
            density_cutoff: kinetic-energy cutoff of the density [eV].
            functional: of the DFT; by default that of its pseudopotentials.

        Raises:
            InputError: one is of another element, valence or functional, or there is none for a species.
        """
        if missing := sorted(set(species) - set(pseudopotentials)):
            raise InputError(f"no pseudopotential for {', '.join(missing)}; each species needs one")
        used = {symbol: pseudopotentials[symbol] for symbol in sorted(species)}
        first = next(iter(used.values()))
        for symbol, one in used.items():
            if one.element != symbol:
                raise InputError(
                    f"{one.file}: of {one.element}, but named for {symbol}; give the one that the DFT used"
                )
            if abs(one.valence - species[symbol]) > 1e-6:
                raise InputError(
                    f"{one.file}: has {one.valence:g} valence electrons, but {symbol} had {species[symbol]:g} in the "
                    "DFT; give the one that it used"
                )
            if functional is None and one.functional != first.functional:
                raise InputError(
                    f"{one.file}: made for {one.functional}, but {first.file} for {first.functional}; "
                    "all pseudopotentials of a dataset need one functional"
                )
        core_charges = {
            symbol: CoreCharge(radius=tuple(one.core_radius.tolist()), density=tuple(one.core_density.tolist()))
            for symbol, one in used.items()
            if one.core_radius is not None and one.core_density is not None
        }
        return cls(functional=functional or first.functional, density_cutoff=density_cutoff, core_charges=core_charges)
