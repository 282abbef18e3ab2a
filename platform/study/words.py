"""Trials and configs in words, one line each."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...searchers.searcher import Explains
from ...trainables.progress import duration
from ..ledger.ledger import Ledger
from ..ledger.trial import LedgerTrial
from ..methods import Own
from ..spec import StudySpec


def failures(trials: Sequence[LedgerTrial]) -> str:
    """How many trials are in each state, in brackets, and why the first that failed did."""
    states = ", ".join(f"{n} {state}" for state, n in Counter(t.state for t in trials).items())
    cause = next((f"; trial {t.number}: {t.failure}" for t in trials if t.failure), "")
    return f"({states or 'no trials'}){cause}"


def explained(ledger: Ledger, own: Own) -> list[str]:
    """What the method says about the trials of a study, in lines; none if it says nothing, or is not here."""
    spec = ledger.spec
    if not spec.has_method(own):
        return []
    score = spec.score(own)
    known = {tuple(t.config.items()): t.scores.get(score or "") for t in ledger.trials()}
    searcher = spec.searcher(lambda configs: [known.get(tuple(c.items())) for c in configs], own)
    if not isinstance(searcher, Explains):
        return []
    searcher.replay(ledger.history())
    return searcher.explanation()


def describe(config: Mapping[str, Any]) -> str:
    """A config in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in config.items()
    )


def reached(spec: StudySpec, value: float) -> str:
    """A value with its name and unit."""
    return f"{spec.value_name} {value:.4g}{spec.value_measure.suffix}"


def ending(
    trial: int, spec: StudySpec, value: float | None, result: Mapping[str, Any], failure: str | None, *, stopped: bool
) -> str:
    """How a trial ended, in one line.

    Args:
        trial: its number.
        spec: of the study.
        value: what it reached, None if it failed.
        result: its last report.
        failure: why it failed.
        stopped: a scheduler stopped it.
    """
    if value is None:
        return f"trial {trial} failed: {failure}"
    early = f", stopped after epoch {result['epoch']}" if stopped else ""
    return f"trial {trial}: {reached(spec, value)} in {result.get('seconds', float('nan')):.1f} s{early}"


RECENT = 20  # trials by whose pace the time left is estimated


def seconds_left(ends: Sequence[float], left: int) -> float | None:
    """The time that trials still allowed take at the pace of the last ones; None while too few have ended [s].

    Args:
        ends: when trials of this session ended, in any order [s].
        left: trials.
    """
    last = sorted(ends)[-RECENT:]
    return left * (last[-1] - last[0]) / (len(last) - 1) if left > 0 and len(last) > 2 else None


class Standing:
    """How far a search is, in a few words: trials ended, the best of them, the time left.

    Args:
        spec: of the study.
        clock: the time [s].
    """

    def __init__(self, spec: StudySpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec, self._clock = spec, clock
        self._best: tuple[float, int] | None = None
        self._ends: list[float] = []
        self.ended = 0

    def earlier(self, trial: int, value: float | None) -> None:
        """A trial had ended before this session."""
        self.ended += 1
        if value is not None:
            self._best = min(self._best or (value, trial), (value, trial))

    def told(self, trial: int, value: float | None) -> None:
        """A trial has ended now, with a value if it can be chosen."""
        self.earlier(trial, value)
        self._ends.append(self._clock())

    def best(self) -> list[str]:
        """The best trial and the time left, as far as they are known."""
        found = []
        if self._best is not None:
            found.append(f"best {self._best[0]:.4g}{self._spec.value_measure.suffix} of trial {self._best[1]}")
        if (left := seconds_left(self._ends, self._spec.trials - self.ended)) is not None:
            found.append(f"at most {duration(left)} left")
        return found

    def __str__(self) -> str:
        return ", ".join([f"{self.ended} of at most {self._spec.trials}", *self.best()])
