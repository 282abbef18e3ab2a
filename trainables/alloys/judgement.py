"""A trained alloy network judged on configurations that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kind import Judgement
from ..surrogate import Check
from .accuracy import UNITS, AlloyAccuracy, accuracy_of
from .config import NAMES, Task
from .training_data import Targets


@dataclass(frozen=True, eq=False)
class AlloyJudgement(Judgement):
    """Predictions beside the reference.

    predicted: of each task (T, n, n_out) [eV/atom, e, μ_B].  reference: of the same configurations.
    """

    predicted: Mapping[Task, NDArray[np.float64]]
    reference: Targets

    @property
    def accuracy(self) -> AlloyAccuracy:
        return accuracy_of(self.predicted, self.reference)

    def rows(self) -> list[dict[str, Any]]:
        """Errors of the mean over the networks, a row a quantity."""
        found = []
        for task, values in self.predicted.items():
            unit, name = UNITS[task]
            error = abs(values.mean(axis=0) - self.reference.values[task]) / unit
            what = "formation energy" if task == "E" else NAMES[task]
            found.append({"quantity": what, "mean": float(error.mean()), "largest": float(error.max()), "unit": name})
        return found

    def draw(self, folder: Path) -> list[Path]:
        """Draw parity plots and errors against composition, and return the files."""
        from .figures import composition_figure, parity_figure

        return [parity_figure(self, folder / "parity.png"), composition_figure(self, folder / "composition.png")]


@dataclass(frozen=True, eq=False)
class AlloyCheck(Check):
    """A judgement for people."""

    judgement: AlloyJudgement

    @property
    def accuracy(self) -> AlloyAccuracy:
        return self.judgement.accuracy

    def rows(self) -> list[dict[str, Any]]:
        return self.judgement.rows()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"accuracy": self.accuracy.to_dict(), "errors": self.rows()}

    def draw(self, path: Path) -> None:
        """Draw parity plots to a PNG file."""
        from .figures import parity_figure

        parity_figure(self.judgement, path)
