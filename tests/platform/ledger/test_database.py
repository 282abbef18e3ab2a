"""Ledgers in a database: names, passwords and rights, and connections that are lost."""

import json
import re
import sys
import threading
from contextlib import closing
from urllib.parse import quote, urlsplit

import optuna
import pytest
from sqlalchemy import text

from dftune import Study
from dftune.platform.ledger import ledger as ledger_module
from dftune.platform.ledger.lease import Held, Lease
from dftune.platform.ledger.ledger import Ledger, LedgerAway, LedgerError
from dftune.platform.ledger.places import Database
from dftune.tests.platform.ledger.elsewhere import CONFIG, REPORT, SPEC, Runner, options, run
from dftune.tests.postgresql_server import PASSWORD

# ---------------------------------------------------------------- a database: names, passwords, rights


def test_a_database_holds_many_studies_by_name(empty_database):
    place = Database(empty_database)
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


def test_two_at_once_make_the_tables_and_one_of_them_the_study(empty_database):
    results = []

    def create():
        try:
            Ledger.create(Database(empty_database), SPEC, "0" * 64).close()
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
    assert Database(empty_database).names() == ["kept"]


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


def test_a_url_without_a_password_leaves_it_to_the_driver(postgresql, empty_database, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name = urlsplit(empty_database).path[1:]
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
    (row,) = json.loads(run("study", "list", "--json", url=guest).stdout)["studies"]
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
    threading.Timer(0.3, postgresql.start).start()
    ledger.told(0, 0.5, REPORT, None)
    assert re.match(r"the ledger postgresql://ada@\S+ cannot be used: .*; trying for 60 s$", said[0])
    assert re.match(r"the ledger postgresql://ada@\S+ can be used again$", said[1])
    assert len(said) == 2
    assert [t.state for t in ledger.trials()] == ["finished"]


def test_a_server_that_stays_away_is_given_up_in_one_line(claimed, postgresql, monkeypatch):
    ledger, said = claimed
    ledger.patience = 1.0
    ledger.asked(0, CONFIG, seed=0, scores={})  # before: Optuna itself tries that again for some seconds
    postgresql.kill()
    try:
        with pytest.raises(
            LedgerAway, match=r"could not be used for 1 s: .*; mend that, then `dftune study resume kept`$"
        ):
            ledger.told(0, 0.5, REPORT, None)
    finally:
        postgresql.start()
    assert len(said) == 1
    assert [t.state for t in ledger.trials()] == ["running"]
    ledger.told(0, 0.5, REPORT, None)
    assert [t.state for t in ledger.trials()] == ["finished"]
