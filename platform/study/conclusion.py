"""The result of a study: the trial that it chose, and how accurate its surrogate is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..ledger.trial import LedgerTrial
from .errors import StudyError
from .untrained import FOLDER


@dataclass(frozen=True)
class Conclusion:
    """The result of a study: the chosen trial, its accuracy on the test data, and where the time went.

    ``surrogate`` says which one the study hands over: that of the chosen ``trial``, or the ``untrained`` one where that
    is better on the validation data.  ``final_value`` is what the study minimises, of the trial after its final
    training.

    ``defaults`` is what the default hyperparameters reach without a search: ``network``, ``config`` and ``accuracy``;
    or ``left_out``, the reason why they were not trained.  ``untrained`` is the same of the surrogate that needs no
    training, with its ``value``.  Both are None in ledgers of early versions.
    """

    trial: int
    config: dict[str, Any]
    value: float
    accuracy: dict[str, Any]
    seconds: dict[str, float]
    defaults: dict[str, Any] | None = None
    untrained: dict[str, Any] | None = None
    surrogate: Literal["trial", "untrained"] = "trial"
    final_value: float | None = None

    def folder(self, study: Path) -> Path:
        """Where the surrogate and its figures are, in the folder of the study."""
        return study / FOLDER if self.surrogate == "untrained" else study


def chosen_of(trials: Sequence[LedgerTrial], tolerance: float) -> LedgerTrial:
    """The finished trial of the lowest value; of several objectives that of the lowest last one, among good trials.

    Good are those whose first objective is nearly the lowest; of these, those whose second is nearly the lowest among
    them; and so on, but for the last.

    Args:
        trials: finished ones, at least one.
        tolerance: what exceeds the lowest by up to this share is nearly the lowest.
    """
    good = list(trials)
    for n in range(len(good[0].others)):
        lowest = min(t.objectives[n] for t in good)
        good = [t for t in good if t.objectives[n] <= lowest + tolerance * abs(lowest)]
    return min(good, key=lambda t: (t.objectives[-1], *t.objectives, t.number))


def best_of(trials: Sequence[LedgerTrial], tolerance: float) -> LedgerTrial:
    """As ``chosen_of``, of trials in any state.

    Raises:
        StudyError: none came to its end; the message says why.
    """
    if done := [t for t in trials if t.value is not None]:
        return chosen_of(done, tolerance)
    causes = [f"trial {t.number}: {t.failure}" for t in trials if t.failure]
    if causes:
        raise StudyError(
            f"all {len(causes)} trials failed; {causes[0]}; mend [space] or [config] and start a new study"
        )
    stopped = sum(t.state == "stopped" for t in trials)
    raise StudyError(
        f"no trial came to its end, {stopped} were stopped; give the search more trials, budget or grace"
        if stopped
        else "the method proposed no config; widen [space] or change [options] and start a new study"
    )
