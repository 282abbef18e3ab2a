"""Studies whose processes are killed or hang: nothing that was finished is lost, and what happened is in the ledger.

A driver that is killed while it trains with ``random`` stands in test_study.py; here it is killed with a scheduler and
with a pruner, at moments that a seed fixes.  ``benchmarks/soak.py`` does so for hours.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from dftune import Study
from dftune.cluster.processes import MARK, MARK_FILE, end_left_over, mark, mark_folder
from dftune.cluster.trials.scoring import ClusterScorer
from dftune.platform.progress import Silent
from dftune.tests.listeners import descendants
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training_data import MiniBatch
from dftune.trainables.processes import machine, started


def workers(kind):
    """Processes of this process's Ray that run actors of a kind."""
    found = []
    for process in descendants():
        with suppress(OSError):
            if Path(f"/proc/{process}/cmdline").read_bytes().startswith(f"ray::{kind}".encode()):
                found.append(process)
    return found


class Strike(Silent):
    """Sends a signal to the process of some trials when they first report."""

    def __init__(self, signals):
        self.signals, self.said = dict(signals), []

    def say(self, text):
        self.said.append(text)

    def update(self, stage, done, total, text=""):
        for trial in [t for t in self.signals if f"trial {t}: epoch " in text]:
            (process,) = workers("ImplicitFunc")  # that train trials
            os.kill(process, self.signals.pop(trial))


def struck(numbers, folder, signals, **resources):
    """A study of three trials one after the other, some of whose processes get a signal; and what it said."""
    study = Study(
        "struck", numbers, studies=folder, method="random", trials=3, initializations=1,
        config={"epochs": 8, "pause": 0.4}, resources={"concurrent": 1, **resources},
    )  # fmt: skip
    strike = Strike(signals)
    study.run(progress=strike)
    return study.trials(), strike.said


def test_a_trial_whose_worker_is_killed_is_begun_again_and_comes_to_its_end(local_ray, toy, numbers, tmp_path):
    trials, said = struck(numbers, tmp_path, {1: signal.SIGKILL})
    killed = "its process died: killed, crashed, or ended by the system for want of memory"
    assert [t.state for t in trials] == ["finished"] * 3
    assert [t.lost for t in trials] == [(), (killed,), ()]
    assert trials[1].result["epoch"] == 8
    assert f"trial 1: {killed}; it is begun again" in said


@pytest.mark.usefixtures("local_ray")
def test_a_killed_scorer_costs_no_score():
    rng = np.random.default_rng(0)
    batch = MiniBatch(rng.normal(size=(90, 14)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32))
    configs = [{"width": width} for width in range(8, 208)]
    scorer, killed, deadline = ClusterScorer(SCORES["rfr"], batch, SurrogateConfig.of, 7), [], time.monotonic() + 600
    while None in (scores := scorer(configs)) and time.monotonic() < deadline:
        if not killed and scores.count(None) < len(configs):
            killed = workers("ScorerActor")
            for process in killed:
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    assert killed
    expected = SCORES["rfr"].function([SurrogateConfig.of(c) for c in configs], batch, 7)
    assert scores == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("local_ray")
def test_all_processes_of_an_embedded_ray_can_be_known():
    ours, theirs = [], {os.getpid()}
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    while found := {p for p, parent in parents.items() if parent in theirs} - theirs:
        theirs |= found
    for process in theirs - {os.getpid()}:
        with suppress(OSError):
            title = Path(f"/proc/{process}/cmdline").read_bytes()
            if b"ray" in title and not title.startswith(b"/bin/sh"):
                ours.append((title[:150], f"{MARK}={mark()}".encode() in Path(f"/proc/{process}/environ").read_bytes()))
    assert any(b"raylet" in title for title, _ in ours)
    assert [title for title, marked in ours if not marked] == []


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_and_the_study_goes_on(local_ray, toy, numbers, tmp_path):
    trials, said = struck(numbers, tmp_path, {1: signal.SIGSTOP}, time_limit=20.0)
    limit = "it took longer than its time limit of 20 s ([resources] time_limit)"
    assert [t.state for t in trials] == ["finished", "failed", "finished"]
    assert [t.failure for t in trials] == [None, limit, None]
    assert trials[1].result["epoch"] >= 1, "what it has cost"
    assert f"trial 1 failed: {limit} (2 of at most 3, best 0.004465 cm of trial 0)" in said


def test_what_a_killed_process_left_of_its_ray_is_ended_and_nothing_else(monkeypatch):
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    starter, neighbour = subprocess.Popen(sleep), subprocess.Popen(sleep)
    marks = {
        "ours": f"{starter.pid} {started(starter.pid)} {machine()}",
        "orphan": f"{gone.pid} 1 {machine()}",
        "a neighbour's": f"{neighbour.pid} {started(neighbour.pid)} {machine()}",
        "elsewhere": f"{gone.pid} 1 another machine",
        "unmarked": None,
    }
    processes = {
        name: subprocess.Popen(sleep, env=os.environ | ({} if value is None else {MARK: value}))
        for name, value in marks.items()
    }
    monkeypatch.setattr("dftune.cluster.processes.mark", lambda: marks["ours"])  # this process's own Ray is in use
    time.sleep(0.2)
    end_left_over()
    try:
        for name, process in processes.items():
            if name.startswith(("orphan", "ours")):
                assert process.wait(600) == -signal.SIGKILL
            else:
                assert process.poll() is None, name
    finally:
        for process in (starter, neighbour, *processes.values()):
            process.kill()
            process.wait()


def test_folders_of_ray_are_removed_when_their_starter_has_ended_and_no_others(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    dead, elsewhere = f"{gone.pid} 1 {machine()}", f"{gone.pid} 1 another machine"
    marks = {"dead": dead, "elsewhere": elsewhere, "damaged": "x", "new": ""}
    for name, value in marks.items():
        folder = tmp_path / f"session_{name}"
        folder.mkdir()
        if value:
            (folder / MARK_FILE).write_text(value)
    (tmp_path / "session_raystart").mkdir()
    (tmp_path / "session_not_text").mkdir()
    (tmp_path / "session_not_text" / MARK_FILE).write_bytes(b"\xff\xfe")
    (tmp_path / "session_unreadable" / MARK_FILE).mkdir(parents=True)  # as one in a folder of another user's
    mark_folder(tmp_path / "session_new")
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "session_damaged", "session_elsewhere", "session_new", "session_not_text", "session_raystart",
        "session_unreadable",
    ]  # fmt: skip
    assert (tmp_path / "session_new" / MARK_FILE).read_text() == mark()


SPEC = """
name = "{name}"
dataset = "{dataset}"
method = "{method}"
seed = 1
trials = 20
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
{more}
[space]
width = {{ type = "int", low = 4, high = 32, log = true }}
learning_rate = {{ type = "float", low = 1e-3, high = 1e-2, log = true }}
[config]
n_layers = 1
epochs = 8
patience = 1000
batch_size = 256
"""


def command(*arguments, folder):
    """A process of its own, whose Ray lies in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "dftune.platform.cli.main", "study", *map(str, arguments)],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "method, more",
    [
        ("random", 'scheduler = { type = "asha", grace_epochs = 2, reduction_factor = 2 }'),
        ("random", 'scheduler = { type = "hyperband", reduction_factor = 2 }'),
        ("optuna+rfr", "options = { warmup = 3, startup = 4 }\nresources = { concurrent = 1 }"),
    ],
    ids=["asha", "hyperband", "optuna+rfr"],
)
def test_a_driver_killed_at_random_moments_loses_nothing(method, more, described, tmp_path):
    rng = random.Random(f"{method} {more}")
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC.format(name="killed", dataset=described.path, method=method, more=more))
    known, kills, struck_in_the_search = {}, 0, 0
    while True:
        begun = "killed" in Study.names(tmp_path / "studies")
        driver = command(*(["resume", "killed"] if begun else ["run", spec]), folder=tmp_path)
        try:
            if kills < 4:
                seconds = rng.uniform(1.0, 10.0)
                deadline = time.monotonic() + 600  # a busy machine: so many seconds of the search, not of Ray's start
                while kills and driver.poll() is None and time.monotonic() < deadline:
                    if "killed" in Study.names(tmp_path / "studies") and len(ended(tmp_path)) > len(known):
                        break
                    time.sleep(0.1)
                driver.communicate(timeout=seconds if not kills else seconds / 3)
            else:
                driver.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.communicate()
            kills += 1
            now = ended(tmp_path) if "killed" in Study.names(tmp_path / "studies") else {}
            assert {n: now.get(n) for n in known} == known
            struck_in_the_search += bool(now) and len(now) > len(known)
            known = now
            continue
        break
    assert driver.returncode == 0
    assert kills >= 2
    now = ended(tmp_path)
    assert {n: now.get(n) for n in known} == known, "as they were before the kill"
    study = Study.open("killed", tmp_path / "studies")
    trials = study.trials()
    assert [t.number for t in trials] == list(range(len(trials)))
    assert sum(t.state != "pruned" for t in trials) == 20
    assert trials[study.conclusion().trial].state == "finished"
    if "scheduler" not in more:  # under one, who is stopped depends on who reports first
        spec.write_text(SPEC.format(name="whole", dataset=described.path, method=method, more=more))
        assert command("run", spec, folder=tmp_path).wait(600) == 0
        whole = Study.open("whole", tmp_path / "studies")
        assert [(t.state, t.config, t.value) for t in whole.trials()] == [(t.state, t.config, t.value) for t in trials]
        assert (whole.conclusion().trial, whole.conclusion().accuracy) == (
            study.conclusion().trial,
            study.conclusion().accuracy,
        )


def ended(folder):
    """The trials that have ended, as the ledger has them."""
    trials = Study.open("killed", folder / "studies").trials()
    return {t.number: (t.state, t.config, t.value, t.ended_at) for t in trials if t.state != "running"}
