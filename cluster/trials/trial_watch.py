"""What becomes of the processes of trials: ended when they take too long, and why they died."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune

from ..ray_private import actor_of, forget_metrics

STEP_SECONDS = 5.0  # at most so much of the time between two looks is a trial's: more, and the driver was frozen


class TrialWatch(tune.Callback):
    """Ends the process of a trial that has run for longer than ``time_limit`` [s], pauses not counted.

    From outside, since a trial that hangs can no longer end itself.
    What Ray Tune hoards of trials that have ended is let go.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self._time_limit = time_limit
        self._trials: list[Any] = []  # Ray Tune's, all of them
        self._running: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._overdue: set[str] = set()
        self._looked = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running[trial.trial_id] = trial

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)
        forget_metrics(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        passed, self._looked, self._trials = min(now - self._looked, STEP_SECONDS), now, trials
        if self._time_limit is None:
            return
        for name, trial in self._running.items():
            if trial.status != trial.RUNNING:
                continue
            self._seconds[name] = self._seconds.get(name, 0.0) + passed
            actor = actor_of(trial)
            if self._seconds[name] > self._time_limit and name not in self._overdue and actor is not None:
                self._overdue.add(name)
                ray.kill(actor)

    def death(self, trial_id: str) -> tuple[str, bool]:
        """Why the process of a trial died, and whether the trial is worth another start."""
        if trial_id in self._overdue:
            return f"it took longer than its time limit of {self._time_limit:g} s ([resources] time_limit)", False
        error = ""
        with suppress(StopIteration, OSError, TypeError):  # Ray Tune has not come to write it
            trial = next(t for t in self._trials if t.trial_id == trial_id)
            error = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        return cause_of_death(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return TrialWatch, ()  # Ray Tune pickles it into a folder that nobody reads


def cause_of_death(error: str) -> tuple[str, bool]:
    """What an error of Ray's says in one line, and whether a trial that it struck is worth another start.

    Args:
        error: text of the error.
    """
    text = " ".join(error.split())
    if "running low on memory" in text or "OutOfMemoryError" in text:
        return "out of memory: Ray ended it when its node ran low; set [resources] memory, or fewer concurrent", False
    if re.search(r"\bnode (has )?(died|is dead|was terminated|was preempted)|NodeDied", text):
        return "its node was lost", True
    if "ActorUnavailableError" in text or re.search(r"\bactor \w+ is unavailable", text):
        return "its process or node could not be reached any more", True
    if "actor died" in text or "actor is dead" in text or "worker" in text.lower():
        return "its process died: killed, crashed, or ended by the system for want of memory", True
    last = next((line.strip() for line in reversed(error.splitlines()) if line.strip()), "")
    return f"it raised an error: {last[:300]}" if last else "its process died, and Ray does not say why", not last
