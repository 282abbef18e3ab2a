"""What a training of an LDOS network reports after each epoch.  Energies in meV/atom, forces in eV/Å."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """What one epoch reached; losses are the mean squared error of the scaled LDOS, averaged over initialisations.

    ``band_energy_mae`` [meV/atom] and ``dos_rmse`` [1/(eV atom)] are over the validation snapshots, NaN where the
    predicted DOS cannot hold the electrons.  ``best_loss`` and ``best_band_energy_mae`` belong to the weights kept, as
    do ``best_free_energy_mae`` [meV/atom], which only the last report has, and ``best_forces_mae`` [eV/Å], which only
    that of a readout with rows for forces has; NaN where not.
    ``grid_points`` counts grid points times epochs trained so far, by one initialisation.  ``seconds`` are those of the
    whole training, sessions before a checkpoint included.  ``memory_mb`` is the most that the process has used so far,
    ``share_in_memory`` how much of the training points is shuffled at once, less than 1 where they are streamed.
    ``readout_sums`` are the seconds of a readout's sums over snapshots, which nodes can share, ``readout_solve`` those
    of the rest of it.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    band_energy_mae: float
    dos_rmse: float
    best_loss: float
    best_band_energy_mae: float
    grid_points: int
    seconds: float
    points_per_second: float
    memory_mb: float
    share_in_memory: float
    best_free_energy_mae: float = math.nan
    best_forces_mae: float = math.nan
    readout_sums: float = math.nan
    readout_solve: float = math.nan
