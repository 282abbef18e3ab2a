"""What a search writes down as it goes, and when it has had enough."""

import math

import pytest

from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.score_quality import qualities
from dftune.platform.progress import Silent
from dftune.platform.spec import StudySpec
from dftune.platform.study.errors import SearchStopped
from dftune.platform.study.known_scores import SavedScores
from dftune.platform.study.record import Record
from dftune.searchers.tune_searcher import COMPLETE, FAILURE

CONFIG = {"width": 8}
SPACE = {"width": {"type": "int", "low": 4, "high": 64}}


def open_ledger(folder, **settings):
    spec = StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": SPACE, "method": "random", **settings})
    return Ledger.create(folder / "ledger.db", spec, "0" * 64)


def record_of(ledger, scores=None):
    return Record(ledger, ledger.spec, lambda config: dict(scores or {}), Silent())


def report(epoch, **numbers):
    found = {
        "epoch": epoch,
        "validation_loss": 1.0,
        "best_loss": 1.0,
        "grid_points": 1000 * epoch,
        "seconds": 2.0 * epoch,
    }
    return found | numbers


def fail(record, trial):
    record.asked(trial, CONFIG)
    record.told(trial, None, {FAILURE: "the loss was NaN"}, "the loss was NaN", False)


def finish(record, trial, epoch=3):
    record.asked(trial, CONFIG)
    record.told(trial, 1.0, report(epoch, **{COMPLETE: True}), None, False)


def test_the_ledger_keeps_of_a_report_what_it_knows(tmp_path):
    ledger = open_ledger(tmp_path)
    record = record_of(ledger)
    record.asked(0, CONFIG)
    record.told(0, 1.0, report(3, memory_mb=math.nan, hostname="here", **{COMPLETE: True}), None, False)
    assert ledger.trials()[0].result == {"epoch": 3, "best_loss": 1.0, "grid_points": 3000, "seconds": 6.0}


def test_a_failed_trial_keeps_what_it_has_cost_and_the_budget_counts_it(tmp_path):
    ledger = open_ledger(tmp_path, budget={"grid_points": 1500})
    record = record_of(ledger)
    record.asked(0, CONFIG)
    record.reported(0, report(2))
    record.told(0, None, {FAILURE: "the loss was NaN"}, "the loss was NaN", False)
    (trial,) = ledger.trials()
    assert (trial.state, trial.seconds, trial.result["grid_points"]) == ("failed", 4.0, 2000)
    assert record.budget_used_up
    assert record_of(ledger).budget_used_up, "in the next session too"


@pytest.mark.parametrize(
    "budget, trials",
    [({"grid_points": 6001}, 3), ({"grid_points": 6000}, 2), ({"seconds": 12.5}, 3),
     ({"grid_points": 1e9, "seconds": 5}, 1), ({"grid_points": 10, "seconds": 1e9}, 1)],
)  # fmt: skip
def test_the_budget_is_used_up_by_all_trials_together(tmp_path, budget, trials):
    record = record_of(open_ledger(tmp_path, budget=budget))
    for n in range(trials):
        assert not record.budget_used_up
        finish(record, n)
    assert record.budget_used_up


def test_trials_under_way_count_for_the_budget_by_their_last_report(tmp_path):
    ledger = open_ledger(tmp_path, budget={"grid_points": 3500})
    record = record_of(ledger)
    for n in (0, 1):
        record.asked(n, CONFIG)
        record.reported(n, report(1))
    assert not record.budget_used_up
    record.reported(0, report(2))
    record.reported(1, report(2))
    assert record.budget_used_up
    assert not record_of(ledger).budget_used_up, "a trial that starts again has used nothing"


def test_no_budget_is_never_used_up(tmp_path):
    record = record_of(open_ledger(tmp_path))
    finish(record, 0, epoch=10**9)
    assert not record.budget_used_up


def test_three_failures_and_nothing_else_are_hopeless(tmp_path):
    ledger = open_ledger(tmp_path)
    record = record_of(ledger)
    for trial in range(2):
        fail(record, trial)
    record.pruned(2, CONFIG)
    assert not record.hopeless, "a pruned candidate has not failed"
    fail(record, 3)
    assert record.hopeless
    assert record_of(ledger).hopeless
    finish(record, 4)
    assert not record.hopeless


def test_pruned_candidates_are_written_with_their_scores(tmp_path):
    ledger = open_ledger(tmp_path, method="optuna+rfr")
    record_of(ledger, {"rfr": -3.0}).pruned(0, CONFIG)
    (trial,) = ledger.trials()
    assert (trial.state, trial.scores) == ("pruned", {"rfr": -3.0})


def test_scores_that_cannot_be_formed_and_pruned_candidates_do_not_count_in_the_quality_of_a_score(tmp_path):
    ledger = open_ledger(tmp_path)
    scores = [1.0, math.nan, 3.0, 2.0]
    for n, score in enumerate(scores):
        ledger.asked(n, CONFIG, seed=0, scores={"rfr": score, "first_width": float(n)})
        ledger.told(n, 10.0 - 3 * n, {}, None)
    ledger.pruned(4, CONFIG, scores={"rfr": 9.0, "first_width": 9.0})
    ledger.asked(5, CONFIG, seed=0, scores={"first_width": 5.0})  # its score was not known in time
    ledger.told(5, 20.0, {}, None)
    rfr, first_width = qualities(ledger.trials(), "rfr")
    assert (rfr.name, rfr.n_trials, rfr.tau) == ("rfr", 3, pytest.approx(1 / 3))
    assert rfr.regret == pytest.approx(4.0 / 1.0 - 1)
    assert (first_width.name, first_width.n_trials) == ("first_width", 5)


def test_scores_come_back_from_their_file(tmp_path):
    saved = SavedScores(tmp_path / "scores.json")
    assert saved.read() == {}
    known = {((8, 16), "relu"): -0.5, ((4,), "tanh"): 1.25}
    saved.write(known, at_once=True)
    assert SavedScores(tmp_path / "scores.json").read() == known
    saved.write({}, at_once=False)
    assert saved.read() == known, "not more often than every two seconds"


@pytest.mark.parametrize("text", ["", "[", "{}x", '[{"hidden": [4]}]', '[{"width": 4, "score": 1.0}]', "[3]"])
def test_a_damaged_file_of_scores_is_said(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(SearchStopped, match=r"scores.json: damaged; remove it to have the scores computed again"):
        SavedScores(tmp_path / "scores.json").read()
