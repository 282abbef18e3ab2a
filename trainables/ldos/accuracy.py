"""How good a predicted LDOS is: band-energy error, DOS error, R².  Energies in eV, errors in meV/atom."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..data.energy_grid import EnergyGrid
    from ..data.shards import Shard
    from ..data.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class SnapshotError:
    """The errors of T initialisations on one snapshot.

    band_energy: E_b(predicted) - E_b(DFT), (T,) [meV/atom]; NaN where the predicted DOS cannot hold the electrons,
        or the DFT gave no band energy.
    dos_rmse: root mean square over the energies of the DOS error, (T,) [1/(eV atom)].
    squared_error: Σ over points and energies of (predicted - true)², (T,) [1/(eV Å³)]².
    """

    snapshot: "Snapshot"
    band_energy: NDArray[np.float64]
    dos_rmse: NDArray[np.float64]
    squared_error: NDArray[np.float64]


def snapshot_error(
    snapshot: "Snapshot",
    grid: "EnergyGrid",
    *,
    predicted_dos: NDArray[np.float64],
    true_dos: NDArray[np.float64],
    squared_error: NDArray[np.float64],
) -> SnapshotError:
    """Judge predicted DOS curves of one snapshot.

    Args:
        snapshot: with its DFT band energy.
        grid: energies of the DOS.
        predicted_dos: (T, n_energy), true_dos: (n_energy,) [1/eV].
        squared_error: of the LDOS, (T,), passed on.
    """
    from ..physics.energies import energies  # imports SciPy, which `dftune study show` does without

    band = np.full(len(predicted_dos), np.nan)
    if snapshot.band_energy is not None:
        for t, curve in enumerate(predicted_dos):
            try:
                found = energies(
                    curve, grid.quadrature(), electrons=snapshot.n_electrons, temperature=snapshot.temperature
                )
            except ValueError:
                continue  # an untrained network's DOS may hold too few states: its energy stays NaN
            band[t] = 1e3 * (found.band - snapshot.band_energy) / snapshot.n_atoms
    rmse = np.sqrt(((predicted_dos - true_dos) ** 2).mean(axis=1)) / snapshot.n_atoms
    return SnapshotError(snapshot, band, rmse, squared_error)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of T initialisations on some snapshots: mean over T, standard deviation (Fiedler et al. 2022, Eq. 4).

    band_energy_mae [meV/atom] is the mean over snapshots of |error|, None where one of them is not defined; ldos_r2
    has the variance about each energy's own mean over the same snapshots in its denominator; dos_rmse is in
    1/(eV atom).  ``by_group`` gives mean |error| and mean signed error [meV/atom] of each group of snapshots whose
    errors are all defined.
    """

    n_snapshots: int
    n_initializations: int
    band_energy_mae: float | None
    band_energy_mae_std: float | None
    ldos_r2: float
    ldos_r2_std: float
    dos_rmse: float
    dos_rmse_std: float
    by_group: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def numbers(self) -> dict[str, tuple[float | None, float | None]]:
        """What surrogates are compared by: mean and standard deviation over the initialisations."""
        return {
            "test_loss": (1 - self.ldos_r2, self.ldos_r2_std),
            "band_energy_mae": (self.band_energy_mae, self.band_energy_mae_std),
        }

    def lines(self) -> list[str]:
        """For people."""
        found = [
            f"on {self.n_snapshots} test snapshots, mean and standard deviation over "
            f"{self.n_initializations} initialisations:"
        ]
        if self.band_energy_mae is None:
            found.append(
                "  band-energy error  not defined: no reference, or a predicted DOS that cannot hold the electrons"
            )
        else:
            found.append(f"  band-energy error  {self.band_energy_mae:.1f} ± {self.band_energy_mae_std:.1f} meV/atom")
        for group, (size, signed) in self.by_group.items():
            found.append(f"    {group}: {size:.1f} meV/atom (signed {signed:+.1f})")
        found.append(f"  LDOS R²            {self.ldos_r2:.4f} ± {self.ldos_r2_std:.4f}")
        found.append(f"  DOS RMSE           {self.dos_rmse:.5f} ± {self.dos_rmse_std:.5f} 1/(eV atom)")
        return found


def summarize(errors: Sequence[SnapshotError], total_variance: float) -> Accuracy:
    """Accuracy over snapshots.

    Args:
        errors: one a snapshot.
        total_variance: Σ over the same points and energies of (true - mean of that energy)² [1/(eV Å³)]².
    """
    band = np.array([e.band_energy for e in errors])
    mae, rmse = np.abs(band).mean(axis=0), np.array([e.dos_rmse for e in errors]).mean(axis=0)
    r2 = 1 - np.array([e.squared_error for e in errors]).sum(axis=0) / total_variance
    groups = {}
    for group in sorted({e.snapshot.group for e in errors}):
        signed = np.array([e.band_energy for e in errors if e.snapshot.group == group])
        if np.isfinite(signed).all():
            groups[group] = (float(np.abs(signed).mean()), float(signed.mean()))
    defined = bool(np.isfinite(mae).all())
    return Accuracy(
        n_snapshots=len(errors),
        n_initializations=band.shape[1],
        band_energy_mae=float(mae.mean()) if defined else None,
        band_energy_mae_std=float(mae.std()) if defined else None,
        ldos_r2=float(r2.mean()),
        ldos_r2_std=float(r2.std()),
        dos_rmse=float(rmse.mean()),
        dos_rmse_std=float(rmse.std()),
        by_group=groups,
    )


def total_variance(ldos: Sequence["Shard"]) -> float:
    """Σ over points and energies of (value - mean of that energy)², over all shards in float64."""
    count = sum(map(len, ldos))
    mean = sum(s[:].sum(axis=0, dtype=np.float64) for s in ldos) / count
    return float(sum(((s[:] - mean) ** 2).sum() for s in ldos))
