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

import optuna
import pytest

from dftune import Study
from dftune.platform.ledger import lease as lease_module
from dftune.platform.ledger.lease import held
from dftune.platform.progress import Silent
from dftune.platform.study.errors import StudyError, StudyInterrupted
from dftune.tests.forked import forked_command
from dftune.tests.platform.ledger.elsewhere import CHEAP, SPACE, Runner, options, run
from dftune.tests.postgresql_server import PASSWORD

# ---------------------------------------------------------------- list, watch, stop


def test_a_list_says_who_runs_what_and_since_when_nothing_was_heard(where, quick):
    with Runner(where) as runner:
        while sum(trial.value is not None for trial in runner.study.trials()) < 3:
            time.sleep(0.05)
        (row,) = json.loads(run("study", "list", "--json", *options(where), url=where[1]).stdout)["studies"]
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
    (row,) = json.loads(run("study", "list", "--json", *options(where), url=where[1]).stdout)["studies"]
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
    words = "study", "watch", "kept", "--json", "--interval", 0.2, "--studies", tmp_path
    watching = forked_command(*words, prepare=lambda: sys.stdin.readline())
    with watching, Runner((tmp_path, None)) as runner:
        watching.stdin.write("\n")
        watching.stdin.flush()
        assert json.loads(watching.stdout.readline())["event"] == "study"
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate()
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
        assert runner.waits.wait(600), "it does not look whether to stop before its pause is over"
        with pytest.raises(StudyError) as error:
            runner.study.stop(timeout=0.3)
        assert re.fullmatch(
            r"study kept has not stopped in 0 s: process \d+ on .* is asked to, gave its last sign of life \d+ s ago; "
            r"see `dftune study watch kept`",
            str(error.value),
        )
        assert runner.study.look().stop == lease_module.me()


def test_that_another_process_went_on_at_once_is_not_taken_for_the_stop(where, quick):
    gone_on, failures = threading.Event(), []

    class Slow(Silent):
        def say(self, text):  # between the question and the first look at what became of it
            gone_on.wait(600)

    def stop():
        try:
            runner.study.stop(timeout=600, progress=Slow())
        except StudyError as error:
            failures.append(str(error))

    with Runner(where) as runner:
        asking = threading.Thread(target=stop)
        asking.start()
        runner.join(600)
        with closing(runner.study.place.home("kept")) as home, held(home):
            gone_on.set()
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
@pytest.mark.usefixtures("local_ray")
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


@pytest.mark.ray
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
