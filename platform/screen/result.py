"""What a screen of descriptors found: the settings with their scores, and the one that is recommended."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ...trainables.ldos.acsd import Variant
from ..ledger.score_quality import ScoreQuality

Score = Literal["kernel-ridge", "acsd"]
UNITS = {
    "cutoff": "Å",
    "kernel_ridge": "1 - R²",
    "descriptor_cost": "µs a grid point",
    "descriptor_seconds": "s",
    "kernel_ridge_seconds": "s",
    "acsd_seconds": "s",
}
TOLERANCE = 1.5  # a score this many times the best is as good as the best


class ScreenRow(BaseModel):
    """One setting.  Scores and errors are lower for better descriptors.

    kernel_ridge: 1 - R² of kernel ridge on points of validation snapshots, fitted on points of training snapshots.
    acsd, acsd_clipped: average cosine similarity distance as printed, and as the MALA code has it.
    descriptor_cost: CPU time of the descriptors [µs a grid point]; the seconds are CPU time of the whole setting.
    trained_error, trained_std: validation loss of the trained network, mean and standard deviation over its
        initialisations; None where nothing was trained, or nothing came of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cutoff: float
    two_j_max: int
    n_components: int
    kernel_ridge: float
    acsd: float
    acsd_clipped: float
    descriptor_cost: float
    descriptor_seconds: float
    kernel_ridge_seconds: float
    acsd_seconds: float
    trained_error: float | None = None
    trained_std: float | None = None

    def error(self, score: Score, variant: Variant = "paper") -> float:
        """The number the recommendation goes by."""
        if score == "kernel-ridge":
            return self.kernel_ridge
        return self.acsd if variant == "paper" else self.acsd_clipped


@dataclass(frozen=True)
class Screen:
    """What a screen found.

    rows: by two_j_max, then cutoff.
    recommended: of them, see ``recommend``.
    snapshots: whose points were used.
    qualities: rank correlation of each score with the trained error, where there are two trained settings or more.
    folder: with screen.json and the figures.
    """

    rows: list[ScreenRow]
    recommended: ScreenRow
    score: Score
    variant: Variant
    snapshots: list[str]
    qualities: list[ScoreQuality]
    folder: Path

    @property
    def regret(self) -> float | None:
        """Trained error of the recommended setting over that of the best, minus one; None without training."""
        trained = [row.trained_error for row in self.rows if row.trained_error is not None]
        if self.recommended.trained_error is None or len(trained) < 2:
            return None
        return self.recommended.trained_error / min(trained) - 1

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "rows": [row.model_dump() for row in self.rows],
            "recommended": {"cutoff": self.recommended.cutoff, "two_j_max": self.recommended.two_j_max},
            "score": self.score,
            "variant": self.variant,
            "snapshots": self.snapshots,
            "regret": self.regret,
            "qualities": [asdict(q) for q in self.qualities],
            "folder": str(self.folder),
            "units": UNITS,
        }


def recommend(rows: Sequence[ScreenRow], score: Score, variant: Variant = "paper") -> ScreenRow:
    """The cheapest descriptors that are as good as the best: smallest two_j_max, then largest cutoff, within 1.5 times.

    Those count as good whose number (for ``kernel-ridge`` the validation error 1 - R², for ``acsd`` the distance) is at
    most 1.5 times the smallest of all rows.
    """
    best = min(row.error(score, variant) for row in rows)
    good = [row for row in rows if row.error(score, variant) <= TOLERANCE * best]
    return min(good, key=lambda row: (row.two_j_max, -row.cutoff))
