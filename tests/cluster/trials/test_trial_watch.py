"""Trials whose process hangs, is killed or runs out of memory: recorded with the cause, and the others go on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ray import tune

from dftune.cluster.ray_private import deaths_by_memory
from dftune.cluster.trials.trial_watch import TrialWatch, cause_of_death
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.space import Float
from dftune.searchers.tune_searcher import COMPLETE, NoRecord, TuneSearcher

SPACE = {"x": Float(low=-1, high=1)}


class Notebook(NoRecord):
    """A record that keeps what became of each trial."""

    def __init__(self):
        self.told_of, self.lost_of = {}, {}

    def lost(self, trial, cause):
        self.lost_of.setdefault(trial, []).append(cause)

    def told(self, trial, value, result, failure, stopped):
        assert trial not in self.told_of
        self.told_of[trial] = value, failure


def search(trainable, folder, *, n, time_limit=None):
    """What became of ``n`` trials."""
    notebook, watch = Notebook(), TrialWatch(time_limit)
    searcher = TuneSearcher(
        RandomSearch(SPACE, 0), metric="loss", max_trials=n, record=notebook, death=watch.death,
        package=lambda trial, config: {"number": trial, "folder": str(folder), **config},
    )  # fmt: skip
    with deaths_by_memory():
        tune.Tuner(
            tune.with_resources(trainable, {"CPU": 1}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=2, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[watch]),
        ).fit()
    assert searcher.error is None
    return notebook


def strike(config):
    """Trial 0 hangs, 1 is always killed, 2 and the last are killed once, 3 raises an error."""
    number, again = config["number"], os.path.join(config["folder"], f"again-{config['number']}")
    tune.report({"loss": 9.0})
    if number == 0:
        os.kill(os.getpid(), signal.SIGSTOP)  # nothing in it runs any more, not even a thread that would end it
    if number == 1 or (number in (2, 5) and not os.path.exists(again)):
        open(again, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        raise ValueError("broken on purpose")
    tune.report({"loss": float(number), COMPLETE: True})


@pytest.mark.usefixtures("local_ray")
def test_hangs_kills_and_errors_are_recorded_and_stop_nothing(tmp_path):
    started = time.monotonic()
    found = search(strike, tmp_path, n=6, time_limit=8.0)  # the others take a moment, or some of a busy machine's
    assert time.monotonic() - started < 600, "it waited for one that hangs"
    killed = "its process died: killed, crashed, or ended by the system for want of memory"
    assert found.told_of == {
        0: (None, "it took longer than its time limit of 8 s ([resources] time_limit)"),
        1: (None, f"{killed}; for the second time"),
        2: (2.0, None),
        3: (None, "it raised an error: ValueError: broken on purpose"),
        4: (4.0, None),
        5: (5.0, None),
    }
    assert found.lost_of == {1: [killed], 2: [killed], 5: [killed]}


class Trial:
    """What the watch looks at of Ray Tune's."""

    RUNNING, PAUSED = "RUNNING", "PAUSED"
    metric_analysis, metric_n_steps = {"loss": {"max": 1.0}}, {"loss": {}}

    class temporary_state:
        ray_actor = "actor"

    trial_id, status = "a", "RUNNING"


@pytest.fixture
def watched(monkeypatch):
    """A watch with a limit of 10 s, how to let time pass, and the actors it has killed."""
    clock, killed = [100.0], []
    monkeypatch.setattr("dftune.cluster.trials.trial_watch.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("dftune.cluster.trials.trial_watch.ray.kill", killed.append)
    watch, trial = TrialWatch(10.0), Trial()
    watch.on_trial_start(0, [trial], trial)

    def passes(seconds):
        clock[0] += seconds
        watch.on_step_begin(0, [trial])

    return watch, trial, passes, killed


def test_the_time_that_a_trial_is_paused_does_not_count(watched):
    _, trial, passes, killed = watched
    for trial.status, n in (("RUNNING", 9), ("PAUSED", 50), ("RUNNING", 1)):
        for _ in range(n):
            passes(1.0)
    assert killed == []
    passes(1.0)
    passes(1.0)
    assert killed == ["actor"], "once"


def test_a_driver_that_was_frozen_does_not_blame_its_trials(watched):
    _, _, passes, killed = watched
    passes(3600.0)
    assert killed == []


def test_a_trial_that_has_ended_is_not_watched(watched):
    watch, trial, passes, killed = watched
    watch.on_trial_complete(0, [trial], trial)
    for _ in range(20):
        passes(1.0)
    assert killed == []


@pytest.mark.parametrize(
    "error, cause, again",
    [
        ("1 worker(s) were killed due to the node running low on memory. Memory", "out of mem", False),
        ("The actor died.\nThe actor is dead because its node has died. Node Id: 8f", "its node was", True),
        ("The actor died.\nThe actor is dead because its worker process has died.", "its process died: killed", True),
        ("The actor 10ac is unavailable: The actor is temporarily unavailable: RpcError", "its process or", True),
        ("Traceback\n  File x\nKeyError: 'y'\n", "it raised an error: KeyError: 'y'", False),
        ("", "its process died, and Ray does not say why", True),
    ],
)  # fmt: skip
def test_ray_errors_in_one_line(error, cause, again):
    found = cause_of_death(error)
    assert found[0].startswith(cause)
    assert found[1] == again


OUT_OF_MEMORY = """
import os, sys, tempfile, time
memory = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/meminfo")}
share = 1 - memory["MemAvailable"] / memory["MemTotal"] + 1.5e6 / memory["MemTotal"]  # 1.5 GB more than now
os.environ |= {"RAY_memory_usage_threshold": str(share), "RAY_memory_monitor_refresh_ms": "100"}
import numpy as np
from ray import tune
from dftune.cluster.connection import connected
from dftune.searchers.tune_searcher import COMPLETE
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_ray_ends_for_want_of_memory_fails_alone(tmp_path):
    code = (
        OUT_OF_MEMORY
        + f"""
import importlib.util
spec = importlib.util.spec_from_file_location("watched", {__file__!r})
watched = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watched)
def greedy(config):
    tune.report({{"loss": 9.0}})
    kept = []
    while config["number"] == 1:
        kept.append(np.ones(12_500_000))  # 100 MB
        time.sleep(0.1)
    tune.report({{"loss": 1.0, COMPLETE: True}})
with connected():
    found = watched.search(greedy, {str(tmp_path)!r}, n=4)
print(sorted((n, value, (failure or "")[:13]) for n, (value, failure) in found.told_of.items()), found.lost_of)
"""
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, cwd=tmp_path)
    expected = [(0, 1.0, ""), (1, None, "out of memory"), (2, 1.0, ""), (3, 1.0, "")]
    assert out.stdout.splitlines()[-1:] == [f"{expected} {{}}"], out.stderr[-2000:]
