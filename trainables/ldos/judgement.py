"""A trained network judged on snapshots that it has not seen.  eV, Å, K; LDOS in 1/(eV Å³)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.energy_grid import EnergyGrid
from ..data.snapshot import Split
from .accuracy import Accuracy, SnapshotError, summarize
from .error_bars import ErrorBar
from .network import Network
from .readout.electrons import Ions
from .readout.evaluate import Evaluation, evaluate
from .readout.posterior import Posterior
from .total_energy import Ingredients
from .training_data import Moments, Scaling, SnapshotData


@dataclass(frozen=True, eq=False)
class Judgement:
    """Accuracy over some snapshots, and what is behind it.

    errors: one a snapshot.
    dos: (predicted (T, n_energy), true (n_energy,)) of each snapshot [1/eV].
    energy: of the DOS, (n_energy,) [eV].
    """

    accuracy: Accuracy
    errors: list[SnapshotError]
    dos: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
    energy: NDArray[np.float64]

    def draw(self, folder: Path, *, relative: bool = False) -> list[Path]:
        """Draw predicted and true DOS to FOLDER/dos.png, and return the file.

        Args:
            folder: to write to.
            relative: energies relative to the Fermi level of each snapshot.

        Raises:
            InputError: it cannot be written.
        """
        from .dos_figure import dos_comparison

        of = "" if self.accuracy.judged_on == "test" else f"{self.accuracy.judged_on} "
        dos_comparison(self.energy, self.dos, self.errors, folder / "dos.png", relative=relative, of=of)
        return [folder / "dos.png"]


def judge(
    network: Network,
    scaling: Scaling,
    grid: EnergyGrid,
    snapshots: Iterable[SnapshotData],
    *,
    ingredients: Ingredients | None = None,
    bars: Mapping[str, ErrorBar] | None = None,
    posterior: Posterior | None = None,
    judged_on: Split = "test",
) -> Judgement:
    """Compare predictions with the reference on snapshots the network has not seen, chunk by chunk.

    Args:
        network, scaling: as trained.
        grid: energies of the LDOS.
        snapshots: with the reference; only one at a time is held.
        ingredients: of the total free energy, whose errors are then judged, too.
        bars: ``calibrated`` on the validation snapshots, where they are known.
        posterior: of the last layer, where it is in closed form.
        judged_on: as ``Accuracy.judged_on``.
    """
    dft, species = (None, {}) if ingredients is None else (ingredients.dft, ingredients.species)
    found = [
        (d, evaluate(network, scaling, d, Ions(d.snapshot, grid, dft, species), posterior=posterior)) for d in snapshots
    ]
    return judgement_of(found, grid, bars, judged_on)


def judgement_of(
    found: Iterable[tuple[SnapshotData, Evaluation]],
    grid: EnergyGrid,
    bars: Mapping[str, ErrorBar] | None = None,
    judged_on: Split = "test",
) -> Judgement:
    """As ``judge``, of snapshots and their evaluations, with ``ldos``."""
    errors, curves, seen = [], [], list[Moments]()
    for data, one in found:
        assert one.ldos is not None
        errors.append(one.error(data))
        curves.append((one.dos, one.ldos.true_dos(data)))
        seen.append(one.ldos.true)
    return Judgement(summarize(errors, reduce(add, seen).total, bars, judged_on), errors, curves, grid.energy)
