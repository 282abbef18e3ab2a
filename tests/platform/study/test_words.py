"""How far a search is, in words."""

import pytest

from dftune.platform.spec import StudySpec
from dftune.platform.study.words import Standing, seconds_left
from dftune.trainables.progress import duration


def test_a_search_says_how_far_it_is_its_best_and_the_time_left():
    values = {"name": "x", "dataset": "examples/al4", "method": "random", "trials": 12, "minimize": "band_energy_mae"}
    spec = StudySpec.of(values)
    now = 100.0
    standing = Standing(spec, lambda: now)
    standing.earlier(0, 9.5)  # of another session, which says nothing of the pace now
    for trial, value in ((1, 12.0), (2, None)):
        now += 60
        standing.told(trial, value)
    assert str(standing) == "3 of at most 12, best 9.5 meV/atom of trial 0"
    now += 60
    standing.told(3, 8.25)
    assert str(standing) == "4 of at most 12, best 8.25 meV/atom of trial 3, at most 8.0 min left"


def test_the_time_left_is_that_of_the_last_trials():
    assert seconds_left([0, 10], 5) is None
    assert seconds_left([20, 0, 10], 5) == 50
    assert seconds_left([0, 1000, *(1000 + n for n in range(1, 21))], 3) == pytest.approx(3)
    assert seconds_left([0, 1, 2], 0) is None


@pytest.mark.parametrize(
    "seconds, text", [(5, "5 s"), (90, "1.5 min"), (3600, "60 min"), (7200, "2.0 h"), (1e6, "12 d")]
)
def test_a_duration_is_said_in_its_largest_unit(seconds, text):
    assert duration(seconds) == text
