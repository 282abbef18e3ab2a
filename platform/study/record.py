"""Trials written down, in the ledger and in the progress, as they are asked for, report and end."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ...searchers.space import Config
from ..ledger.ledger import Ledger
from ..ledger.trial import State
from ..progress import Progress
from ..spec import StudySpec
from .words import Standing, ending, reached

HOPELESS = 3  # this many failed trials and no finished one end a study
ALWAYS_KEPT = ("epoch", "seconds")  # of a trial's last report, besides what its kind names


class Record:
    """Writes trials to the ledger and to the progress, as they are asked for, report and end.

    Args:
        ledger: of the study.
        spec: of the study.
        scores_of: the training-free scores of a config, by name.
        progress: where to say what happens.
    """

    def __init__(
        self, ledger: Ledger, spec: StudySpec, scores_of: Callable[[Config], dict[str, float]], progress: Progress
    ) -> None:
        self._ledger, self._spec, self._scores_of, self._progress = ledger, spec, scores_of, progress
        kind = spec.of_kind
        measures = (*kind.values.values(), *kind.costs.values(), kind.compute, spec.value_measure)
        self._kept = (*ALWAYS_KEPT, *(measure.report for measure in measures), *kind.kept)
        self._states: dict[int, State] = {t.number: t.state for t in ledger.trials()}
        self._counts = Counter(self._states.values())
        self._reports: dict[int, dict[str, Any]] = {}  # the latest of each trial
        self._spent = {kind.compute.report: 0.0, "seconds": 0.0}  # by all trials, as they reported
        self._standing = Standing(spec)
        for trial in ledger.trials():
            self._keep(trial.number, trial.result)
            if trial.state not in ("running", "pruned"):
                self._standing.earlier(trial.number, trial.value)
        self._remarked = False

    @property
    def hopeless(self) -> bool:
        """Whether so many trials have failed that further ones would, too."""
        return self._counts["failed"] >= HOPELESS and not self._counts["finished"] + self._counts["stopped"]

    @property
    def budget_used_up(self) -> bool:
        """Whether all trials together have used what they may."""
        limits = self._spec.budget.model_dump() if self._spec.budget is not None else {}
        return any(limit is not None and self._spent[name] >= limit for name, limit in limits.items())

    def asked(self, trial: int, config: Config) -> None:
        """A trial is about to start."""
        self._ledger.asked(trial, config, seed=self._spec.trial_seed(trial), scores=self._scores_of(config))
        self._is_now(trial, "running")

    def pruned(self, trial: int, config: Config) -> None:
        """A candidate is ruled out by its score."""
        self._ledger.pruned(trial, config, scores=self._scores_of(config))
        self._is_now(trial, "pruned")
        self._show(f"candidate {trial} pruned by its score")

    def reported(self, trial: int, result: Mapping[str, Any]) -> None:
        """A trial has done an epoch."""
        value = result[self._spec.metric]
        self._keep(trial, self._part_kept(result))
        self._ledger.reported(trial, result["epoch"], value)
        if not self._remarked and (said := self._spec.of_kind.remark([self._reports[trial]])):
            self._progress.say(said)
            self._remarked = True
        self._show(f"trial {trial}: epoch {result['epoch']}, {reached(self._spec, value)}")

    def lost(self, trial: int, cause: str) -> None:
        """A trial's process is lost."""
        self._ledger.lost(trial, cause)
        self._progress.say(f"trial {trial}: {cause}; it is begun again")

    def told(
        self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None, stopped: bool
    ) -> None:
        """A trial has ended."""
        # The last report of a failed trial says only why it failed; the one before says what the trial has cost.
        numbers = self._reports.get(trial, {}) | self._part_kept(result)
        self._ledger.told(trial, value, numbers, failure, stopped=stopped)
        self._is_now(trial, "failed" if value is None else "stopped" if stopped else "finished")
        self._keep(trial, numbers)
        if value is not None or failure is not None:
            self._standing.told(trial, None if stopped else value)
            said = ending(trial, self._spec, value, result, failure, stopped=stopped)
            self._progress.say(f"{said} ({self._standing})")
        self._show("")

    def _part_kept(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a report that the ledger keeps."""
        return {name: result[name] for name in self._kept if name in result and math.isfinite(result[name])}

    def _keep(self, trial: int, report: dict[str, Any]) -> None:
        before = self._reports.get(trial, {})
        for name in self._spent:
            self._spent[name] += report.get(name, 0) - before.get(name, 0)
        self._reports[trial] = report

    def _is_now(self, trial: int, state: State) -> None:
        if trial in self._states:
            self._counts[self._states[trial]] -= 1
        self._states[trial] = state
        self._counts[state] += 1

    def _show(self, text: str) -> None:
        # How many there will be, the method alone knows; there will be no more than this.
        said = "; ".join([*self._standing.best(), *([text] if text else [])])
        self._progress.update("trials", self._standing.ended, self._spec.trials, said)
