"""What the tests of the readout judge it by."""

from collections.abc import Sequence

import numpy as np

from dftune.trainables.ldos.readout.evaluate import Evaluation
from dftune.trainables.ldos.readout.fit import component_errors


def mean_errors(found: Sequence[Evaluation]) -> dict[str, float]:
    """Mean |error| of the free energy [meV/atom], and of components of forces [eV/Å] and stress [eV/Å³]."""
    return {"free_energy_mae": 1e3 * np.mean([np.abs(one.free_energy) for one in found]), **component_errors(found)}
