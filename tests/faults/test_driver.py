"""A driver that is killed or stopped in mid-study loses no finished trial."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dftune import Study
from dftune.tests.platform.cli.commands import run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("toy")]


def write_spec(folder, numbers, *, trials, epochs):
    """A study file of the toy kind: one trial at a time, which takes half a second an epoch."""
    text = f"""
name = "faulty"
dataset = "{numbers}"
method = "random"
trials = {trials}
initializations = 1
resources = {{ concurrent = 1 }}
config = {{ epochs = {epochs}, pause = 0.5 }}
space = {{ rate = {{ type = "float", low = 0.1, high = 0.9 }} }}
"""
    (folder / "faulty.toml").write_text(text)
    return folder / "faulty.toml"


def start(*arguments, cwd, env):
    return subprocess.Popen(
        [sys.executable, "-m", "dftune.platform.cli.main", *map(str, arguments)],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a signal to its group reaches Ray's processes too, as Ctrl-C in a terminal does
    )


def rows(folder, query) -> list[tuple]:
    """What any SQLite client sees in the ledger, without waiting for the process that writes; [] before it is there."""
    try:
        with sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def finished(folder) -> dict[int, tuple]:
    """Value and end of each finished trial."""
    values = "trials t JOIN trial_values v USING (trial_id) WHERE t.state = 'COMPLETE'"
    found = rows(folder, f"SELECT t.number, v.value, t.datetime_complete FROM {values}")
    return {number: rest for number, *rest in found}


def wait_for(condition, process, seconds=600.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_a_driver_that_is_killed_and_then_stopped_loses_no_finished_trial(local_ray, numbers, with_toy, tmp_path):
    spec, folder = write_spec(tmp_path, numbers, trials=4, epochs=4), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path, env=with_toy)
    wait_for(lambda: len(finished(folder)) >= 1, driver)
    driver.kill()
    driver.wait()
    before = finished(folder)

    driver = start("study", "resume", "faulty", cwd=tmp_path, env=with_toy)
    wait_for(lambda: len(finished(folder)) > len(before), driver)
    os.killpg(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=600)
    assert driver.returncode == 130
    assert err.splitlines()[-1] == "Error: stopped; finished trials are kept, go on with `dftune study resume faulty`"
    assert "Traceback" not in err
    assert {t.state for t in Study.open("faulty", tmp_path / "studies").trials()} <= {"finished", "running"}
    assert not list(folder.rglob("*.part"))
    between = finished(folder)
    assert {number: between[number] for number in before} == before, "finished trials are as they were"
    assert len(before) < len(between) < 4, "killed and stopped in the middle of the study"

    resumed = run("study", "resume", "faulty", "--studies", tmp_path / "studies")
    after = finished(folder)
    assert {number: after[number] for number in between} == between, "finished trials are as they were"
    assert sorted(after) == list(range(4)), "each trial ran to its end, none twice"
    assert "chosen: trial" in resumed.stdout

    disturbed = Study.open("faulty", tmp_path / "studies")
    settings = disturbed.spec.model_dump(exclude={"name", "dataset", "config"})
    undisturbed = Study("undisturbed", numbers, studies=tmp_path, config={"epochs": 4}, **settings)
    undisturbed.run()
    assert [(t.config, t.seed, t.value) for t in undisturbed.trials()] == [
        (t.config, t.seed, t.value) for t in disturbed.trials()
    ], "equal seeds give equal studies"
    assert undisturbed.conclusion().trial == disturbed.conclusion().trial
    assert undisturbed.conclusion().accuracy == disturbed.conclusion().accuracy


def test_ctrl_c_twice_kills_at_once_and_leaves_nothing_half_written(numbers, with_toy, tmp_path):
    spec, folder = write_spec(tmp_path, numbers, trials=200, epochs=4000), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path, env=with_toy)
    wait_for(lambda: rows(folder, "SELECT number FROM trials"), driver)
    os.killpg(driver.pid, signal.SIGINT)
    for line in driver.stderr:
        if "stopping" in line:
            break
    os.killpg(driver.pid, signal.SIGINT)
    rest = driver.stderr.read()
    driver.wait(timeout=600)
    assert driver.returncode == 130
    assert "Traceback" not in rest
    assert "killed; go on with `dftune study resume faulty`" in rest or "Error: stopped;" in rest
    assert not list(folder.rglob("*.part"))
    assert Study.open("faulty", tmp_path / "studies").conclusion() is None


def child(process, program) -> int:
    """The id of the child of a process that runs a program."""
    children = [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return next(c for c in children if program in Path(f"/proc/{c}/cmdline").read_text().split("\0")[0])


@pytest.mark.parametrize("program, name", [("raylet/raylet", "raylet"), ("gcs/gcs_server", "GCS server")])
def test_a_study_whose_ray_is_killed_says_so_in_one_line_and_keeps_the_dumps(
    program, name, numbers, with_toy, tmp_path
):
    spec, folder = write_spec(tmp_path, numbers, trials=200, epochs=4), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path, env=with_toy)
    wait_for(lambda: finished(folder), driver)
    os.kill(child(driver, program), signal.SIGKILL)
    _, err = driver.communicate(timeout=600)
    assert driver.returncode == 1
    *before, last = err.splitlines()
    assert last == (
        f"Error: Ray's {name} was killed, by somebody or for want of memory; finished trials are kept, go on with "
        "`dftune study resume faulty`"
    )
    assert [line for line in before if not re.match(r"\[ *\d+ s\] ", line)] == [], "a line of Ray's own"
    kept = (folder / "ray.log").read_text()
    for file in ("raylet.out", "gcs_server.out"):
        assert kept.partition(f"the end of {file}:\n")[2].partition("the end of ")[0].strip(), file
    assert rows(folder, "SELECT number FROM trials WHERE state = 'FAIL'") == []
