"""Units that people use for alloys; inside, energies are eV."""

from ..physics.units import RYDBERG

MRY = 1e-3 * RYDBERG  # [eV]
