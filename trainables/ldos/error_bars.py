"""From what trainings and the last layer leave open to an error, and how often that holds.

σ² is the variance over T initialisations and, where the last layer is in closed form, that of its posterior.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .accuracy import SnapshotError

Float64 = NDArray[np.float64]
QUANTITIES = {"free_energy": "free energy", "band_energy": "band energy", "forces": "forces", "dos": "DOS"}
FEW = 8  # validation snapshots: of fewer, the factor itself is rough
LIKE = 1.25  # times the largest σ of a validation snapshot: up to it errors are like those of the test set
UNKNOWN = 10.0  # times as large: beyond, nothing is known of the errors


@dataclass(frozen=True)
class ErrorBar:
    """The error of a quantity is estimated by ``factor`` times σ.

    The factor makes the two alike, root mean square, on ``snapshots`` validation snapshots: c² = ⟨⟨e²⟩/⟨σ²⟩⟩, the
    inner means over the numbers of a snapshot.  A posterior has a scale of its own, from the training, and the factor
    is then 1 at least: validation snapshots of the training's cells do not see what is off in others.  largest: σ of
    the worst of these snapshots, in the unit of the error.  within_1, within_2: share of the test snapshots' errors
    that are smaller than the estimate and than twice that; of Gaussian errors and a right estimate 0.68 and 0.95.
    """

    factor: float
    snapshots: int
    largest: float
    posterior: bool = False
    within_1: float | None = None
    within_2: float | None = None

    def error(self, spread: Float64 | float, known: Float64 | float = 0.0) -> Float64:
        """The estimate, of the standard deviations over initialisations and of the posterior."""
        return np.asarray(self.factor * np.sqrt(np.square(spread) + np.square(known)))

    def holds(self, n_snapshots: int) -> str:
        """How it comes about, and how well it holds on test snapshots, within what so few can tell."""
        what = "what spread and last layer leave open" if self.posterior else "the spread"
        few = "only " if self.snapshots < FEW else ""
        plural = "" if self.snapshots == 1 else "s"
        text = f"{self.factor:.1f} times {what}, calibrated on {few}{self.snapshots} snapshot{plural}"
        if self.within_1 is None or self.within_2 is None:
            return text
        doubt = np.sqrt(0.68 * 0.32 / n_snapshots)  # standard deviation of a share of n with probability 0.68
        right = "in line with" if abs(self.within_1 - 0.68) <= doubt else "not"
        return (
            f"{text}; holds for {100 * self.within_1:.0f} % of {n_snapshots} test snapshots, {right} the "
            f"{100 * (0.68 - doubt):.0f} to {100 * min(0.68 + doubt, 1):.0f} % of a right estimate; twice it for "
            f"{100 * self.within_2:.0f} %"
        )


def estimated(
    bars: Mapping[str, ErrorBar], name: str, spread: Float64 | float | None, known: Mapping[str, Float64]
) -> Float64 | None:
    """The error of a quantity, in the unit of its standard deviations over initialisations and of the posterior.

    None where it is not known, or rests on what is not known here.
    """
    bar = bars.get(name)
    if bar is None or spread is None or (bar.posterior and name not in known):
        return None
    return bar.error(spread, known.get(name, 0.0))


def left_open(bars: Mapping[str, ErrorBar], errors: Mapping[str, float], n_atoms: int) -> tuple[str, float] | None:
    """An energy and its σ in units of the largest one of a validation snapshot; None where no posterior tells.

    Args:
        bars: by name.
        errors: estimated, of energies [eV per cell].
        n_atoms: in the cell.
    """
    for name, error in errors.items():
        if (bar := bars[name]).posterior:
            return name, 1e3 * error / n_atoms / (bar.factor * bar.largest)
    return None


def calibrated(errors: Sequence["SnapshotError"]) -> dict[str, ErrorBar]:
    """Error bars of all quantities whose errors and σ are known of all of some validation snapshots."""
    found = {}
    for name in QUANTITIES:
        posterior = any(name in e.std for e in errors)
        pairs = _pairs(errors, name, posterior=posterior)
        if not pairs:
            continue
        squares = [float(np.mean(variance)) for _, variance in pairs]
        factor = float(np.sqrt(np.mean([np.mean(off**2) for off, _ in pairs] / np.array(squares))))
        largest = float(np.sqrt(max(squares)))
        found[name] = ErrorBar(max(factor, 1.0) if posterior else factor, len(pairs), largest, posterior)
    return found


def judged(bars: Mapping[str, ErrorBar], errors: Sequence["SnapshotError"]) -> dict[str, ErrorBar]:
    """The same with what they are worth on test snapshots, where their errors are known."""
    found = {}
    for name, bar in bars.items():
        pairs = _pairs(errors, name, posterior=bar.posterior)
        if pairs:
            ratio = np.concatenate([np.abs(off) / (bar.factor * np.sqrt(variance)) for off, variance in pairs])
            bar = replace(bar, within_1=float(np.mean(ratio <= 1)), within_2=float(np.mean(ratio <= 2)))
        found[name] = bar
    return found


def _pairs(errors: Sequence["SnapshotError"], name: str, *, posterior: bool) -> list[tuple[Float64, Float64]]:
    """Errors of the mean over initialisations and σ², each (n,), of all snapshots; none where one is not known.

    Where a posterior tells σ, snapshots of which it does not are left out: their spread alone is far too small.
    """
    found = []
    for e in errors:
        if posterior and name not in e.std:
            continue
        values = getattr(e, name)
        if values is None or not np.isfinite(values).all():
            return []
        each = np.reshape(values, (len(values), -1))
        variance = each.var(axis=0) + np.square(np.reshape(e.std.get(name, 0.0), -1))
        if not variance.all():
            return []
        found.append((each.mean(axis=0), variance))
    return found
