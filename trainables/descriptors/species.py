"""How the atoms of a structure count in the descriptors, by their species.  Lengths in Å."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .settings import BispectrumSettings

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AtomSpecies:
    """The species that settings are for, and which of them each atom is.

    index: of each atom the place of its species, (n_atoms,).
    weights: of each species, (n_species,).
    radii: of each species, LAMMPS' R, (n_species,).
    cutoffs: within which an atom of each species counts, 2 R R_cut, (n_species,) [Å].
    n_densities: how many densities a grid point has: one, or with ``chem`` one a species.
    """

    index: NDArray[np.int64]
    weights: Float64
    radii: Float64
    cutoffs: Float64
    n_densities: int


def species_of(numbers: NDArray[np.integer], settings: BispectrumSettings) -> AtomSpecies:
    """The species of atoms of these atomic numbers, (n_atoms,).

    Raises:
        InputError: as ``check_species``.
    """
    from ase.data import chemical_symbols  # `dftune.testing` and the settings do without ASE

    symbols = [chemical_symbols[number] for number in numbers]
    check_species(symbols, settings)
    known = settings.species or (symbols[0],)
    radii = np.array([settings.radius(symbol) for symbol in known])
    return AtomSpecies(
        index=np.array([known.index(symbol) for symbol in symbols], dtype=np.int64),
        weights=np.array([settings.weight(symbol) for symbol in known]),
        radii=radii,
        cutoffs=2 * radii * settings.cutoff,
        n_densities=max(1, len(settings.chem)),
    )


def check_species(symbols: Collection[str], settings: BispectrumSettings) -> None:
    """Raise an InputError if descriptors could not tell these species apart, or do not know one of them."""
    there = sorted(set(symbols))
    if settings.species:
        if unknown := [symbol for symbol in there if symbol not in settings.species]:
            raise InputError(
                f"descriptors for {', '.join(settings.species)} do not know {', '.join(unknown)}; name all species in "
                f"{'chem' if settings.chem else 'weights'}"
            )
    elif len(there) > 1:
        raise InputError(
            f"descriptors cannot tell {', '.join(there)} apart; give each a weight (weights), or each a density (chem)"
        )
