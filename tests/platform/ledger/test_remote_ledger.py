"""Studies whose ledger, or whose process, is elsewhere: listed, watched, stopped, and gone on with."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from urllib.parse import quote

import optuna
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from dftune import Study
from dftune.platform.cli.main import cli
from dftune.platform.ledger import lease as lease_module
from dftune.platform.ledger import ledger as ledger_module
from dftune.platform.ledger.lease import Held, Lease, held
from dftune.platform.ledger.ledger import Ledger, LedgerAway, LedgerError
from dftune.platform.ledger.places import Database
from dftune.platform.progress import Silent
from dftune.platform.spec import StudySpec
from dftune.platform.study.errors import StudyError, StudyInterrupted
from dftune.tests.postgresql_server import PASSWORD

SPACE = {"width": {"type": "int", "low": 4, "high": 64}}
SPEC = StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": SPACE, "method": "random", "trials": 40})
CONFIG = {"width": 8}
REPORT = {"epoch": 7, "best_loss": 0.25, "seconds": 2.0}
CHEAP = {"cutoff": 4.0, "two_j_max": 4}


def run(*arguments, code=0, url=None):
    """A command, with the URL where a user would put it."""
    runner = CliRunner(env={"DFTUNE_LEDGER": url})
    result = runner.invoke(cli, [str(a) for a in arguments], prog_name="dftune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(params=["folder", "database"])
def where(request, tmp_path):
    """A folder for studies, and the URL of their ledgers, None where they lie in their folders."""
    return tmp_path, request.getfixturevalue("database") if request.param == "database" else None


@pytest.fixture
def database_only(database, tmp_path):
    return tmp_path, database


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.1)


class Runner(threading.Thread):
    """Holds a study as ``study run`` does and ends a trial now and then, until it is asked to stop or has no more.

    A context: it is over at the end, at the latest.
    """

    def __init__(self, where, *, trials=1000, pause=0.1):
        super().__init__(daemon=True)
        self.study = Study.from_spec(SPEC, *where)
        self.trials, self.pause, self.stopped_by, self.holds = trials, pause, None, threading.Event()
        self.over = threading.Event()

    def run(self):
        study = self.study
        study.folder.mkdir(parents=True, exist_ok=True)
        with (
            closing(study.place.home("kept")) as home,
            held(home) as lease,
            closing(Ledger.create(study.place, SPEC, "0" * 64)) as ledger,
        ):
            ledger.claim(lease)
            self.holds.set()
            for n in range(self.trials):
                ledger.asked(n, CONFIG, seed=n, scores={})
                ledger.told(n, 1.0 / (n + 1), REPORT, None)
                if lease.stop or self.over.wait(self.pause):
                    self.stopped_by = lease.stop
                    return
            ledger.conclude({"trial": 4, "config": {}, "value": 0.2, "accuracy": {}, "seconds": {}})

    def __enter__(self):
        self.start()
        assert self.holds.wait(600)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(600)


def options(where):
    return ("--studies", where[0])


# ---------------------------------------------------------------- list, watch, stop


def test_a_list_says_who_runs_what_and_since_when_nothing_was_heard(where, quick):
    with Runner(where) as runner:
        while len(runner.study.trials()) < 3:
            time.sleep(0.05)
        (row,) = json.loads(run("study", "list", "--json", *options(where), url=where[1]).stdout)
        assert (row["name"], row["state"], row["method"], row["minimizes"]) == (
            "kept",
            "running",
            "random",
            "validation_loss",
        )
        assert row["trials"] >= 3
        assert row["best"] <= 1 / 3
        assert re.match(rf"process {os.getpid()} on \S+ since ", row["holder"])
        table = run("study", "list", *options(where), url=where[1]).stdout
        assert re.search(
            r"^kept +running +random +nowhere +\d+ +0\.\d+ +validation_loss +process \d+ on .* s ago$", table, re.M
        )
    (row,) = json.loads(run("study", "list", "--json", *options(where), url=where[1]).stdout)
    assert (row["state"], row["holder"]) == ("stopped", None)
    assert row["last_sign"] is not None


def test_a_study_whose_process_was_killed_is_listed_as_dead(where, quick, monkeypatch):
    with Runner(where) as runner:
        monkeypatch.setattr(lease_module.Holder, "is_dead", property(lambda self: True))
        view = runner.study.look()
        assert (view.state, view.stop) == ("died", None)
        assert view.age < 300
        line = run("study", "watch", "kept", *options(where), url=where[1], code=1).stderr.splitlines()[-1]
        assert re.fullmatch(
            r"Error: study kept has died: process \d+ on .*, last sign of life \d+ s ago; go on with `dftune study "
            r"resume kept`",
            line,
        )
        said = run("study", "stop", "kept", *options(where), url=where[1]).stdout
        assert re.fullmatch(
            r"nobody runs study kept: process .* has died; go on with `dftune study resume kept`\n", said
        )


def test_a_study_is_watched_until_its_end(where, quick):
    with Runner(where, trials=12) as runner:
        result = run("study", "watch", "kept", "--json", "--interval", 0.2, *options(where), url=where[1])
        assert runner.stopped_by is None
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["event"] == "study"
    assert events[0]["state"] == "running"
    assert events[0]["holder"].startswith(f"process {os.getpid()} on ")
    before = sum(events[0]["trials"].values())
    told = [e["trial"]["number"] for e in events if e["event"] == "trial"]
    assert told == list(range(before - events[0]["trials"].get("running", 0), 12)), "each once, in their order"
    looks = [e for e in events if e["event"] == "progress"]
    assert all(0 <= e["heartbeat_age"] < 300 for e in looks if e["state"] == "running")
    assert any(e["seconds_left"] is not None and e["seconds_left"] > 0 for e in looks)
    end = events[-1]
    assert (end["event"], end["state"], end["trials"]) == ("end", "ended", {"finished": 12})
    assert end["best"] == {"trial": 11, "value": 1 / 12}
    assert end["conclusion"]["trial"] == 4


def test_what_is_watched_reads_as_it_does_where_it_runs(where, quick):
    with Runner(where):
        watching = run("study", "stop", "kept", *options(where), url=where[1])
        lines = run("study", "watch", "kept", *options(where), url=where[1], code=1).stderr
    assert re.search(r"asked process \d+ on \S+ since \S+ to stop", watching.stderr)
    assert "study kept: method random, dataset /nowhere" in lines
    assert re.search(r"so far: \d+ finished(, 1 running)?, best is trial \d+", lines)
    assert lines.splitlines()[-1] == "Error: study kept was stopped; go on with `dftune study resume kept`"


def test_a_study_is_stopped_from_elsewhere_and_both_sides_say_so(where, quick):
    with Runner(where) as runner:
        said = []
        watcher = threading.Thread(target=lambda: said.extend(runner.study.watch(0.1)))
        watcher.start()
        result = run("study", "stop", "kept", *options(where), url=where[1])
        assert result.stdout == "study kept has stopped; go on with `dftune study resume kept`\n"
        runner.join(600)
        assert runner.stopped_by == lease_module.me()
        watcher.join(600)
        assert said[-1].view.state == "stopped"
    for state in ("nobody runs study kept; go on with", "nobody runs study kept; go on with"):
        assert state in run("study", "stop", "kept", *options(where), url=where[1]).stdout


def test_ctrl_c_ends_the_watching_and_not_the_study(tmp_path, quick):
    with Runner((tmp_path, None)) as runner:
        command = ["study", "watch", "kept", "--json", "--interval", "0.2", "--studies", str(tmp_path)]
        watching = subprocess.Popen(
            [sys.executable, "-m", "dftune.platform.cli.main", *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert json.loads(watching.stdout.readline())["event"] == "study"
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=600)
        assert (watching.returncode, err) == (0, "no longer watched; the study goes on\n")
        assert runner.study.look().state == "running"


def test_a_study_that_ended_cannot_be_stopped(where, quick):
    with Runner(where, trials=5, pause=0.0) as runner:
        runner.join(600)
    result = run("study", "stop", "kept", *options(where), url=where[1])
    assert result.stdout == "study kept has ended; there is nothing to stop\n"
    assert runner.study.look().state == "ended"


def test_a_study_that_does_not_stop_in_time_is_said(where, quick):
    with Runner(where, pause=20) as runner:
        with pytest.raises(StudyError) as error:
            runner.study.stop(timeout=0.3)
        assert re.fullmatch(
            r"study kept has not stopped in 0 s: process \d+ on .* is asked to, gave its last sign of life \d+ s ago; "
            r"see `dftune study watch kept`",
            str(error.value),
        )
        assert runner.study.look().stop == lease_module.me()


def test_that_another_process_went_on_at_once_is_not_taken_for_the_stop(where, quick, monkeypatch):
    monkeypatch.setattr("dftune.platform.study.watch.ASK_SECONDS", 1.0)
    with Runner(where) as runner:
        failures = []

        def stop():
            try:
                runner.study.stop(timeout=600)
            except StudyError as error:
                failures.append(str(error))

        asking = threading.Thread(target=stop)
        asking.start()
        runner.join(600)
        with closing(runner.study.place.home("kept")) as home, held(home):
            asking.join(600)
    assert re.fullmatch(r"study kept did stop, but process \d+ on .* has gone on with it", failures[0])


def test_a_ledger_that_is_away_is_waited_for_by_who_watches(database_only, postgresql, quick):
    with Runner(database_only, pause=0.3) as runner:
        kinds = []
        for event in runner.study.watch(0.1):
            kinds.append(event.kind)
            if kinds.count("progress") == 2 and "away" not in kinds:
                postgresql.kill()
                threading.Timer(1.0, postgresql.start).start()
            if event.kind == "away":
                assert re.match(r"(study 'kept' in )?postgresql://ada@\S+: (cannot be used: )?\S", event.cause)
            if "back" in kinds and event.kind == "trial":
                break
        assert kinds.count("away") == kinds.count("back") == 1


# ---------------------------------------------------------------- a database: names, passwords, rights


def test_a_database_holds_many_studies_by_name(database):
    place = Database(database)
    assert place.names() == []
    for name in ("b", "a"):
        Ledger.create(place, SPEC.model_copy(update={"name": name}), "0" * 64).close()
    optuna.create_study(study_name="theirs", storage=place._url.render_as_string(hide_password=False))
    assert place.names() == ["a", "b"]
    with pytest.raises(LedgerError, match=r"a study 'a' exists; go on with `dftune study resume a`, or choose another"):
        Ledger.create(place, SPEC.model_copy(update={"name": "a"}), "1" * 64)
    with closing(Ledger.open(place, "a")) as found:
        assert found.dataset_sha256 == "0" * 64
    with place.engine().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM studies")).scalar() == 3, "nothing half-made is left"
    with pytest.raises(LedgerError, match="no study 'c'; `dftune study list` shows the studies there are"):
        Ledger.open(place, "c")
    with pytest.raises(LedgerError, match="an Optuna storage, but not the ledger of one dftune study"):
        Ledger.open(place, "theirs")


def test_two_at_once_make_the_tables_and_one_of_them_the_study(database):
    results = []

    def create():
        try:
            Ledger.create(Database(database), SPEC, "0" * 64).close()
            results.append("made")
        except LedgerError as error:
            results.append(str(error))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert results.count("made") == 1
    assert sum("a study 'kept' exists" in r for r in results) == 3
    assert Database(database).names() == ["kept"]


def test_the_password_is_nowhere_but_in_the_url(database_only, postgresql, quick, monkeypatch):
    secrets = (PASSWORD, quote(PASSWORD, safe=""))
    with Runner(database_only) as runner:
        shown = [
            run("study", *command, *options(database_only), url=database_only[1], code=code).output
            for command, code in (
                (("list",), 0), (("list", "--json"), 0), (("show", "kept"), 0), (("show", "kept", "--json"), 0),
                (("export", "kept", "x"), 1), (("stop", "kept"), 0), (("watch", "kept"), 1), (("resume", "kept"), 1),
                (("show", "none"), 1),
            )
        ]  # fmt: skip
        wrong = database_only[1].replace(quote(PASSWORD, safe=""), quote(PASSWORD + "x", safe=""))
        shown.append(run("study", "list", url=wrong, code=1).output)
        assert "password authentication failed" in shown[-1]
        monkeypatch.setattr(ledger_module, "RETRY_SECONDS", 0.2)
        postgresql.kill()
        try:
            for command in (("list",), ("show", "kept")):
                shown.append(run("study", *command, *options(database_only), url=database_only[1], code=1).output)
                assert re.search(r"cannot be used: .*Connection refused", shown[-1])
        finally:
            postgresql.start()
    shown += [str(runner.study.place), str(runner.study.place.home("kept")), repr(runner.study.place)]
    shown += [p.read_text() for p in runner.study.folder.rglob("*") if p.is_file()]
    with runner.study.place.engine().connect() as connection:
        for table in ("study_user_attributes", "study_system_attributes", "dftune_leases"):
            shown += [str(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]
    for said in shown:
        assert not any(secret in said for secret in secrets), said
    assert any("postgresql://ada@" in said for said in shown)


def test_a_password_in_an_argument_is_refused_and_not_repeated(database):
    result = run("study", "list", "--ledger", database, code=2)
    assert "all users of this machine see a password there; put it into ~/.pgpass" in result.stderr
    assert PASSWORD not in result.output
    assert quote(PASSWORD, safe="") not in result.output
    result = run("study", "list", "--ledger", "postgresql://ada@/d?host=/tmp&password=much", code=2)
    assert "much" not in result.output


def test_a_url_without_a_password_leaves_it_to_the_driver(postgresql, database, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name = database.rpartition("/")[2] if "?" not in database else re.search(r"@/(\w+)\?", database)[1]
    url = postgresql.url(name, password=None)
    result = run("study", "list", "--ledger", url)
    assert result.stdout == "no study in this ledger; start one with `dftune study run`\n"


@pytest.mark.parametrize("url", ["sqlite:///ledger.db", "postgresql://host", "ledger.db", "mysql://a:b@c/d", "://"])
def test_what_is_no_postgresql_url_is_refused(url):
    result = run("study", "list", url=url, code=1)
    assert result.stderr == "Error: not the URL of a PostgreSQL ledger; write postgresql://USER@HOST/DATABASE\n"


def test_a_missing_driver_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = run("study", "list", url="postgresql://ada@host/d", code=1)
    assert result.stderr == "Error: a PostgreSQL ledger needs a driver; pip install 'dftune[postgresql]'\n"


def test_who_may_only_read_lists_and_shows_but_does_not_hold(database, postgresql, tmp_path, quick):
    place = Database(database)
    with Runner((tmp_path, database), trials=3, pause=0.0) as runner:
        runner.join(600)
    with place.engine().begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS guest"))
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest"))
    guest = re.sub(r"//.*@", "//guest:guest@", database)
    (row,) = json.loads(run("study", "list", "--json", url=guest).stdout)
    assert (row["state"], row["trials"]) == ("ended", 3)
    found = Study.open("kept", tmp_path, guest)
    with pytest.raises(Held, match=r"cannot be written .permission denied for table dftune_leases"):
        found.resume()
    with place.engine().begin() as connection:
        connection.execute(text("DROP OWNED BY guest"))
        connection.execute(text("DROP ROLE guest"))


# ---------------------------------------------------------------- a connection that is lost


def lose_the_answer_to(ledger, number):
    """Lose the connection after the commit number ``number`` from now has come through, and before it is known."""
    dialect, commit = ledger._storage.engine.dialect, ledger._storage.engine.dialect.do_commit
    left = [number]

    def do_commit(connection):
        commit(connection)
        left[0] -= 1
        if left[0] == 0:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")  # the server ends it

    dialect.do_commit = do_commit
    return left


@pytest.fixture
def claimed(database):
    place = Database(database)
    with closing(Ledger.create(place, SPEC, "0" * 64)) as ledger, closing(place.home("kept")) as home:
        said = []
        ledger.claim(Lease(home, 1), said.append)
        yield ledger, said


def test_a_trial_whose_creation_came_through_unseen_is_not_created_twice(claimed):
    ledger, _ = claimed
    left = lose_the_answer_to(ledger, 1)
    ledger.asked(0, CONFIG, seed=0, scores={"rfr": 1.0})
    assert left[0] <= 0
    ledger.told(0, 0.5, REPORT, None)
    ledger.asked(1, CONFIG, seed=1, scores={})
    assert [(t.number, t.state) for t in ledger.trials()] == [(0, "finished"), (1, "running")]


@pytest.mark.parametrize("commit", [1, 2])
def test_a_result_that_came_through_unseen_is_told_once(claimed, commit):
    ledger, _ = claimed
    ledger.asked(0, CONFIG, seed=0, scores={})
    left = lose_the_answer_to(ledger, commit)
    ledger.told(0, 0.5, REPORT, None)
    assert left[0] <= 0
    (trial,) = ledger.trials()
    assert (trial.state, trial.value, trial.result) == ("finished", 0.5, REPORT)


def test_a_server_that_is_killed_is_waited_for_with_a_message(claimed, postgresql):
    ledger, said = claimed
    ledger.asked(0, CONFIG, seed=0, scores={})
    postgresql.kill()
    threading.Timer(1.0, postgresql.start).start()
    ledger.told(0, 0.5, REPORT, None)
    assert re.match(r"the ledger postgresql://ada@\S+ cannot be used: .*; trying for 60 s$", said[0])
    assert re.match(r"the ledger postgresql://ada@\S+ can be used again$", said[1])
    assert len(said) == 2
    assert [t.state for t in ledger.trials()] == ["finished"]


def test_a_server_that_stays_away_is_given_up_in_one_line(claimed, postgresql, monkeypatch):
    ledger, said = claimed
    ledger.patience = 1.0
    postgresql.kill()
    try:
        with pytest.raises(
            LedgerAway, match=r"could not be used for 1 s: .*; mend that, then `dftune study resume kept`$"
        ):
            ledger.asked(0, CONFIG, seed=0, scores={})
    finally:
        postgresql.start()
    assert len(said) == 1
    ledger.asked(0, CONFIG, seed=0, scores={})
    assert [t.number for t in ledger.trials()] == [0]


# ---------------------------------------------------------------- real studies


def small(described, where, **changes):
    settings = {"method": "random", "trials": 4, "epochs": 3} | changes
    epochs = settings.pop("epochs")
    return Study(
        "small", described, studies=where[0], ledger=where[1], descriptors=CHEAP, initializations=1, space=SPACE,
        config={"n_layers": 1, "epochs": epochs, "batch_size": 512, "patience": 1000}, **settings,
    )  # fmt: skip


class Lines(Silent):
    def __init__(self, act=lambda text: None):
        self.said, self.act = [], act

    def say(self, text):
        self.said.append(text)
        self.act(text)


@pytest.mark.slow
def test_a_study_in_a_database_whose_server_is_killed_is_the_study_in_a_file(described, database, postgresql, tmp_path):
    killed = []

    def kill_after_the_second(line):
        if line.startswith("trial 1:"):
            killed.append(line)
            postgresql.kill()
        elif "cannot be used: " in line:
            threading.Timer(0.5, postgresql.start).start()

    here, there = (small(described, (tmp_path / n, url)) for n, url in (("file", None), ("database", database)))
    lines = Lines(kill_after_the_second)
    here.run()
    there.run(progress=lines)
    assert len(killed) == 1
    assert sum("can be used again" in line for line in lines.said) == 1
    assert [(t.number, t.state, t.lost) for t in there.trials()] == [(n, "finished", ()) for n in range(4)]
    assert [(t.config, t.seed, t.value) for t in here.trials()] == [(t.config, t.seed, t.value) for t in there.trials()]
    assert there.conclusion().accuracy == here.conclusion().accuracy
    assert not (there.folder / "ledger.db").exists()
    assert not list(there.folder.glob("lease-*"))
    loaded = optuna.load_study(study_name="small", storage=there.place._url.render_as_string(hide_password=False))
    assert loaded.best_value == there.conclusion().value

    # What needs the folder, and what does not.
    elsewhere = Study.open("small", tmp_path / "elsewhere", database)
    shown = run("study", "show", "small", "--studies", tmp_path / "elsewhere", url=database).stdout
    assert "chosen: trial" in shown
    assert "ledger:  postgresql://ada@" in shown
    assert "model:" not in shown
    with pytest.raises(StudyError, match=r"the folder of the study is not here; say where to draw with --output"):
        elsewhere.plot()
    drawn = elsewhere.plot(tmp_path / "figures", "png")
    assert all(path.is_file() for path in drawn.paths)
    with pytest.raises(
        StudyError, match=r"which holds its model, is not here; give that of the host where it ran with "
    ):
        elsewhere.export(tmp_path / "model")
    assert not (tmp_path / "elsewhere").exists()
    there.export(tmp_path / "model")

    # Folders of other studies are left alone.
    with pytest.raises(StudyError, match=r"a study 'small' exists; go on with `dftune study resume small`, or choose"):
        small(described, (tmp_path / "new", database)).run()
    with pytest.raises(
        StudyError, match=r"belongs to a study whose ledger is postgresql://ada@\S+; give that as DFTUNE_"
    ):
        small(described, (tmp_path / "database", None)).run()
    with pytest.raises(StudyError, match=r"belongs to a study whose ledger is postgresql://ada@"):
        Study.open("small", tmp_path / "database")
    with pytest.raises(StudyError, match="belongs to a study with a ledger of its own"):
        Study.open("small", tmp_path / "file", database).resume()

    # Resumed where there is no folder, it makes one, and the model again.
    before, again = there.conclusion(), elsewhere.resume()
    assert again.trial == before.trial
    assert elsewhere.conclusion().accuracy == before.accuracy
    assert elsewhere.model().card.accuracy == there.model().card.accuracy


@pytest.mark.parametrize("kind", [pytest.param("folder", marks=pytest.mark.slow), "database"])
def test_a_study_stopped_from_elsewhere_says_what_ctrl_c_says_and_goes_on(
    kind, local_ray, toy, numbers, database, tmp_path, quick
):
    study = Study(
        "small", numbers, studies=tmp_path, ledger=database if kind == "database" else None, method="random", trials=4,
        initializations=1, config={"pause": 0.3}, resources={"concurrent": 1},
    )  # fmt: skip
    threads = []

    def stop_after_the_first(text):
        if text.startswith("trial ") and not threads:
            threads.append(threading.Thread(target=lambda: threads.append(study.stop())))
            threads[0].start()
            while study.look().stop is None:  # the study goes on once it has been asked, however busy the machine is
                time.sleep(0.05)

    lines = Lines(stop_after_the_first)
    with pytest.raises(StudyInterrupted) as error:
        study.run(progress=lines)
    threads[0].join(600)
    assert str(error.value) == "stopped; finished trials are kept, go on with `dftune study resume small`"
    assert threads[1] == "study small has stopped; go on with `dftune study resume small`"
    assert f"asked to stop by {lease_module.me()}: stopping (Ctrl-C to kill) ..." in lines.said
    view = study.look()
    assert (view.state, view.stop) == ("stopped", None)
    assert 1 <= view.counts["finished"] < 4
    before = {t.number: t for t in view.trials if t.state == "finished"}
    study.resume()
    after = {t.number: t for t in study.trials()}
    assert {n: after[n] for n in before} == before
    assert [t.state for t in study.trials()] == ["finished"] * 4
    assert study.look().state == "ended"


@pytest.mark.slow
def test_of_two_processes_that_run_one_study_one_gets_it(described, database_only, quick):
    spec = database_only[0] / "small.toml"
    spec.write_text(
        f"""
name = "small"
dataset = "{described.path}"
method = "random"
trials = 4
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
[space]
width = {{ type = "int", low = 4, high = 32 }}
[config]
n_layers = 1
epochs = 3
batch_size = 512
"""
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dftune.platform.cli.main", "study", "run", spec, "--studies", spec.parent / n],
            env=os.environ | {"DFTUNE_LEDGER": database_only[1]},
            cwd=database_only[0], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n in ("first", "second")  # as on two hosts, with folders of their own
    ]  # fmt: skip
    answers = [process.communicate(timeout=600) for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1], answers
    ((_, refused),) = (a for a, process in zip(answers, processes, strict=True) if process.returncode == 1)
    assert re.search(
        r"Error: .*(held by process \d+ on|has just taken it|a study 'small' exists)", refused.splitlines()[-1]
    )
    assert [t.number for t in Study.open("small", database_only[0], database_only[1]).trials()] == [0, 1, 2, 3]
    assert PASSWORD not in "".join(out + err for out, err in answers)
