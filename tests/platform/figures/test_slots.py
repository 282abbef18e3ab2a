"""When trials ran: rows of bars against a count of its own."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from dftune.platform.figures.slots import slots
from dftune.platform.figures.trials import NotDrawn
from dftune.platform.ledger.trial import LedgerTrial
from dftune.tests.platform.figures.test_trials import SPEC, TRIALS


def test_no_two_bars_of_a_row_overlap_and_rows_are_as_many_as_ran_at_once():
    data = slots(TRIALS, SPEC)
    ran = [t for t in TRIALS if t.state != "pruned"]
    assert [trial.number for trial, *_ in data.bars] == [t.number for t in ran]
    last = max(t.ended_at for t in ran if t.ended_at)
    span = {t.number: (t.started_at, t.ended_at or last) for t in ran}
    assert data.n_rows == max(sum(b <= begin < e for b, e in span.values()) for begin, _ in span.values())
    for row in range(data.n_rows):
        bars = [(begin, end) for _, at, begin, end in data.bars if at == row]
        assert all(after[0] >= before[1] for before, after in pairwise(bars))
    for trial, _, begin, end in data.bars:
        assert (begin, end) == pytest.approx(tuple(at - TRIALS[0].started_at for at in span[trial.number]))
    assert (data.unit, data.size, data.pauses) == ("s", 1.0, [])


def test_time_in_which_the_study_was_stopped_is_left_out():
    trials = [LedgerTrial(n, {}, "finished", 1.0, started_at=at, ended_at=at + 100) for n, at in enumerate((50, 1e6))]
    data = slots(trials, SPEC)
    assert [bar[1:] for bar in data.bars] == [(0, 0.0, 100.0), (0, 100.0, 200.0)]
    assert (data.pauses, data.unit, data.n_rows) == ([100.0], "min", 1)


def test_trials_that_never_ran_are_no_figure():
    with pytest.raises(NotDrawn, match="no trial has begun"):
        slots([replace(TRIALS[0], started_at=math.nan), replace(TRIALS[4], started_at=1.0, state="pruned")], SPEC)
