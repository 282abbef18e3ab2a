"""Whether settings of descriptors suit a dataset, before anything is computed.  Lengths in Å."""

from ..descriptors.settings import FURTHEST, BispectrumSettings
from ..descriptors.species import check_species
from ..errors import InputError
from ..near_atoms import closest
from .dataset import Dataset


def check_settings(dataset: Dataset, settings: BispectrumSettings) -> None:
    """Check species and cutoff.

    Raises:
        InputError: descriptors could not tell its species apart or do not know one, or no atom of any snapshot lies
            within the cutoff of another one, so that no grid point would see how atoms lie to each other.
    """
    try:
        check_species(dataset.info.species, settings)
    except InputError as error:
        raise InputError(f"{dataset.location}: {error}") from error
    furthest = max(2 * settings.radius(symbol) * settings.cutoff for symbol in dataset.info.species)
    if any(closest(s.cell, s.positions, furthest) is not None for s in dataset.snapshots):
        return
    nearest = FURTHEST
    for s in dataset.snapshots:
        # The first one found may be the length of the cell.
        while (found := closest(s.cell, s.positions, nearest)) is not None and found < nearest:
            nearest = found
    if nearest < FURTHEST:  # otherwise single atoms in wide cells, whatever the cutoff
        raise InputError(
            f"{dataset.location}: a cutoff of {furthest:g} Å is below the distance of the nearest atoms, "
            f"{nearest:.2f} Å, and descriptors could not see how atoms lie to each other; choose a larger one"
        )
