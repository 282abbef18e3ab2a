"""How good alloy networks are: errors in units, and R² as papers give it.  mRy/atom, e, μ_B."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..kind import Accuracy
from .config import NAMES, TASKS, Task
from .training_data import Targets, TrainingData
from .units import MRY

Float64 = NDArray[np.float64]
UNITS: Mapping[Task, tuple[float, str]] = {"E": (MRY, "mRy/atom"), "C": (1.0, "e"), "M": (1.0, "mu_B")}
EXACT = 1e-30  # 1 - R² below which a prediction is exact


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of T networks on some configurations, (T,) each.

    What a network does not predict counts as the mean of the training.  energy_mae [mRy/atom], charge_mae [e],
    moment_mae [μ_B].  error: the geometric mean of 1 - R² over the energy, charges and, where they vary,
    moments.  So a tenth less of any of them counts alike; in the arithmetic mean the energy alone counts, its 1 - R²
    being twenty times that of charges and moments.
    """

    error: Float64
    energy_mae: Float64
    charge_mae: Float64
    moment_mae: Float64
    NAMES: ClassVar = ("error", "energy_mae", "charge_mae", "moment_mae")


def errors_of(predicted: Mapping[Task, Float64], targets: Targets, data: TrainingData) -> Errors:
    """Errors of predictions (T, n, n_out) of each task against the reference."""
    n = len(next(iter(predicted.values())))
    losses, maes = [], {}
    for task in TASKS:
        expected = targets.values[task]
        found = predicted.get(task, np.full((n, *expected.shape), data.scaling[task][0]))
        maes[f"{NAMES[task]}_mae"] = abs(found - expected).mean(axis=(1, 2)) / UNITS[task][0]
        if task in data.varying:
            losses.append(one_minus_r2(found, expected) if task in predicted else np.ones(n))
    return Errors(error=np.exp(np.mean(np.log(np.maximum(losses, EXACT)), axis=0)), **maes)


def joined(parts: Iterable[Errors]) -> Errors:
    """Errors of all networks of several."""
    found = list(parts)
    return Errors(**{name: np.concatenate([getattr(one, name) for one in found]) for name in Errors.NAMES})


def one_minus_r2(predicted: Float64, expected: Float64) -> Float64:
    """1 - R² = Σ (y - ŷ)² / Σ (y - ȳ)² over configurations and sites, (T,); NaN where the reference does not vary.

    Args:
        predicted: ŷ, (T, n, ...).
        expected: y, (n, ...); ȳ is the mean of all of it.
    """
    axes = tuple(range(1, predicted.ndim))
    spread = np.square(expected - expected.mean()).sum()
    return np.square(predicted - expected).sum(axis=axes) / (spread if spread > 1e-20 else np.nan)


@dataclass(frozen=True)
class AlloyAccuracy(Accuracy):
    """Mean and standard deviation of each number over the networks, on data that they have not seen.

    values: name -> (mean, std): of the tasks that are learnt ``energy_mae``, ``energy_rmse`` [mRy/atom], ``charge_mae``
    and so on; ``energy_r2`` of formation energies, ``total_energy_r2``, ``charge_r2``, ``moment_r2``.
    n_configurations, n_networks: of how many; composition_loss: 1 - R² of total energies that a line in
    composition has, fitted to the same configurations.
    """

    values: dict[str, tuple[float | None, float | None]]
    n_configurations: int
    n_networks: int
    composition_loss: float

    def to_dict(self) -> dict[str, Any]:
        means = {name: mean for name, (mean, _) in self.values.items()}
        spreads = {f"{name}_std": std for name, (_, std) in self.values.items()}
        return means | spreads | {name: getattr(self, name) for name in COUNTS}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "AlloyAccuracy":
        """From what ``to_dict`` gave.  Raises KeyError: it lacks something."""
        names = [name for name in values if f"{name}_std" in values]
        pairs = {name: (values[name], values[f"{name}_std"]) for name in names}
        return cls(pairs, **{name: values[name] for name in COUNTS})

    def numbers(self) -> dict[str, tuple[float | None, float | None]]:
        """Those of ``values``, and 1 - R² under names that end in ``_loss``."""
        found = dict(self.values)
        for name, (mean, std) in self.values.items():
            if name.endswith("_r2"):
                found[name.removesuffix("r2") + "loss"] = None if mean is None else 1 - mean, std
        for name in LOWER:
            found.setdefault(name, (None, None))
        return found

    @property
    def stated_error(self) -> str:
        """The mean error of each task that is learnt, in a few words."""
        said = []
        for task in TASKS:
            mean, _ = self.values.get(f"{NAMES[task]}_mae", (None, None))
            if mean is not None:
                what = "formation energy" if task == "E" else NAMES[task]
                said.append(f"{what} {mean:.2g} {UNITS[task][1]}")
        return f"{', '.join(said)} on average of {self.n_configurations} configurations never seen"

    def lines(self) -> list[str]:
        """For people."""
        several = any(std is not None for _, std in self.values.values())
        over = f", mean over {self.n_networks} networks (spread)" if several else ""
        found = [f"on {self.n_configurations} configurations{over}:"]
        for task in TASKS:
            name, unit = NAMES[task], UNITS[task][1]
            if f"{name}_mae" not in self.values:
                continue
            what = "formation energy" if task == "E" else name
            mae, rmse, r2 = (self._said(f"{name}_{number}") for number in ("mae", "rmse", "r2"))
            found.append(f"  {what:17s} mean error {mae} {unit}, RMSE {rmse} {unit}, R² {r2}")
        if "total_energy_r2" in self.values:
            total = self.values["total_energy_r2"][0]
            if total is not None:
                found.append(
                    f"  total energy      1 - R² {1 - total:.1e}; a line in composition {self.composition_loss:.1e}, "
                    "so this number says little of a model"
                )
        return found

    def _said(self, name: str) -> str:
        mean, std = self.values[name]
        return "-" if mean is None else f"{mean:.4g}" + ("" if std is None else f" ({std:.2g})")


COUNTS = ("n_configurations", "n_networks", "composition_loss")
LOWER = ("energy_mae", "energy_loss", "charge_mae", "charge_loss", "moment_mae", "moment_loss", "total_energy_loss")


def accuracy_of(predicted: Mapping[Task, Float64], targets: Targets) -> AlloyAccuracy:
    """The accuracy of T networks.

    Args:
        predicted: of each task that is learnt (T, n, n_out) [eV/atom, e, μ_B].
        targets: the reference.
    """
    values: dict[str, tuple[float | None, float | None]] = {}
    for task, found in predicted.items():
        expected, unit, name = targets.values[task], UNITS[task][0], NAMES[task]
        values[f"{name}_mae"] = _pair(abs(found - expected).mean(axis=(1, 2)) / unit)
        values[f"{name}_rmse"] = _pair(np.sqrt(np.square(found - expected).mean(axis=(1, 2))) / unit)
        values[f"{name}_r2"] = _pair(1 - one_minus_r2(found, expected))
        if task == "E":
            error = found[:, :, 0] - expected[:, 0]
            values["total_energy_r2"] = _pair(1 - one_minus_r2(targets.total + error, targets.total))
    n = len(next(iter(predicted.values())))
    return AlloyAccuracy(values, len(targets), n, composition_loss(targets))


def composition_loss(targets: Targets) -> float:
    """1 - R² of the total energies that the straight line in composition through them has."""
    x = targets.species.mean(axis=1)
    if np.ptp(x) == 0:
        return 1.0
    line = np.polynomial.Polynomial.fit(x, targets.total, 1)(x)
    return float(one_minus_r2(line[None], targets.total)[0])


def spread_of(of_networks: Float64) -> Float64 | None:
    """Standard deviation over T networks, the first axis; None where there is but one answer.

    That is so of one network, and of any number that is not trained: all of them are the same solution.
    """
    spread = of_networks.std(axis=0)
    return None if (spread <= 1e-9 * abs(of_networks).max()).all() else spread


def _pair(of_networks: Float64) -> tuple[float | None, float | None]:
    if not np.isfinite(of_networks).all():
        return None, None
    spread = spread_of(of_networks)
    return float(of_networks.mean()), None if spread is None else float(spread)
