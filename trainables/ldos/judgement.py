"""A trained network judged on snapshots that it has not seen.  eV, Å, K; LDOS in 1/(eV Å³)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.energy_grid import EnergyGrid
from ..data.shards import Shard
from .accuracy import Accuracy, SnapshotError, snapshot_error, summarize, total_variance
from .inference import predict_ldos, reference_levels
from .network import Network
from .total_energy import Ingredients
from .training_data import Scaling, SnapshotData


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

        dos_comparison(self.energy, self.dos, self.errors, folder / "dos.png", relative=relative)
        return [folder / "dos.png"]


def judge(
    network: Network,
    scaling: Scaling,
    grid: EnergyGrid,
    snapshots: Iterable[SnapshotData],
    *,
    ingredients: Ingredients | None = None,
    factors: Mapping[str, float | None] | None = None,
) -> Judgement:
    """Compare predictions with the reference on snapshots the network has not seen, chunk by chunk.

    Args:
        network, scaling: as trained.
        grid: energies of the LDOS.
        snapshots: with the reference.
        ingredients: of the total free energy, whose errors are then judged, too; they take the network a second time.
        factors: ``spread_factors`` of the validation snapshots, where they are known.
    """
    errors, curves, seen = [], [], list[Shard]()
    for data in snapshots:
        snapshot, count = data.snapshot, sum(map(len, data.ldos))
        squares, predicted = np.zeros(network.n_initializations), np.zeros((network.n_initializations, grid.n_energy))
        for descriptors, ldos in zip(data.descriptors, data.learnt, strict=True):
            done = 0
            for chunk in predict_ldos(network, scaling, [descriptors]):
                true = ldos[done : done + chunk.shape[1]].astype(np.float32)
                squares += np.square(chunk - true).sum(axis=(1, 2), dtype=np.float64)
                predicted += chunk.sum(axis=1, dtype=np.float64)
                done += chunk.shape[1]
        predicted_dos, true_dos = predicted * (snapshot.volume / count), data.dos()
        seen += data.learnt
        curves.append((predicted_dos, true_dos))

        def again(data: SnapshotData = data) -> Iterator[NDArray[np.float32]]:
            return predict_ldos(network, scaling, data.descriptors)

        errors.append(
            snapshot_error(
                snapshot,
                grid,
                predicted_dos=predicted_dos,
                true_dos=true_dos,
                squared_error=squares,
                levels=reference_levels(network, scaling, data.descriptors, data.level),
                free_energies=None
                if ingredients is None
                else ingredients.free_energies(snapshot, grid.quadrature(), again),
            )
        )
    return Judgement(summarize(errors, total_variance(seen), factors), errors, curves, grid.energy)
