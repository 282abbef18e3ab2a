"""The ledger: what is written comes back, whoever reads it, and errors are said."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import optuna
import pytest
from optuna.trial import TrialState

from dftune.platform.ledger import ledger as ledger_module
from dftune.platform.ledger import places
from dftune.platform.ledger.lease import Folder, Lease
from dftune.platform.ledger.ledger import Ledger, LedgerError
from dftune.platform.ledger.places import Database, LedgerFile
from dftune.platform.spec import StudySpec
from dftune.searchers.searcher import PastTrial
from dftune.tests.room import files_of_at_most
from dftune.trainables.errors import InputError

SPACE = {
    "width": {"type": "int", "low": 4, "high": 64, "log": True},
    "activation": {"type": "choice", "values": ["relu", "tanh"]},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "weight_decay": {"type": "float", "low": 0.0, "high": 1.0, "when": {"activation": ["tanh"]}},
}
CONFIG = {"width": 8, "activation": "relu", "learning_rate": 1.2345678901234567e-3}
REPORT = {"epoch": 7, "best_loss": 0.25, "seconds": 2.0, "grid_points": 7000, "n_parameters": 900}


def spec(**settings):
    return StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": SPACE, "method": "optuna", **settings})


@pytest.fixture(params=["file", "database"])
def place(request, tmp_path):
    """Where a ledger may be kept."""
    return (
        Database(request.getfixturevalue("database")) if request.param == "database" else LedgerFile(tmp_path / "l.db")
    )


@pytest.fixture
def ledger(place):
    """A ledger in a file, then one in a database."""
    with closing(Ledger.create(place, spec(), "0" * 64)) as ledger:
        yield ledger


@pytest.fixture
def weighed(place):
    """The ledger of a study of two objectives."""
    with closing(Ledger.create(place, spec(minimize=["validation_loss", "n_parameters"]), "0" * 64)) as ledger:
        yield ledger


@pytest.fixture
def in_file(tmp_path):
    with closing(Ledger.create(tmp_path / "ledger.db", spec(), "0" * 64)) as ledger:
        yield ledger


def again(ledger):
    return Ledger.open(ledger.place, ledger.spec.name)


def url_of(place):
    """As any Optuna tool takes it."""
    if isinstance(place, LedgerFile):
        return f"sqlite:///{place.path}"
    return place._url.render_as_string(hide_password=False)


def ask(ledger, *numbers, **scores):
    for number in numbers:
        ledger.asked(number, CONFIG, seed=number, scores=scores)


def test_a_trial_is_one_row_from_the_start(ledger):
    before = time.time()
    ledger.asked(0, CONFIG, seed=3, scores={"rfr": 1.5})
    (trial,) = again(ledger).trials()
    assert (trial.number, trial.config, trial.state) == (0, CONFIG, "running")
    assert (trial.seed, trial.scores, trial.value, trial.others, trial.result) == (3, {"rfr": 1.5}, None, (), {})
    assert before - 1 < trial.started_at < time.time() + 1
    assert trial.ended_at is None
    assert again(ledger).spec == ledger.spec
    assert again(ledger).dataset_sha256 == "0" * 64


def test_a_config_comes_back_to_the_last_digit_and_without_what_does_not_exist(ledger):
    ledger.asked(0, CONFIG, seed=0, scores={})
    ledger.asked(1, CONFIG | {"activation": "tanh", "weight_decay": 0.1 + 0.2}, seed=0, scores={})
    configs = [t.config for t in again(ledger).trials()]
    assert configs == [CONFIG, CONFIG | {"activation": "tanh", "weight_decay": 0.1 + 0.2}]
    assert [list(c) for c in configs] == [[n for n in SPACE if n in c] for c in configs]
    assert [type(v) for v in configs[0].values()] == [int, str, float]


def test_a_finished_trial_has_value_report_and_times(ledger):
    ask(ledger, 0)
    ledger.told(0, 0.25, REPORT, None)
    (trial,) = again(ledger).trials()
    assert (trial.state, trial.value, trial.others, trial.failure) == ("finished", 0.25, (), None)
    assert (trial.result, trial.seconds) == (REPORT, 2.0)
    assert trial.started_at <= trial.ended_at < time.time() + 1


def test_a_failed_trial_has_its_cause_and_what_it_cost_but_no_value(ledger):
    ask(ledger, 0)
    ledger.told(0, None, REPORT, "the loss was NaN")
    (trial,) = again(ledger).trials()
    assert (trial.state, trial.value, trial.failure, trial.result) == ("failed", None, "the loss was NaN", REPORT)


def test_a_pruned_candidate_was_never_trained_and_keeps_its_score(ledger):
    ledger.pruned(0, CONFIG, scores={"rfr": -0.5, "first_width": 8.0})
    (trial,) = again(ledger).trials()
    assert (trial.state, trial.value, trial.others, trial.seed) == ("pruned", None, (), None)
    assert (trial.config, trial.scores) == (CONFIG, {"rfr": -0.5, "first_width": 8.0})
    assert (trial.result, trial.failure, trial.seconds) == ({}, None, None)
    assert trial.ended_at is not None


def test_a_stopped_trial_has_its_report_but_no_value_to_compare(ledger):
    ask(ledger, 0)
    ledger.told(0, 0.25, REPORT, None, stopped=True)
    (trial,) = again(ledger).trials()
    assert (trial.state, trial.value, trial.failure) == ("stopped", None, None)
    assert (trial.result, trial.seconds) == (REPORT, 2.0)


def test_a_stopped_trial_without_a_value_failed(ledger):
    ask(ledger, 0)
    ledger.told(0, None, {}, "it reported no finite best_loss", stopped=True)
    assert again(ledger).trials()[0].state == "failed"


def test_the_history_is_what_the_method_was_told(ledger):
    ask(ledger, 0, 1, 2)
    ledger.pruned(3, CONFIG, scores={})
    ask(ledger, 4)
    ledger.told(0, 0.5, REPORT, None)
    ledger.told(1, None, REPORT, "diverged")
    ledger.told(2, 0.25, REPORT, None, stopped=True)
    assert again(ledger).history() == [
        PastTrial("0", CONFIG, True, 0.5),
        PastTrial("1", CONFIG, True, None),
        PastTrial("2", CONFIG, True, 0.25),
        PastTrial("3", CONFIG, True, None, pruned=True),
        PastTrial("4", CONFIG, False, None),
    ]


def test_the_history_of_two_objectives_has_the_costs(weighed):
    ask(weighed, 0, 1, 2, 3)
    weighed.told(0, 0.5, REPORT, None)
    weighed.told(1, 0.75, REPORT, None, stopped=True)
    weighed.told(2, None, {}, "diverged")
    assert again(weighed).history() == [
        PastTrial("0", CONFIG, True, 0.5, (900.0,)),
        PastTrial("1", CONFIG, True, 0.25, (900.0,)),
        PastTrial("2", CONFIG, True, None),
        PastTrial("3", CONFIG, False, None),
    ]


def test_both_objectives_come_back(weighed):
    ask(weighed, 0, 1)
    weighed.told(0, 0.5, REPORT, None)
    weighed.told(1, 0.25, REPORT | {"n_parameters": 2000}, None)
    weighed.pruned(2, CONFIG, scores={})
    assert [t.objectives for t in again(weighed).trials()] == [(0.5, 900.0), (0.25, 2000.0), ()]


# ---------------------------------------------------------------- as Optuna's own tools see it


def test_optuna_sees_states_reports_and_attributes(ledger):
    ask(ledger, 0, 1, 2, 3, rfr=-1.5)
    ledger.reported(0, 3, 0.5)
    ledger.reported(0, 4, 0.4)  # within a second of the one before
    ledger.told(0, 0.25, REPORT, None)
    ledger.told(1, None, {}, "diverged")
    ledger.told(2, 0.4, REPORT, None, stopped=True)
    ledger.pruned(4, CONFIG, scores={"rfr": -9.0})
    study = optuna.load_study(study_name="kept", storage=url_of(ledger.place))
    assert [t.state for t in study.trials] == [
        TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING, TrialState.PRUNED
    ]  # fmt: skip
    assert (study.best_value, study.best_trial.number, study.best_params) == (0.25, 0, CONFIG)
    assert study.trials[0].intermediate_values == {3: 0.5}
    assert [t.reported for t in again(ledger).trials()[:2]] == [(3, 0.5), None]
    assert study.trials[0].user_attrs == {"seed": 0, "score:rfr": -1.5, "result": REPORT}
    assert study.trials[4].user_attrs == {"score:rfr": -9.0}
    assert study.metric_names == ["validation_loss"]
    assert study.trials[0].duration is not None


def test_optuna_finds_the_pareto_front_of_two_objectives(weighed):
    found = [(0.5, 100), (0.4, 200), (0.45, 300), (0.3, 400), (0.6, 90), (0.7, 500)]
    ask(weighed, *range(len(found)))
    for number, (value, size) in enumerate(found):
        weighed.told(number, value, {"n_parameters": size}, None)
    weighed.pruned(len(found), CONFIG, scores={})
    study = optuna.load_study(study_name="kept", storage=url_of(weighed.place))
    assert study.metric_names == ["validation_loss", "n_parameters"]
    assert {t.number for t in study.best_trials} == {0, 1, 3, 4}
    assert [t.values for t in study.trials[:2]] == [[0.5, 100.0], [0.4, 200.0]]


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"minimize": "band_energy_mae"}, ["band_energy_mae"]),
        ({"minimize": ["validation_loss", "inference_time"]}, ["validation_loss", "inference_time"]),
    ],
)
def test_objectives_have_their_names(place, settings, names):
    Ledger.create(place, spec(**settings), "0" * 64).close()
    assert optuna.load_study(study_name="kept", storage=url_of(place)).metric_names == names


# ---------------------------------------------------------------- refusals


def test_a_second_writer_is_noticed_and_writes_nothing(ledger):
    ask(ledger, 0)
    with pytest.raises(LedgerError, match="another process has added trials"):
        ledger.asked(5, CONFIG, seed=3, scores={})
    other = again(ledger)
    other.pruned(1, CONFIG, scores={})
    with pytest.raises(LedgerError, match="another process has added trials"):
        ledger.asked(1, CONFIG, seed=1, scores={})
    assert [t.state for t in again(ledger).trials()] == ["running", "pruned"]


def test_a_ledger_of_another_version_is_refused(in_file):
    with sqlite3.connect(in_file.place.path) as database:
        (text,) = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'dftune'").fetchone()
        changed = json.dumps(json.loads(text) | {"version": 99})
        database.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'dftune'", (changed,))
    with pytest.raises(LedgerError, match=r"ledger of another version \(99, this dftune writes \d+\); use the dftune"):
        again(in_file)


@pytest.mark.parametrize(
    "content, text",
    [
        (b"not a database at all, but long enough to look like one" * 40, "cannot be read"),
        (b"", "not the ledger of a study"),
    ],
)
def test_a_damaged_ledger_is_refused(content, text, tmp_path):
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerError, match=text) as error:
        Ledger.open(tmp_path / "ledger.db")
    assert "\n" not in str(error.value)


def test_an_optuna_study_of_somebody_else_is_refused(tmp_path):
    optuna.create_study(study_name="theirs", storage=f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(LedgerError, match="an Optuna storage, but not the ledger of one dftune study"):
        Ledger.open(tmp_path / "ledger.db")


def test_a_ledger_that_cannot_be_written_is_said_in_one_line(in_file):
    ask(in_file, 0)
    with sqlite3.connect(in_file.place.path) as database:
        database.execute("DROP TABLE trial_user_attributes")
    with pytest.raises(LedgerError, match=r"cannot be written: no such table: trial_user_attributes$"):
        in_file.told(0, 1.0, REPORT, None)


def test_what_the_study_came_to_is_kept(ledger):
    assert ledger.conclusion() is None
    ledger.conclude({"trial": 3, "value": 0.25})
    assert again(ledger).conclusion() == {"trial": 3, "value": 0.25}


# ---------------------------------------------------------------- a database that is locked, full or away


@pytest.fixture
def impatient(in_file, tmp_path, monkeypatch):
    """The ledger as its holder has it, which waits less long; and what it says meanwhile."""
    monkeypatch.setattr(places, "LOCKED_SECONDS", 0.1)
    monkeypatch.setattr(ledger_module, "RETRY_SECONDS", 1.0)
    found, said = again(in_file), []
    found.claim(Lease(Folder(tmp_path), 1), said.append)
    ask(found, 0)
    return found, said


def while_locked(path, seconds):
    """Lock the database, and let it go after some time."""
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(seconds, database.close)
    timer.start()
    return timer


def test_a_database_that_is_locked_for_a_while_is_waited_for_with_a_message(impatient):
    ledger, said = impatient
    ledger.patience = 60.0
    timer = while_locked(ledger.place.path, 1.0)
    ledger.told(0, 0.25, REPORT, None)
    timer.join()
    assert said == [
        f"the ledger {ledger.place.path} cannot be used: database is locked; trying for 60 s",
        f"the ledger {ledger.place.path} can be used again",
    ]
    assert again(ledger).trials()[0].value == 0.25


def test_a_database_that_stays_locked_is_given_up_in_one_line(impatient):
    ledger, said = impatient
    timer = while_locked(ledger.place.path, 1000.0)
    with pytest.raises(LedgerError) as error:
        ledger.told(0, 0.25, REPORT, None)
    timer.cancel()
    timer.function()
    assert str(error.value) == (
        f"{ledger.place}: could not be used for 1 s: database is locked; mend that, then `dftune study resume kept`"
    )
    assert len(said) == 1
    assert again(ledger).trials()[0].state == "running"
    ledger.told(0, 0.25, REPORT, None)
    assert again(ledger).trials()[0].state == "finished"


def test_a_lock_of_a_process_that_stands_still_is_said_to_be_its(impatient):
    """SQLite cannot take it from the process, nor does the process give it up."""
    ledger, said = impatient
    code = "import sqlite3, sys, time; d = sqlite3.connect(sys.argv[1]); d.execute('BEGIN IMMEDIATE'); print(); "
    command = [sys.executable, "-c", f"{code} sys.stdout.flush(); time.sleep(1000)", ledger.place.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(LedgerError) as error:
                ledger.told(0, 0.25, REPORT, None)
        finally:
            holder.kill()
    who = holder.pid
    assert str(error.value) == (
        f"{ledger.place}: could not be used for 1 s: database is locked by process {who}, which stands still; let it "
        f"go on (kill -CONT {who}) or end it (kill -KILL {who}); mend that, then `dftune study resume kept`"
    )
    assert f"by process {who}, which stands still" in said[0]
    ledger.told(0, 0.25, REPORT, None)


def test_a_file_that_is_away_for_a_while_is_waited_for(impatient):
    ledger, said = impatient
    ledger.patience = 60.0
    away = ledger.place.path.with_name("away.db")
    ledger.place.path.rename(away)
    threading.Timer(0.5, lambda: away.rename(ledger.place.path)).start()
    ledger.told(0, 0.25, REPORT, None)
    assert said[0].endswith("cannot be used: the file is not there; trying for 60 s")
    assert again(ledger).trials()[0].value == 0.25


def test_a_file_that_was_removed_or_replaced_is_not_written_into_nothing(impatient, tmp_path):
    ledger, _ = impatient
    copy = tmp_path / "copy.db"
    shutil.copy(ledger.place.path, copy)
    ledger.place.path.unlink()
    with pytest.raises(LedgerError, match="could not be used for 1 s: the file is not there; mend that"):
        ledger.told(0, 0.25, REPORT, None)
    copy.rename(ledger.place.path)
    with pytest.raises(LedgerError, match="has been replaced by another file meanwhile; resume the study"):
        ledger.told(0, 0.25, REPORT, None)


def test_a_full_disk_is_said_and_what_was_written_before_stays(impatient):
    ledger, said = impatient
    # A limit on the size of a file fails in the same place as a full disk: in the middle of a write.
    cause = r"could not be used for 1 s: (disk I/O error|database or disk is full);"
    with files_of_at_most(ledger.place.path.stat().st_size), pytest.raises(LedgerError, match=cause):
        ledger.conclude({"much": "x" * 100_000})
    assert len(said) == 1
    assert again(ledger).trials()[0].config == CONFIG
    ledger.told(0, 0.25, REPORT, None)
    assert again(ledger).trials()[0].value == 0.25


def test_a_new_ledger_on_a_full_disk_leaves_nothing_behind(tmp_path):
    with files_of_at_most(8192), pytest.raises(InputError, match=r"cannot be written \(File too large\); ") as error:
        Ledger.create(tmp_path / "ledger.db", spec(), "0" * 64)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_why_a_trial_was_begun_again_is_kept(ledger):
    ask(ledger, 0)
    ledger.lost(0, "its node was lost")
    ledger.lost(0, "its process died")
    ledger.told(0, 0.25, REPORT, None)
    (trial,) = again(ledger).trials()
    assert (trial.state, trial.lost) == ("finished", ("its node was lost", "its process died"))
