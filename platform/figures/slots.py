"""When each trial ran, and how many ran beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..ledger.trial import LedgerTrial
from ..spec import StudySpec
from .trials import NotDrawn

PAUSE = 60.0  # seconds without any trial that are left out: the study was stopped


@dataclass(frozen=True)
class Slots:
    """Trials as bars, those that ran at once in different rows.

    bars: (trial, row, begin, end), by begin [s]; a trial that still runs ends at the last event of the study.
    n_rows: most trials at once.
    pauses: where time in which no trial ran is left out [s].
    unit, size: of the axis, and its seconds.
    """

    bars: list[tuple[LedgerTrial, int, float, float]]
    n_rows: int
    pauses: list[float]
    unit: str
    size: float


def slots(trials: Sequence[LedgerTrial], spec: StudySpec) -> Slots:
    """When each trial ran; a trial takes the first row that is free."""
    ran = sorted((t for t in trials if math.isfinite(t.started_at) and t.state != "pruned"), key=lambda t: t.started_at)
    if not ran:
        raise NotDrawn("no trial has begun")
    last = max(t.ended_at or t.started_at for t in ran)
    origin = until = ran[0].started_at
    rows: list[float] = []  # when each was last in use
    bars, pauses = [], []
    for trial in ran:
        begin, end = trial.started_at, max(trial.ended_at or last, trial.started_at)
        if begin - until > PAUSE:
            pauses.append(until - origin)
            origin += begin - until
        until = max(until, end)
        row = next((i for i, busy in enumerate(rows) if busy <= begin), len(rows))
        rows[row:] = [end, *rows[row + 1 :]]
        bars.append((trial, row, begin - origin, end - origin))
    total = until - origin
    size, unit = (3600.0, "h") if total > 7200 else (60.0, "min") if total > 120 else (1.0, "s")
    return Slots(bars, len(rows), pauses, unit, size)
