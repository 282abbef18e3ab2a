"""The one adapter that makes any of our methods a Ray Tune searcher.

tune.TuneConfig(search_alg=TuneSearcher(RandomSearch(space, seed=0), metric="loss"), num_samples=50)
"""

import math
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

from ray import tune

from .searcher import PastTrial, Pruned, Searcher, SeveralSearcher, Wait
from .space import Config
from .tune_private import Asked, asked_by_tune

FAILURE = "failure"  # key of a trial's last report that says why it failed
COMPLETE = "complete"  # key of a trial's last report that says it came to its own end


class Record(Protocol):
    """Where trials are written down: before a trial starts, as it reports, and before the method is told.

    ``stopped`` are those that ended without COMPLETE in a report: a scheduler stopped them.
    """

    def asked(self, trial: int, config: Config) -> None: ...

    def pruned(self, trial: int, config: Config) -> None: ...

    def reported(self, trial: int, result: Mapping[str, Any]) -> None: ...

    def lost(self, trial: int, cause: str) -> None: ...

    def told(
        self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None, stopped: bool
    ) -> None: ...


class NoRecord:
    """Trials are remembered by Ray Tune alone."""

    def asked(self, trial: int, config: Config) -> None:
        pass

    def pruned(self, trial: int, config: Config) -> None:
        pass

    def reported(self, trial: int, result: Mapping[str, Any]) -> None:
        pass

    def lost(self, trial: int, cause: str) -> None:
        pass

    def told(
        self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None, stopped: bool
    ) -> None:
        pass


class TuneDiffers(ValueError):
    """Ray Tune is asked for another metric or mode than the searcher."""


class TuneSearcher(tune.search.Searcher):
    """A Ray Tune searcher that asks one of our methods.

    Ray Tune stops the whole experiment at an exception in a searcher; so ours ends the search instead, and keeps
    the exception in ``error`` for the caller to raise.

    Schedulers may stop trials: the method is told the last value that such a trial reported.  Trials that a scheduler
    has paused do not count as concurrent, so that others run meanwhile.

    Args:
        searcher: the method.
        metric: the reported number to minimise or maximise; a trial whose last one is missing or not finite failed.
            By default that of the TuneConfig.
        mode: ``min`` or ``max``; by default that of the TuneConfig, or else ``min``.
        others: further reported numbers, to be minimised beside it; the method must be one that was made for as many,
            and a trial without one of them failed.
        max_trials: trials to train in all, those of ``history`` included; None leaves the end to the method and to
            ``num_samples`` of the TuneConfig, which counts as well.
        record: where trials are written down.
        history: trials of earlier sessions; unfinished ones are proposed again first, under their old number.
        interrupted: once True, no more is proposed, and trials that are cut off stay unfinished in the record, to be
            run again; so do those that an error in the method or the record cuts off.
        death: says of a trial that ended with an error (by Ray's id) why, and whether it is worth another start, as one
            is that was lost with its process or node.  It gets one.  By default none does.
        hold: while True, no new trial is proposed; the search ends if none under way changes that.
        package: what Ray Tune hands to the trainable for (trial number, config); by default the config.

    Raises:
        TuneDiffers: when the search begins, metric or mode is another one than the TuneConfig's, or nobody says the
            metric.
    """

    def __init__(
        self,
        searcher: Searcher,
        *,
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
        others: Sequence[str] = (),
        max_trials: int | None = None,
        record: Record | None = None,
        history: Sequence[PastTrial] = (),
        package: Callable[[int, Config], dict[str, Any]] = lambda trial, config: config,
        interrupted: Callable[[], bool] = lambda: False,
        death: Callable[[str], tuple[str, bool]] | None = None,
        hold: Callable[[], bool] = lambda: False,
    ) -> None:
        if mode not in ("min", "max", None):
            raise ValueError(f"mode '{mode}': give min or max")
        super().__init__(metric=metric, mode=mode)
        self._metric: str | None = metric  # Ray's own names
        self._mode: str | None = mode
        self._settled = False  # metric and mode are those of Ray Tune
        self.error: Exception | None = None
        self._searcher = searcher
        self._others = others
        self._max_trials = max_trials
        self._record: Record = record or NoRecord()
        self._package = package
        self._begun: dict[str, tuple[int, Config]] = {}  # Ray's trial id -> ours
        self._lost: set[int] = set()  # trials begun again since their process or node was lost
        self._unfinished = [(n, past.config) for n, past in enumerate(history) if not past.finished]
        self._asked = len(history)
        self._trained = sum(not past.pruned for past in history)
        self._interrupted, self._death, self._hold = interrupted, death, hold
        self._running: set[str] = set()  # Ray's ids
        self._paused: set[str] = set()
        self._most: int | None = None  # trials at once
        self._last: dict[str, dict[str, Any]] = {}  # last report of each that has not ended
        if history:
            searcher.replay(history)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        """What a TuneConfig asks for.  The space of a ``param_space`` is not taken: the method has its own."""
        self._settle(Asked(metric, mode, int(spec.get("num_samples", -1))))
        return False

    def _settle(self, asked: Asked) -> None:
        """Take metric and mode of Ray Tune, or refuse where they differ."""
        for what, ours, theirs in (("metric", self._metric, asked.metric), ("mode", self._mode, asked.mode)):
            if None not in (ours, theirs) and ours != theirs:
                raise TuneDiffers(f"TuneConfig has {what} '{theirs}', but TuneSearcher '{ours}'; leave one of them out")
        self._metric, self._mode = self._metric or asked.metric, self._mode or asked.mode or "min"
        if self._metric is None:
            raise TuneDiffers("nobody says the metric; give it to TuneSearcher or to TuneConfig")
        if asked.num_samples == 1 and (self._max_trials or 2) > 1:
            warnings.warn(
                "num_samples of TuneConfig is 1, so that one trial is run; give more, or -1 for all there are",
                stacklevel=2,
            )
        self._settled = True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._settled:
            self._settle(asked_by_tune() or Asked(None, None, -1))
        try:
            answer = self._suggest(trial_id)
        except Exception as error:
            self.error = error
            return self.FINISHED
        # Once told that all is proposed, Ray Tune would start a new process for each paused trial that goes on, and
        # never ask for one that is to be begun again.
        more = self._paused or (self._death is not None and self._running)
        return None if answer == self.FINISHED and more and not self._interrupted() else answer

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._interrupted():
            return self.FINISHED
        if self._most is not None and len(self._running - self._paused) >= self._most:
            return None
        if self._unfinished:
            number, config = self._unfinished.pop(0)
        elif self._hold():
            return None if self._running else self.FINISHED
        else:
            if self._max_trials is not None and self._trained >= self._max_trials:
                return self.FINISHED
            while isinstance(answer := self._searcher.ask(str(self._asked)), Pruned):
                self._record.pruned(self._asked, answer.config)
                self._asked += 1
            if isinstance(answer, Wait):
                return None
            if answer is None:
                return self.FINISHED
            number, config = self._asked, answer
            self._record.asked(number, config)
            self._asked, self._trained = self._asked + 1, self._trained + 1
        self._begun[trial_id] = number, config
        self._running.add(trial_id)
        return self._package(number, config)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Ray Tune's ``max_concurrent_trials``; True says that it is kept here."""
        self._most = max_concurrent
        return True

    def on_pause(self, trial_id: str) -> None:
        """A scheduler that pauses trials says so, as Ray Tune's for BOHB does."""
        self._paused.add(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """The trial goes on."""
        self._paused.discard(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._last[trial_id] = result
        try:
            if FAILURE not in result:
                self._record.reported(self._begun[trial_id][0], result)
        except Exception as error:
            self.error = error

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        result = result or self._last.get(trial_id, {})  # Ray Tune gives none for a paused trial
        number, config = self._begun[trial_id]
        for ids in (self._running, self._paused):
            ids.discard(trial_id)
        self._last.pop(trial_id, None)
        if (self._interrupted() or self.error is not None) and not (result.get(COMPLETE) or FAILURE in result):
            return
        failure, again = result.get(FAILURE), False
        if failure is None and error and COMPLETE not in result:
            failure = "its process died, or raised an error that Ray's log holds"
            if self._death is not None:
                failure, again = self._death(trial_id)
            if again and number in self._lost:
                failure, again = f"{failure}; for the second time", False
        for name in (self.metric, *self._others):
            if failure is None and not _is_finite(result.get(name)):
                failure = f"it reported no finite {name}"
        value = None if failure is not None else float(result[self.metric])
        try:
            if again:
                self._record.lost(number, str(failure))
                self._lost.add(number)
                self._unfinished.append((number, config))
                return
            self._record.told(number, value, result, failure, failure is None and COMPLETE not in result)
            if value is not None and self.mode == "max":
                value = -value
            others = [] if value is None else [float(result[name]) for name in self._others]
            cast(SeveralSearcher, self._searcher).tell(str(number), value, *others)
        except Exception as problem:
            problem.add_note("".join(traceback.format_tb(problem.__traceback__)[-1:]))
            self.error = problem

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles its searcher into the experiment's folder, and nobody reads it there."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: a search is rebuilt from its history, never from a pickled state."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: build a new TuneSearcher with the ``history`` instead."""
        raise RuntimeError("dftune searchers are not restored from a checkpoint: give TuneSearcher the history")


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
