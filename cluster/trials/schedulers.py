"""Ray Tune schedulers, which end trials early that fall behind others at the same epoch; smaller values are better.

All compare what trials report as ``epoch`` and as the metric.  Two of them decide as Ray's own.  HyperBand is ours,
with the brackets of its paper, because Ray's waits for ever for a trial that ended by itself, and cannot halve a
bracket that a method leaves incomplete while it waits for values.
"""

import math
import time
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from ..ray_private import end_trial, live_trials, searcher_of

IDLE = 0.5  # seconds without a trial to run after which a method is taken to wait for the paused ones


class InOrder(FIFOScheduler):
    """Trials in the order in which they were asked for.

    As Ray Tune's own, which looks through all trials there ever were, three times for each: 2 ms after 2,000.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._live: list[Trial] = []

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self._live.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        self._live = [trial for trial in self._live if not trial.is_finished()]
        return next((trial for trial in self._live if trial.status == Trial.PENDING), None)


class _Asha(InOrder, ASHAScheduler):
    pass


class _Median(InOrder, MedianStoppingRule):
    pass


def asha(metric: str, epochs: int, *, grace_epochs: int, reduction_factor: int) -> TrialScheduler:
    """Asynchronous successive halving (Li et al., MLSys 2 (2020)).

    Args:
        metric: what is compared.
        epochs: of a trial that is not stopped.
        grace_epochs: epochs before the first comparison.
        reduction_factor: of those that come to a comparison one in so many goes on, to so many times the epochs.
    """
    inner = _Asha(
        time_attr="epoch",
        metric=metric,
        mode="min",
        max_t=epochs,
        grace_period=grace_epochs,
        reduction_factor=reduction_factor,
        stop_last_trials=False,
    )
    return Comparing(inner, metric, epochs)


def median(metric: str, epochs: int, *, grace_epochs: int) -> TrialScheduler:
    """Median stopping (Golovin et al., KDD 2017): end a trial whose best is worse than the median of the others' means.

    Arguments as ``asha``.
    """
    # Without enough others to compare with Ray's would pause a trial, after which it would begin again.
    inner = _Median(time_attr="epoch", metric=metric, mode="min", grace_period=grace_epochs, min_time_slice=math.inf)
    return Comparing(inner, metric, epochs)


def hyperband(metric: str, epochs: int, *, reduction_factor: int, concurrent: int) -> TrialScheduler:
    """HyperBand, for trials that report a checkpoint after ``pause_epochs``.

    Arguments as ``asha``, and the most trials at once.
    """
    return Comparing(HyperBand(metric, epochs, reduction_factor, concurrent), metric, epochs)


def brackets(epochs: int, reduction_factor: int) -> list[tuple[int, tuple[int, ...]]]:
    """HyperBand's brackets: number of trials, and the epochs at which all but the best are stopped.

    Source: Li et al., JMLR 18, 185 (2018), Algorithm 1, the bracket with most trials first; epochs rounded down.
    """
    most = 0
    while reduction_factor ** (most + 1) <= epochs:
        most += 1
    found = []
    for s in range(most, -1, -1):
        n = -(-(most + 1) * reduction_factor**s // (s + 1))
        found.append((n, tuple(sorted({epochs // reduction_factor**i for i in range(s, 0, -1)}))))
    return found


def pause_epochs(epochs: int, reduction_factor: int) -> list[int]:
    """Epochs after which HyperBand may pause a trial, increasing."""
    return sorted({epoch for _, rungs in brackets(epochs, reduction_factor) for epoch in rungs})


class Comparing(FIFOScheduler):
    """A scheduler that sees of each trial one result an epoch, and none of its last epoch.

    Reports without the metric say why a trial failed, and one that repeats an epoch that it has come to its end: there
    is nothing to compare.  A metric that is not a number counts as worse than any.

    Args:
        inner: decides.
        metric: what it compares.
        epochs: the last epoch, after which nothing is left to save.
    """

    def __init__(self, inner: TrialScheduler, metric: str, epochs: int) -> None:
        super().__init__()
        self._inner, self._name, self._epochs = inner, metric, epochs
        self._seen: dict[str, int] = {}  # Ray's trial id -> epoch

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if "epoch" not in result or self._name not in result:
            return TrialScheduler.CONTINUE
        epoch, value = result["epoch"], result[self._name]
        if not self._seen.get(trial.trial_id, 0) < epoch < self._epochs:
            return TrialScheduler.CONTINUE
        self._seen[trial.trial_id] = epoch
        if math.isnan(value):
            result = result | {self._name: math.inf}
        return self._inner.on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if "epoch" in result and self._name in result:
            self._inner.on_trial_complete(tune_controller, trial, result)
        else:
            self._inner.on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return self._inner.choose_trial_to_run(tune_controller)


class HyperBand(FIFOScheduler):
    """HyperBand for trials that are asked for one after the other.

    A trial that reaches the next epoch of its bracket pauses until all those beside it have come there or ended, and
    the bracket holds as many as it should; then the best go on.  Where a method proposes nothing more before it knows
    their values, those that are there are compared, and later ones make up the rest of the bracket among themselves.

    The searcher is told of pauses (``on_pause``, ``on_unpause``), so that others run meanwhile.

    Args:
        metric: what is compared, smaller is better.
        epochs: of a trial that is not stopped.
        reduction_factor: one in so many goes on, rounded up.
        concurrent: most trials at once.

    Source: Li et al., JMLR 18, 185 (2018).
    """

    def __init__(self, metric: str, epochs: int, reduction_factor: int, concurrent: int) -> None:
        super().__init__()
        self._name, self._factor, self._concurrent = metric, reduction_factor, concurrent
        self._brackets = brackets(epochs, reduction_factor)
        self._opened = 0  # brackets so far
        self._room = 0  # trials that the last of them still takes
        self._groups: list[_Group] = []
        self._group_of: dict[str, _Group] = {}  # Ray's trial id -> group
        self._busy_at = time.monotonic()  # when a trial was last under way

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if self._room == 0:
            self._room = self._brackets[self._opened % len(self._brackets)][0]
            self._opened += 1
            self._open_group()
        elif not self._groups[-1].is_open:
            self._open_group()
        self._room -= 1
        group = self._groups[-1]
        group.live.append(trial)
        group.is_open = self._room > 0
        self._group_of[trial.trial_id] = group

    def _open_group(self) -> None:
        self._groups = [group for group in self._groups if group.live]
        self._groups.append(_Group(self._brackets[(self._opened - 1) % len(self._brackets)][1]))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        group = self._group_of[trial.trial_id]
        if not group.rungs or result["epoch"] < group.rungs[0]:
            return TrialScheduler.CONTINUE
        group.reached[trial.trial_id] = result[self._name]
        searcher_of(tune_controller).on_pause(trial.trial_id)
        return TrialScheduler.PAUSE

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        group = self._group_of.pop(trial.trial_id, None)
        if group is not None:
            group.live.remove(trial)
            group.reached.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self.on_trial_remove(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        under_way = [t for t in live_trials(tune_controller) if t.status in (Trial.PENDING, Trial.RUNNING)]
        if under_way:
            self._busy_at = time.monotonic()
        idle = time.monotonic() - self._busy_at > IDLE
        for group in self._groups:
            if group.has_arrived and (not group.is_open or idle):
                self._halve(group, tune_controller)
        if len(under_way) < self._concurrent:
            for group in self._groups:
                for trial in group.live:
                    if trial.status == Trial.PAUSED and trial.trial_id not in group.reached:
                        searcher_of(tune_controller).on_unpause(trial.trial_id)
                        return trial
        return next((t for t in under_way if t.status == Trial.PENDING), None)

    def _halve(self, group: "_Group", tune_controller: Any) -> None:
        ranking = sorted(group.live, key=lambda trial: group.reached[trial.trial_id])
        group.is_open, group.rungs, group.reached = False, group.rungs[1:], {}
        for trial in ranking[math.ceil(len(ranking) / self._factor) :]:
            end_trial(tune_controller, trial)


class _Group:
    """Trials of a bracket that are compared with each other.

    rungs: epochs at which they still will be.  reached: values at the next of them, by Ray's trial id.
    is_open: takes further trials.
    """

    def __init__(self, rungs: tuple[int, ...]) -> None:
        self.rungs, self.is_open = rungs, True
        self.live: list[Trial] = []
        self.reached: dict[str, float] = {}

    @property
    def has_arrived(self) -> bool:
        """All that have not ended are paused at the next rung."""
        return bool(self.live) and all(t.trial_id in self.reached and t.status == Trial.PAUSED for t in self.live)
