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

    The error of a band energy is estimated by ``spread_factor`` times its standard deviation over T: the factor that
    makes the two alike, root mean square, on the validation snapshots.  ``coverage`` is the share of these test
    snapshots whose error is within the estimate; that of Gaussian errors and a right estimate is 68 %.  None: not
    known, of a model of an earlier version for instance.
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
    spread_factor: float | None = None
    coverage: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def stated_error(self) -> str:
        """The error on the test snapshots, in a few words, by group where there are several."""
        if self.band_energy_mae is None:
            return f"no test error of energies is known; LDOS R² {self.ldos_r2:.4f}"
        groups = ", ".join(f"{group} {size:.1f}" for group, (size, _) in self.by_group.items())
        more = f" ({groups})" if len(self.by_group) > 1 else ""
        return f"band energy of {self.n_snapshots} test snapshots off by {self.band_energy_mae:.1f} meV/atom{more}"

    @property
    def spread_of(self) -> str:
        """What ± stands for."""
        return f"spread of {self.n_initializations} trainings"

    def numbers(self) -> dict[str, tuple[float | None, float | None]]:
        """What surrogates are compared by: mean and standard deviation over the initialisations."""
        return {
            "test_loss": (1 - self.ldos_r2, self.ldos_r2_std),
            "band_energy_mae": (self.band_energy_mae, self.band_energy_mae_std),
        }

    @property
    def _estimate(self) -> str:
        """How well the estimate of the error holds, within what so few snapshots can tell."""
        assert self.spread_factor is not None
        assert self.coverage is not None
        doubt = np.sqrt(0.68 * 0.32 / self.n_snapshots)  # standard deviation of a share of n with probability 0.68
        off = abs(self.coverage - 0.68) > doubt
        right = f"{'not the' if off else 'in line with the'} 68 ± {100 * doubt:.0f} % of a right estimate"
        return (
            f"{self.spread_factor:.1f} times the spread, as for validation snapshots; holds for "
            f"{100 * self.coverage:.0f} % of {self.n_snapshots} test snapshots, {right}"
        )

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
        if self.spread_factor is not None and self.coverage is not None:
            found.append(f"  estimated error    {self._estimate}")
        found.append(f"  LDOS R²            {self.ldos_r2:.4f} ± {self.ldos_r2_std:.4f}")
        found.append(f"  DOS RMSE           {self.dos_rmse:.5f} ± {self.dos_rmse_std:.5f} 1/(eV atom)")
        return found


def spread_factor(errors: Sequence[SnapshotError]) -> float | None:
    """c = √⟨e²/σ²⟩, by which the spread over T initialisations is smaller than the error of their mean.

    e is the error of a snapshot's mean band energy, σ its standard deviation over T.  With Gaussian errors of standard
    deviation c σ it is the most likely c.

    Args:
        errors: of validation snapshots.

    Returns:
        None with one initialisation, without snapshots, or where a band energy is not defined.
    """
    band = np.array([e.band_energy for e in errors])
    if band.size == 0 or band.shape[1] < 2 or not np.isfinite(band).all() or not band.std(axis=1).all():
        return None
    return float(np.sqrt(np.mean((band.mean(axis=1) / band.std(axis=1)) ** 2)))


def summarize(errors: Sequence[SnapshotError], total_variance: float, factor: float | None = None) -> Accuracy:
    """Accuracy over snapshots.

    Args:
        errors: one a snapshot.
        factor: ``spread_factor`` of the validation snapshots.
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
        spread_factor=factor,
        coverage=_coverage(band, factor),
    )


def _coverage(band: NDArray[np.float64], factor: float | None) -> float | None:
    """Share of snapshots whose mean error is within ``factor`` times the spread; ``band`` is (n_snapshots, T)."""
    if factor is None or not np.isfinite(band).all():
        return None
    return float(np.mean(np.abs(band.mean(axis=1)) <= factor * band.std(axis=1)))


def total_variance(ldos: Sequence["Shard"]) -> float:
    """Σ over points and energies of (value - mean of that energy)², over all shards in float64."""
    count = sum(map(len, ldos))
    mean = sum(s[:].sum(axis=0, dtype=np.float64) for s in ldos) / count
    return float(sum(((s[:] - mean) ** 2).sum() for s in ldos))
