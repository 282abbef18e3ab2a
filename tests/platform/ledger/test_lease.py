"""One holder at a time: who is refused, who is followed, and who has to stop."""

import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import closing, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dftune.platform.ledger import lease as lease_module
from dftune.platform.ledger.lease import Folder, Held, Lease, LeaseLost, held
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.places import Database, LedgerFile
from dftune.tests.forked import Forked
from dftune.tests.platform.ledger.elsewhere import SPEC


def holder(place, then=lambda mine: None):
    """Another process that holds the study until it is sent a line, then does ``then``."""

    def hold():
        lease_module.STALE_SECONDS, lease_module.BEAT_SECONDS = 2.0, 0.2
        home = Folder(place.path.parent) if isinstance(place, LedgerFile) else place.home("kept")
        with held(home) as mine:
            print("held", flush=True)
            sys.stdin.readline()
            then(mine)

    process = Forked(hold)
    assert process.stdout.readline() == "held\n", process.communicate()[1]
    return process


@pytest.fixture(params=["folder", "database"])
def place(request, tmp_path):
    """Where a ledger is kept."""
    if request.param == "folder":
        return LedgerFile(tmp_path / "ledger.db")
    return Database(request.getfixturevalue("database"))


@pytest.fixture
def home(place):
    """Where its leases are: the folder of the ledger, or the database."""
    with closing(place.home("kept")) as home:
        yield home


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease_module, "STALE_SECONDS", 2.0)
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.2)


def until(condition):
    """Wait for what a heartbeat brings."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def leases(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_process_is_told_who_holds_it_since_when_and_how_long_to_wait(place, home, quick):
    with holder(place) as other, pytest.raises(Held) as error, held(home):
        pass
    assert re.fullmatch(
        rf"{re.escape(str(home))}: held by process {other.pid} on \S+ since 20\S+\+00:00; stop it, or wait: should it "
        r"give no sign of life, it may be taken over in 2 s",
        str(error.value),
    )


def test_one_that_is_let_go_is_free_at_once_and_its_number_is_never_used_again(home):
    said = []
    assert home.look() is None
    for n in (1, 2, 3):
        with held(home, said.append) as mine:
            assert mine.number == n
            mine.check()
            assert home.look().is_held
            with pytest.raises(Held), held(home):
                pass
        sign = home.look()
        assert (sign.number, sign.free, sign.is_held) == (n, True, False)
    if isinstance(home, Folder):
        assert leases(home.path) == ["lease-3"]
    assert said == []


def test_a_heartbeat_under_way_does_not_take_back_what_is_let_go(home, quick, monkeypatch):
    beat, under_way, over = home.beat, threading.Event(), threading.Event()

    def slow(number):
        under_way.set()
        time.sleep(0.5)
        try:
            return beat(number)
        finally:
            over.set()

    monkeypatch.setattr(home, "beat", slow)
    with held(home):
        assert under_way.wait(600)
    assert over.wait(600)
    assert home.look().free


def test_a_holder_that_was_killed_here_is_followed_at_once(place, home):
    said = []
    with holder(place) as other:
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        with held(home, said.append):
            pass
    assert re.fullmatch(rf"{re.escape(str(home))}: taken over from process {other.pid} on .+, which has died", said[0])


def test_a_holder_is_asked_to_stop_and_its_follower_is_not(home, quick):
    with held(home) as mine:
        assert (mine.stop, home.look().stop) == (None, None)
        home.ask(mine.number, "ada on far (process 3)")
        until(lambda: mine.stop is not None)
        assert mine.stop == home.look().stop == "ada on far (process 3)"
        mine.check()
    with held(home) as mine:
        home.ask(mine.number - 1, "too late")
        time.sleep(0.5)
        assert (mine.stop, home.look().stop) == (None, None)


def test_who_asks_to_stop_is_named():
    assert re.fullmatch(r"\S+ on \S+ \(process \d+\)", lease_module.me())


def test_what_a_killed_holder_left_half_written_is_removed(tmp_path):
    (tmp_path / ".model.12345678.part").mkdir()
    (tmp_path / ".model.12345678.part" / "model.json").touch()
    (tmp_path / ".scores.json.12345678.part").touch()
    (tmp_path / "scores.json").touch()
    with held(tmp_path):
        assert leases(tmp_path) == ["lease-1", "scores.json"]


def test_a_process_of_the_same_number_is_not_taken_for_the_holder(tmp_path):
    values = lease_module._myself() | {"started": "1"}
    (tmp_path / "lease-7").write_text(json.dumps(values))
    with held(tmp_path) as mine:
        assert mine.number == 8


def test_a_holder_on_another_machine_is_followed_only_when_its_heartbeat_is_old(tmp_path):
    path, said = tmp_path / "lease-7", []
    path.write_text(json.dumps(lease_module._myself() | {"machine": "another", "process": 2**22 + 1, "host": "far"}))
    with (
        pytest.raises(Held, match=rf"held by process {2**22 + 1} on far since .* taken over in (60|[1-5]\d) s$"),
        held(tmp_path),
    ):
        pass
    os.utime(path, (time.time() - 61,) * 2)
    with held(tmp_path, said.append):
        pass
    found = re.search(r"taken over from process \d+ on far since .*, without a sign of life for (\d+) s$", said[0])
    assert int(found[1]) >= 61


def test_a_lease_that_is_only_being_written_is_held(tmp_path):
    (tmp_path / "lease-1").touch()
    with pytest.raises(Held, match="held by a process that is just starting"), held(tmp_path):
        pass


def test_of_two_that_look_at_the_same_time_one_gets_it(home, monkeypatch):
    with held(home):
        monkeypatch.setattr(home, "look", lambda: None)  # what the second saw
        with pytest.raises(Held, match="another process has just taken it"), held(home):
            pass


def is_lost(lease):
    try:
        lease.check()
    except LeaseLost:
        return True
    return False


def test_a_lease_that_was_removed_is_lost(place, home, quick):
    with held(home) as mine:
        if isinstance(place, Database):
            with place.engine().begin() as connection:
                connection.execute(text("DELETE FROM dftune_leases"))
        else:
            (home.path / "lease-1").unlink()
        until(lambda: is_lost(mine))
        with pytest.raises(LeaseLost, match="its lease is gone; stopped, and nothing more is written"):
            mine.check()
    assert home.look() is None


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(Held, match="cannot be written"), held(tmp_path / "missing"):
        pass


def test_a_heartbeat_keeps_others_out_for_longer_than_a_stale_one_lasts(place, home, quick):
    with holder(place):
        time.sleep(2.5)
        with pytest.raises(Held), held(home):
            pass


def test_a_frozen_holder_loses_the_lease_and_writes_nothing_when_it_wakes_up(place, home, quick):
    Ledger.create(place, SPEC, "0" * 64).close()

    def write(mine):
        with closing(Ledger.open(place, "kept")) as ledger:
            ledger.claim(mine)
            print("ready", flush=True)
            sys.stdin.readline()
            try:
                ledger.asked(0, {"width": 5}, seed=0, scores={})
            except LeaseLost as error:
                print("lost", error)
            else:
                print("written")

    with holder(place, write) as frozen:
        frozen.stdin.write("\n")
        frozen.stdin.flush()
        assert frozen.stdout.readline() == "ready\n"
        frozen.send_signal(signal.SIGSTOP)
        with pytest.raises(Held), held(home):
            pass
        time.sleep(2.2)
        said = []
        with held(home, said.append) as mine, closing(Ledger.open(place, "kept")) as ledger:
            ledger.claim(mine)
            assert re.search(
                rf"taken over from process {frozen.pid} on .*, without a sign of life for [2-9]\d* s", said[0]
            )
            frozen.stdin.write("\n")  # it writes as the first thing when it wakes up
            frozen.stdin.flush()
            frozen.send_signal(signal.SIGCONT)
            out, err = frozen.communicate()
            assert out.startswith("lost "), out + err
            assert ledger.trials() == []
            ledger.asked(0, {"width": 6}, seed=0, scores={})
            assert [t.config for t in ledger.trials()] == [{"width": 6}]


def test_the_database_itself_refuses_an_earlier_holder(place, home):
    Ledger.create(place, SPEC, "0" * 64).close()
    first, second = (Lease(home, n) for n in (1, 2))
    with closing(Ledger.open(place, "kept")) as old, closing(Ledger.open(place, "kept")) as new:
        old.claim(first)
        old.asked(0, {"width": 5}, seed=0, scores={})
        new.claim(second)
        for write in (
            lambda: old.told(0, 1.0, {}, None),
            lambda: old.asked(1, {"width": 6}, seed=0, scores={}),
            lambda: old.conclude({}),
            lambda: old.claim(first),
        ):
            with pytest.raises(LeaseLost, match="another process has taken the study over"):
                write()
        assert [(t.state, t.result) for t in new.trials()] == [("running", {})]
        assert new.conclusion() is None
        new.told(0, 1.0, {}, None)


# ---------------------------------------------------------------- a database: writers and claims at the same time


def begun(database):
    """A ledger in a database, its holder, and a second one; each as its process has it."""
    place = Database(database)
    home = place.home("kept")
    Ledger.create(place, SPEC, "0" * 64).close()
    first, second = Ledger.open(place, "kept"), Ledger.open(place, "kept")
    first.claim(Lease(home, 1))
    return first, second, Lease(home, 2)


def test_a_claim_waits_for_a_write_under_way_and_refuses_the_next(database):
    first, second, later = begun(database)
    claiming = threading.Thread(target=second.claim, args=(later,))
    with first._storage.engine.begin() as connection:
        first._refuse(connection)  # as the last thing before a commit
        claiming.start()
        claiming.join(0.5)
        assert claiming.is_alive(), "the write is not committed yet"
    claiming.join(600)
    assert not claiming.is_alive()
    with pytest.raises(LeaseLost):
        first.asked(0, {"width": 5}, seed=0, scores={})
    first.close()
    second.close()


def test_a_holder_frozen_amid_a_write_does_not_keep_the_ledger_locked(database):
    first, second, later = begun(database)
    connection = first._storage.engine.connect()
    found = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    assert found == "30s", "earlier than its lease may be taken over"
    connection.execute(text("SET idle_in_transaction_session_timeout = '500ms'"))
    first._refuse(connection)  # it freezes here, with the lock
    second.claim(later)
    with pytest.raises(DBAPIError):
        connection.commit()
    with suppress(DBAPIError):
        connection.close()
    second.asked(0, {"width": 6}, seed=0, scores={})
    assert [t.config for t in second.trials()] == [{"width": 6}]
    first.close()
    second.close()
