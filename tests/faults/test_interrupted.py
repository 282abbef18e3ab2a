"""Commands stopped by Ctrl-C or killed, in every stage: one line, nothing half, and the same command ends right.

What a signal strikes is a process of its own, as at a terminal.  Moments are those of a line that it says, or a seed's.
"""

import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from dftune import BispectrumSettings, Study
from dftune.tests.exported import export
from dftune.tests.faults.test_driver import finished, start, wait_for, write_spec
from dftune.tests.places import ROOT
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum

PROGRESS = re.compile(r"\[ *\d+ s\] ")


class Watched:
    """A command whose lines on stderr are kept as they come."""

    def __init__(self, *command, cwd, env=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dftune.platform.cli.main", *map(str, command)],
            cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stderr.readline, "")))
        self._reader.start()

    def until(self, text, seconds=600.0):
        """Wait for a line with a text; whether there was one before the end."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)
        return True

    def signal(self, number):
        """To all processes of its session, Ray's too, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self, seconds=600.0):
        """Exit code, and the lines that are no progress."""
        code = self.process.wait(seconds)
        self._reader.join(60)
        return code, [line.rstrip("\n") for line in self.lines if not PROGRESS.match(line)]

    def left_over(self, seconds=30.0):
        """Processes of its session that are still there after a while; they are killed."""
        deadline = time.monotonic() + seconds
        while (left := of_session(self.process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return left


def of_session(leader):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
            if int(session) == leader and state not in "ZX":
                found.append(int(path.parent.name))
    return found


STUDY = """
name = "stopped"
dataset = "{dataset}"
method = "rfr"
trials = 4
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
options = {{ candidates = 100, calibration = 2, top = 2 }}
resources = {{ concurrent = 1 }}
[space]
width = {{ type = "int", low = 4, high = 128 }}
[config]
n_layers = 1
epochs = 2
batch_size = 256
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", ["Ray is starting", "descriptors: ", "scores: ", "trial 0: ", "training 1 initialisation", "defaults"]
)
def test_ctrl_c_in_each_stage_of_a_study(stage, al4, tmp_path):
    shutil.copytree(al4.path, tmp_path / "al4", ignore=shutil.ignore_patterns("descriptors"))
    (tmp_path / "stopped.toml").write_text(STUDY.format(dataset=tmp_path / "al4"))
    study = Watched("study", "run", "stopped.toml", cwd=tmp_path)
    assert study.until(stage), study.lines
    study.signal(signal.SIGINT)
    code, (*others, last) = study.end()
    assert code == 130
    assert re.fullmatch(
        r"Error: stopped(; finished trials are kept, go on with `dftune study resume stopped`"
        r"| by Ctrl-C; the same command begins again)", last
    )  # fmt: skip
    assert [line for line in others if line.strip() != "^C"] == []
    assert study.left_over() == []
    assert [*tmp_path.rglob("*.part")] == []
    known = Path(tmp_path / "studies" / "stopped" / "ledger.db").exists()
    command = ["resume", "stopped"] if "resume" in last else ["run", "stopped.toml"]
    assert known or "resume" not in last
    again = Watched("study", *command, cwd=tmp_path)
    assert again.end()[0] == 0, again.lines
    assert Study.open("stopped", tmp_path / "studies").conclusion() is not None


COMPUTE = ["descriptors", "compute", "al4", "--cutoff", "4.68", "--two-j-max", "8", "--engine", "lammps"]
SETTINGS = BispectrumSettings(cutoff=4.68, two_j_max=8)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_two_computations_of_one_dataset_of_which_one_is_interrupted(number, al4, tmp_path):
    shutil.copytree(al4.path, tmp_path / "al4", ignore=shutil.ignore_patterns("descriptors"))
    dataset, dice = Dataset.open(tmp_path / "al4"), random.Random(int(number))
    first, other = (Watched(*COMPUTE, cwd=tmp_path) for _ in range(2))
    struck = 0
    while struck < 3 and other.process.poll() is None:
        if not first.until("descriptors: "):
            break
        time.sleep(dice.uniform(0, 3))
        first.signal(number)
        code, said = first.end()
        if code == 0:
            break
        stopped = 130 if number == signal.SIGINT else -signal.SIGKILL
        at_its_end = not dataset.without_descriptors(SETTINGS)  # where Python itself may be struck
        assert code == stopped or (at_its_end and code == -number)
        assert len(said) <= 1
        struck += 1
        for snapshot in set(dataset.snapshots) - set(dataset.without_descriptors(SETTINGS)):
            dataset.descriptors(snapshot, SETTINGS).array()  # which checks that it is whole
        first = Watched(*COMPUTE, cwd=tmp_path)
    assert struck
    assert other.end()[0] == 0, other.lines
    assert first.end()[0] == 0, first.lines
    assert (first.left_over(), other.left_over()) == ([], [])
    assert dataset.without_descriptors(SETTINGS) == []
    assert [*tmp_path.rglob("*.part")] == []
    s = dataset.snapshots[dice.randrange(len(dataset.snapshots))]
    expected = bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS)
    np.testing.assert_allclose(dataset.descriptors(s, SETTINGS).array(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.ray
@pytest.mark.slow
def test_a_driver_that_stands_still_loses_its_study_and_writes_no_more(numbers, with_toy, tmp_path):
    spec, folder = write_spec(tmp_path, numbers, trials=4, epochs=4), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path, env=with_toy)
    wait_for(lambda: finished(folder), driver)
    stop_between_writes(driver, folder / "ledger.db")
    before = finished(folder)
    refused = start("study", "resume", "faulty", cwd=tmp_path, env=with_toy)
    _, err = refused.communicate(timeout=600)
    if refused.returncode:  # within the minute in which it may still be alive
        assert len([line for line in err.splitlines() if not PROGRESS.match(line)]) == 1
        time.sleep(60)
        other = start("study", "resume", "faulty", cwd=tmp_path, env=with_toy)
        _, err = other.communicate(timeout=600)
        assert other.returncode == 0, err
    assert "taken over from process" in err
    after = finished(folder)
    assert sorted(after) == list(range(4))
    assert {number: after[number] for number in before} == before
    os.kill(driver.pid, signal.SIGCONT)
    _, err = driver.communicate(timeout=600)
    assert driver.returncode == 1
    assert [line for line in err.splitlines() if not PROGRESS.match(line)][-1].startswith("Error: ")
    assert "Traceback" not in err
    assert finished(folder) == after, "nothing was written by who had lost the study"


def stop_between_writes(driver, ledger):
    """SIGSTOP at a moment when the process has no lock of the database; test_ledger.py has the other one."""
    while True:
        os.kill(driver.pid, signal.SIGSTOP)
        try:
            with sqlite3.connect(ledger, timeout=0.1, isolation_level=None) as database:
                database.execute("BEGIN EXCLUSIVE")
                database.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            os.kill(driver.pid, signal.SIGCONT)
            time.sleep(0.1)


COMPARE = """
name = "both"
dataset = {dataset}
initializations = 1
resources = {{ concurrent = 1 }}
config = {{ epochs = 3, pause = 0.2 }}
space = {{ rate = {{ type = "float", low = 0.1, high = 0.9 }} }}
[compare]
methods = ["random", "optuna"]
seeds = [0]
budget = {{ points = 24.0 }}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_comparison_killed_at_random_moments_ends_as_an_undisturbed_one(toy, numbers, with_toy, tmp_path):
    dice, kills = random.Random(0), 0
    (tmp_path / "both.toml").write_text(COMPARE.format(dataset=f'"{numbers}"'))
    while True:
        comparison = Watched("compare", "both.toml", "--output", "killed", "--json", cwd=tmp_path, env=with_toy)
        if kills < 3 and comparison.until("trial"):
            time.sleep(dice.uniform(0, 3))
            comparison.signal(signal.SIGKILL)
            kills += comparison.end()[0] == -signal.SIGKILL
            comparison.left_over(0)
            continue
        code, said = comparison.end()
        assert code == 0, said
        break
    assert kills
    whole = Watched("compare", "both.toml", "--output", "whole", cwd=tmp_path, env=with_toy)
    assert whole.end()[0] == 0
    for name in Study.names(tmp_path / "whole" / "both"):
        one, other = (Study.open(name, tmp_path / folder / "both").trials() for folder in ("killed", "whole"))
        assert [(t.state, t.config, t.value) for t in one] == [(t.state, t.config, t.value) for t in other]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("what", ["import", "copy"])
def test_an_import_or_a_copy_that_is_interrupted_begins_again_and_ends_right(what, number, al4, tmp_path):
    dice = random.Random(f"{what} {number}")
    if what == "import":
        for snapshot in al4.snapshots[:6]:
            export(al4, snapshot, tmp_path / "raw")
        command = ["data", "import", "raw", "there"]
    else:
        command = ["data", "copy", ROOT / "examples" / "al4", f"file://{tmp_path}/there"]
    began = time.monotonic()
    assert subprocess.run(
        [sys.executable, "-m", "dftune.platform.cli.main", *map(str, command)], cwd=tmp_path, capture_output=True
    ).returncode == 0  # fmt: skip
    whole, took = checksums(tmp_path / "there"), time.monotonic() - began
    shutil.rmtree(tmp_path / "there")
    struck, code = 0, None
    for _ in range(8):
        run, before = Watched(*command, cwd=tmp_path), half_written(tmp_path)
        while not half_written(tmp_path) - before and run.process.poll() is None:
            time.sleep(0.01)  # until it writes
        time.sleep(dice.uniform(0.0, 0.3) * took)
        if run.process.poll() is None:
            run.signal(number)
        code, said = run.end()
        if code == 0:
            assert checksums(tmp_path / "there") == whole
            shutil.rmtree(tmp_path / "there")
            continue
        struck += 1
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL
        elif code != -signal.SIGINT:  # while Python itself starts
            assert code == 130, said
            assert [line.partition(";")[0] for line in said if line.startswith("Error")] == ["Error: stopped by Ctrl-C"]
            assert said[-1].startswith("Error")
            assert half_written(tmp_path) == before
        if (tmp_path / "there" / "dataset.json").exists():  # which is the last
            shutil.rmtree(tmp_path / "there")
        elif what == "import":
            assert not (tmp_path / "there").exists(), "whole or not at all"
    assert struck
    code, said = Watched(*command, cwd=tmp_path).end()
    assert code == 0, said
    assert checksums(tmp_path / "there") == whole
    assert half_written(tmp_path) == set(), "nor what killed processes left"


def half_written(folder):
    """All files and folders that are being written; some may vanish meanwhile."""
    return {
        Path(where, name)
        for where, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if name.endswith(".part")
    }


def checksums(folder):
    """Name and content of all files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
