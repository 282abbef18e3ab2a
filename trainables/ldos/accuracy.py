"""How good a predicted LDOS is: band-energy error, DOS error, R².  Energies in eV, errors in meV/atom."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kind import Split
from .error_bars import QUANTITIES, ErrorBar, judged

if TYPE_CHECKING:
    from ..data.energy_grid import EnergyGrid
    from ..data.snapshot import Snapshot

ENERGIES = {"free_energy": "free energy", "band_energy": "band energy"}  # whose errors are stated, first that of A
Groups = dict[str, tuple[float, float]]
# What earlier versions estimated errors by.
RETIRED = {"spread_factor", "coverage", "free_energy_spread_factor", "free_energy_coverage"}

# Name in ``Accuracy.splits``, label, unit.
OF_SPLITS = (
    ("free_energy_mae", "free-energy error", "meV/atom"),
    ("band_energy_mae", "band-energy error", "meV/atom"),
    ("forces_mae", "force error", "eV/Å"),
    ("stress_mae", "stress error", "eV/Å³"),
)


@dataclass(frozen=True, eq=False)
class SnapshotError:
    """The errors of T initialisations on one snapshot.

    band_energy: E_b(predicted) - E_b(DFT), (T,) [meV/atom]; NaN where the predicted DOS cannot hold the electrons,
        or the DFT gave no band energy.
    free_energy: A(predicted) - A(DFT), (T,) [meV/atom]; NaN as for the band energy, or where the functional is unknown.
    dos_rmse: root mean square over the energies of the DOS error, (T,) [1/(eV atom)].
    squared_error: Σ over points and energies of (predicted - true)², (T,) [1/(eV Å³)]².
    forces: predicted - DFT, (T, n_atoms, 3) [eV/Å]; dos: the same, (T, n_energy) [1/(eV atom)]; None: not known.
    std: how well the last layer is known, by name of a quantity here and in its unit; {}: not in closed form.
    """

    snapshot: "Snapshot"
    band_energy: NDArray[np.float64]
    dos_rmse: NDArray[np.float64]
    squared_error: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    forces: NDArray[np.float64] | None = None
    dos: NDArray[np.float64] | None = None
    std: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def snapshot_error(
    snapshot: "Snapshot",
    grid: "EnergyGrid",
    *,
    predicted_dos: NDArray[np.float64],
    true_dos: NDArray[np.float64],
    squared_error: NDArray[np.float64],
    levels: NDArray[np.float64] | float = 0.0,
) -> SnapshotError:
    """Judge predicted DOS curves of one snapshot, without its free energy.

    Args:
        snapshot: with its DFT band energy.
        grid: energies of the DOS.
        predicted_dos: (T, n_energy), true_dos: (n_energy,) [1/eV].
        squared_error: of the LDOS, (T,), passed on.
        levels: what the energies of ``grid`` are relative to, (T,) [eV].
    """
    from ..physics.energies import Energies, energies  # imports SciPy, which `dftune study show` does without

    at = {"electrons": snapshot.n_electrons, "temperature": snapshot.temperature}
    found: list[Energies | None] = []
    for curve in predicted_dos:
        try:
            found.append(energies(curve, grid.quadrature(), **at))
        except ValueError:
            found.append(None)  # an untrained network's DOS may hold too few states: its energies stay NaN
    rmse = np.sqrt(((predicted_dos - true_dos) ** 2).mean(axis=1)) / snapshot.n_atoms
    band = snapshot.n_electrons * np.asarray(levels) + [np.nan if e is None else e.band for e in found]
    reference = np.nan if snapshot.band_energy is None else snapshot.band_energy
    off = 1e3 * (band - reference) / snapshot.n_atoms
    dos = (predicted_dos - true_dos) / snapshot.n_atoms
    return SnapshotError(snapshot, off, rmse, squared_error, np.full(len(found), np.nan), dos=dos)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of T initialisations on some snapshots: mean over T, standard deviation (Fiedler et al. 2022, Eq. 4).

    band_energy_mae [meV/atom] is the mean over snapshots of |error|, None where one of them is not defined; ldos_r2
    has the variance about each energy's own mean over the same snapshots in its denominator; dos_rmse is in
    1/(eV atom).  ``by_group`` gives mean |error| and mean signed error [meV/atom] of each group of snapshots whose
    errors are all defined.  free_energy_mae and the others that begin so are the same of the total free energy A, None
    where the dataset does not have it or its functional.

    ``error_bars`` say how the error of a prediction is estimated, by name in ``error_bars.QUANTITIES``, and how well
    that holds on these test snapshots; those that are not known are left out, all of them of earlier versions.

    ``splits`` has mean errors over initialisations and snapshots of the test, validation and training split: name of
    the split -> free_energy_mae, band_energy_mae, ldos_r2 and dos_rmse as here, and of a component forces_mae [eV/Å]
    and stress_mae [eV/Å³].  What is not known is left out.  ``fitted`` says to what a last layer in closed form was
    fitted.

    ``judged_on`` is the split of these snapshots.  Where it is ``validation``, because the dataset has none for
    testing, they also chose the surrogate, so that errors are larger elsewhere.
    """

    n_snapshots: int
    n_initializations: int
    band_energy_mae: float | None
    band_energy_mae_std: float | None
    ldos_r2: float
    ldos_r2_std: float
    dos_rmse: float
    dos_rmse_std: float
    by_group: Groups
    free_energy_mae: float | None = None
    free_energy_mae_std: float | None = None
    free_energy_by_group: Groups = field(default_factory=dict)
    error_bars: dict[str, ErrorBar] = field(default_factory=dict)
    splits: dict[str, dict[str, float]] | None = None
    fitted: str | None = None
    judged_on: str = "test"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Self:
        """From plain values.  Errors as ``known``."""
        known = cls.known(values)
        bars = known.get("error_bars") or {}
        return cls(**known | {"error_bars": {name: ErrorBar(**bar) for name, bar in bars.items()}})

    @classmethod
    def known(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values without what earlier versions estimated errors by.

        Raises:
            InputError: a number is unknown.
        """
        known = {name: value for name, value in values.items() if name not in RETIRED}
        if unknown := sorted(known.keys() - cls.__annotations__.keys()):
            raise InputError(f"unknown accuracy {', '.join(unknown)}; a later version of dftune may know it")
        return known

    def of(self, energy: str) -> "EnergyAccuracy":
        """Of one of ``ENERGIES``."""
        if energy == "band_energy":
            return EnergyAccuracy(self.band_energy_mae, self.band_energy_mae_std, self.by_group)
        return EnergyAccuracy(self.free_energy_mae, self.free_energy_mae_std, self.free_energy_by_group)

    @property
    def judges(self) -> str:
        """How many snapshots of which split it was judged by, and what that makes of its errors."""
        some = f"{self.n_snapshots} {self.judged_on} snapshot{'' if self.n_snapshots == 1 else 's'}"
        if self.judged_on == "test":
            return some
        return f"{some} (none are for testing; these also chose the penalty or the weights, so expect larger errors)"

    @property
    def beside_spread(self) -> str:
        """What the standard deviations are, and what errors are instead."""
        return f"the {self.spread_of} is no error bar; {self.judged_on} error: {self.stated_error}"

    @property
    def stated_error(self) -> str:
        """The errors on the test snapshots, in a few words, by group where there are several."""
        known = [(label, mae) for name, label in ENERGIES.items() if (mae := self.of(name)).mae is not None]
        if not known:
            return f"no error of energies is known on {self.judges}; LDOS R² {self.ldos_r2:.4f}"
        parts = [f"{label} off by {one.mae:.1f} meV/atom{one.in_groups}" for label, one in known]
        return f"on {self.judges} {', '.join(parts)}"

    def estimate(self, quantity: str) -> str | None:
        """How an error is estimated, and how well that holds, within what so few snapshots can tell."""
        bar = self.error_bars.get(quantity)
        return None if bar is None else bar.holds(self.n_snapshots)

    @property
    def spread_of(self) -> str:
        """What the standard deviations over initialisations are."""
        trainings = "1 training" if self.n_initializations == 1 else f"{self.n_initializations} trainings"
        return f"spread of {trainings}"

    def means(self) -> dict[str, float]:
        """What ``splits`` has of a split but forces and stress."""
        names = ("free_energy_mae", "band_energy_mae", "ldos_r2", "dos_rmse")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def numbers(self) -> dict[str, tuple[float | None, float | None]]:
        """What surrogates are compared by: mean and standard deviation over the initialisations."""
        return {
            "test_loss": (1 - self.ldos_r2, self.ldos_r2_std),
            "band_energy_mae": (self.band_energy_mae, self.band_energy_mae_std),
        }

    def lines(self) -> list[str]:
        """For people."""
        alone = self.n_initializations == 1
        what = "one training, which has no spread" if alone else f"mean and in brackets {self.spread_of}"
        found = [f"on {self.judges}, {what}:"]

        def bracket(std: str) -> str:
            return "" if alone else f" ({std})"

        for name, label in ENERGIES.items():
            one = self.of(name)
            if one.mae is not None:
                spread = bracket(f"{one.mae_std:.1f}")
                found.append(f"  {label.replace(' ', '-')} error  {one.mae:.1f}{spread} meV/atom")
                found += [f"    {g}: {size:.1f} meV/atom (signed {signed:+.1f})" for g, (size, signed) in one.groups]
            elif name == "band_energy":
                found.append(
                    "  band-energy error  not defined: no reference, or a predicted DOS that cannot hold the electrons"
                )
        for name, label in QUANTITIES.items():
            if (how := self.estimate(name)) is not None:
                found.append(f"  error bar, {label}: {how}")

        def of_splits(name: str, form: str, *, but: str | None = None) -> str:
            some = {split: e[name] for split, e in (self.splits or {}).items() if name in e and split != but}
            return ", ".join(f"{split} {value:{form}}" for split, value in some.items())

        for name, label, unit in OF_SPLITS:
            if ", " in (text := of_splits(name, ".3g")):
                found.append(f"  {label:17s}  {text} {unit}")
        for name, label, form, unit in (
            ("ldos_r2", "LDOS R²", ".4f", ""),
            ("dos_rmse", "DOS RMSE", ".5f", " 1/(eV atom)"),
        ):
            value = f"{getattr(self, name):{form}}" + bracket(f"{getattr(self, f'{name}_std'):{form}}")
            others = of_splits(name, form, but=self.judged_on)
            found.append(f"  {label:17s}  {value}{'; ' if others else ''}{others}{unit}")
        if self.fitted is not None:
            found.append(f"  last layer         {self.fitted}")
        return found


@dataclass(frozen=True)
class EnergyAccuracy:
    """What ``Accuracy`` has of one energy."""

    mae: float | None
    mae_std: float | None
    by_group: Groups

    @property
    def groups(self) -> list[tuple[str, tuple[float, float]]]:
        """Group, and its mean |error| and mean signed error [meV/atom]."""
        return list(self.by_group.items())

    @property
    def in_groups(self) -> str:
        """Mean |error| of each group where there are several, in brackets."""
        texts = [f"{group} {size:.1f}" for group, (size, _) in self.groups]
        return f" ({', '.join(texts)})" if len(texts) > 1 else ""


def _all(errors: Sequence[SnapshotError], energy: str) -> NDArray[np.float64]:
    """The errors of an energy, (n_snapshots, T) [meV/atom]."""
    return np.array([getattr(e, energy) for e in errors])


def summarize(
    errors: Sequence[SnapshotError],
    total_variance: float,
    bars: Mapping[str, ErrorBar] | None = None,
    judged_on: Split = "test",
) -> Accuracy:
    """Accuracy over snapshots.

    Args:
        errors: one a snapshot.
        total_variance: Σ over the same points and energies of (true - mean of that energy)² [1/(eV Å³)]².
        bars: ``calibrated`` on the validation snapshots; these cannot say how well the bars hold.
        judged_on: the split of the snapshots.
    """
    bars = bars or {}
    rmse = np.array([e.dos_rmse for e in errors]).mean(axis=0)
    r2 = 1 - np.array([e.squared_error for e in errors]).sum(axis=0) / total_variance
    band, free = (_energy_accuracy(errors, name) for name in ("band_energy", "free_energy"))
    return Accuracy(
        n_snapshots=len(errors),
        n_initializations=len(rmse),
        band_energy_mae=band.mae,
        band_energy_mae_std=band.mae_std,
        ldos_r2=float(r2.mean()),
        ldos_r2_std=float(r2.std()),
        dos_rmse=float(rmse.mean()),
        dos_rmse_std=float(rmse.std()),
        by_group=band.by_group,
        free_energy_mae=free.mae,
        free_energy_mae_std=free.mae_std,
        free_energy_by_group=free.by_group,
        error_bars=judged(bars, errors) if judged_on == "test" else dict(bars),
        judged_on=judged_on,
    )


def _energy_accuracy(errors: Sequence[SnapshotError], energy: str) -> EnergyAccuracy:
    off, groups = _all(errors, energy), {}
    for group in sorted({e.snapshot.group for e in errors}):
        signed = _all([e for e in errors if e.snapshot.group == group], energy)
        if np.isfinite(signed).all():
            groups[group] = (float(np.abs(signed).mean()), float(signed.mean()))
    if not np.isfinite(off).all():
        return EnergyAccuracy(None, None, groups)
    mae = np.abs(off).mean(axis=0)
    return EnergyAccuracy(float(mae.mean()), float(mae.std()), groups)
