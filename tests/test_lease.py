"""One holder at a time: who is refused, who is followed, and who has to stop."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dftune.platform import lease as lease_module
from dftune.platform.lease import Held, LeaseLost, held
from dftune.platform.ledger import Ledger
from dftune.platform.spec import StudySpec

HOLD = """
import sys, time
from pathlib import Path
from dftune.platform import lease
lease.STALE_SECONDS, lease.BEAT_SECONDS = 2.0, 0.2
with lease.held(Path(sys.argv[1])) as mine:
    print("held", flush=True)
    sys.stdin.readline()
    {then}
"""


def holder(folder, then="pass"):
    """Another process that holds the folder until it is sent a line, then does ``then``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(then=then), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n", process.communicate()[1]
    return process


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease_module, "STALE_SECONDS", 2.0)
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.2)


def leases(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_process_is_told_who_holds_it_since_when_and_how_long_to_wait(tmp_path, quick):
    other = holder(tmp_path)
    with pytest.raises(Held) as error, held(tmp_path):
        pass
    other.communicate("\n")
    assert re.fullmatch(
        rf"{tmp_path}: held by process {other.pid} on \S+ since 20\S+\+00:00; stop it, or wait: should it give no sign "
        r"of life, it may be taken over in 2 s",
        str(error.value),
    )


def test_one_that_is_let_go_is_free_at_once_and_its_number_is_never_used_again(tmp_path):
    said = []
    for n in (1, 2, 3):
        with held(tmp_path, said.append) as mine:
            assert mine.number == n
            mine.check()
            with pytest.raises(Held), held(tmp_path):
                pass
    assert leases(tmp_path) == ["lease-3"]
    assert said == []


def test_a_holder_that_was_killed_here_is_followed_at_once(tmp_path):
    other, said = holder(tmp_path), []
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    with held(tmp_path, said.append):
        pass
    other.communicate()
    assert re.fullmatch(rf"{tmp_path}: taken over from process {other.pid} on .+, which has died", said[0])


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
        pytest.raises(Held, match=rf"held by process {2**22 + 1} on far since .* taken over in (60|59) s$"),
        held(tmp_path),
    ):
        pass
    os.utime(path, (time.time() - 61,) * 2)
    with held(tmp_path, said.append):
        pass
    assert re.search(r"taken over from process \d+ on far since .*, without a sign of life for 6[12] s$", said[0])


def test_a_lease_that_is_only_being_written_is_held(tmp_path):
    (tmp_path / "lease-1").touch()
    with pytest.raises(Held, match="held by a process that is just starting"), held(tmp_path):
        pass


def test_of_two_that_look_at_the_same_time_one_gets_it(tmp_path, monkeypatch):
    with held(tmp_path):
        monkeypatch.setattr(lease_module, "_leases", lambda folder: [])  # what the second saw
        with pytest.raises(Held, match="another process has just taken it"), held(tmp_path):
            pass


def test_a_lease_that_was_removed_is_lost(tmp_path, quick):
    with held(tmp_path) as mine:
        (tmp_path / "lease-1").unlink()
        time.sleep(0.5)
        with pytest.raises(LeaseLost, match="its lease is gone; stopped, and nothing more is written"):
            mine.check()
    assert leases(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(Held, match="cannot be written"), held(tmp_path / "missing"):
        pass


def test_a_heartbeat_keeps_others_out_for_longer_than_a_stale_one_lasts(tmp_path, quick):
    other = holder(tmp_path)
    time.sleep(2.5)
    with pytest.raises(Held), held(tmp_path):
        pass
    other.communicate("\n")


WRITE = """
    from contextlib import closing
    from dftune.platform.ledger import Ledger
    with closing(Ledger.open(Path(sys.argv[1]) / "ledger.db")) as ledger:
        {claim}
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            ledger.asked(0, {{"width": 5}}, seed=0, scores={{}})
        except lease.LeaseLost as error:
            print("lost", error, flush=True)
        else:
            print("written", flush=True)
"""


def test_a_frozen_holder_loses_the_lease_and_writes_nothing_when_it_wakes_up(tmp_path, quick):
    space = {"width": {"type": "int", "low": 4, "high": 64}}
    spec = StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": space, "method": "random"})
    Ledger.create(tmp_path / "ledger.db", spec, "0" * 64).close()
    frozen = holder(tmp_path, WRITE.format(claim="ledger.claim(mine)").strip())
    frozen.stdin.write("\n")
    frozen.stdin.flush()
    assert frozen.stdout.readline() == "ready\n"
    frozen.send_signal(signal.SIGSTOP)
    with pytest.raises(Held), held(tmp_path):
        pass
    time.sleep(2.2)
    said = []
    with held(tmp_path, said.append) as mine, closing(Ledger.open(tmp_path / "ledger.db")) as ledger:
        ledger.claim(mine)
        assert re.search(rf"taken over from process {frozen.pid} on .*, without a sign of life for 2 s", said[0])
        frozen.stdin.write("\n")  # it writes as the first thing when it wakes up
        frozen.stdin.flush()
        frozen.send_signal(signal.SIGCONT)
        out, err = frozen.communicate(timeout=30)
        assert out.startswith("lost "), out + err
        assert ledger.trials() == []
        ledger.asked(0, {"width": 6}, seed=0, scores={})
        assert [t.config for t in ledger.trials()] == [{"width": 6}]


def test_the_database_itself_refuses_an_earlier_holder(tmp_path):
    space = {"width": {"type": "int", "low": 4, "high": 64}}
    spec = StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": space, "method": "random"})
    Ledger.create(tmp_path / "ledger.db", spec, "0" * 64).close()
    first, second = (lease_module.Lease(lease_module.Folder(tmp_path), n) for n in (1, 2))
    with closing(Ledger.open(tmp_path / "ledger.db")) as old, closing(Ledger.open(tmp_path / "ledger.db")) as new:
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
