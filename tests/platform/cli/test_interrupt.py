"""Ctrl-C ends every command with one line and exit code 130, wherever it strikes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from dftune.platform.cli import main as main_module
from dftune.platform.cli.main import cli
from dftune.platform.compare.comparison import Comparison
from dftune.platform.study.errors import StudyInterrupted
from dftune.platform.study.study import Study
from dftune.tests.forked import forked_command

pytestmark = pytest.mark.usefixtures("toy")


def strike(*arguments, **values):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def spec(numbers, tmp_path):
    path = tmp_path / "line.toml"
    path.write_text(f'name = "line"\ndataset = {json.dumps(str(numbers))}\nmethod = "random"\ntrials = 1\n')
    return path


@pytest.mark.parametrize(
    "command, stage",
    [
        (["compare", "SPEC"], "open"),
        (["compare", "SPEC"], "sizes"),
        (["study", "run", "SPEC"], "open"),
        (["study", "run", "SPEC"], "refuse"),
        (["data", "show", "DATA"], "open"),
        (["data", "check", "DATA"], "open"),
    ],
)
def test_ctrl_c_is_said_once_and_the_exit_code_is_130(command, stage, spec, numbers, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(type(toy), stage, strike)
    monkeypatch.chdir(tmp_path)
    names = {"SPEC": str(spec), "DATA": str(numbers)}
    result = CliRunner().invoke(cli, [names.get(word, word) for word in command])
    assert result.exit_code == 130
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if not line.startswith("[")] == [
        "Error: stopped by Ctrl-C; the same command begins again"
    ]
    assert [*tmp_path.rglob("ledger.db"), *tmp_path.rglob("*.part")] == []


def test_ctrl_c_in_a_comparison_that_has_begun_says_how_to_go_on(spec, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(Comparison, "_refuse_another", strike)
    result = CliRunner().invoke(cli, ["compare", str(spec), "--output", str(tmp_path / "out")])
    assert result.exit_code == 130
    assert [line for line in result.stderr.splitlines() if not line.startswith("[")] == [
        f"Error: stopped; finished trials are kept, the same command goes on with {tmp_path / 'out' / 'line'}"
    ]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command, owner, name", [(["study", "run"], Study, "run"), (["compare"], Comparison, "_run")])
def test_what_a_signal_stopped_says_which_by_its_exit_code(
    command, owner, name, number, code, spec, monkeypatch, tmp_path
):
    def stopped(*arguments, **values):
        raise StudyInterrupted("stopped; so it goes on", number)

    monkeypatch.setattr(owner, name, stopped)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, [*command, str(spec)])
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith("Error: stopped; ")


@pytest.mark.parametrize("number, code, by", [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_signal_ends_a_command_with_one_line(number, code, by, tmp_path):
    """In a process of its own, which waits for a specification that never comes.

    What fails at exit stands for modules that the signal has left half imported.
    """
    program = "import atexit; atexit.register(int, 'half'); from dftune.platform.cli.main import main; main()"
    command = [sys.executable, "-c", program, "data", "generate"]
    running = subprocess.Popen(
        [*command, "/dev/stdin", tmp_path / "al"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    status, end = Path(f"/proc/{running.pid}/status"), time.monotonic() + 30
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> signal.SIGTERM - 1 & 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)  # main has its handler, and comes to the command
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert (running.returncode, said) == (code, f"Error: stopped by {by}; the same command begins again\n")


@pytest.mark.parametrize("number, code, by", [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_command_can_be_stopped_before_it_has_begun(number, code, by, monkeypatch):
    def parse_args(self, ctx, args):
        signal.raise_signal(number)

    monkeypatch.setattr(main_module, "_terminated", [])
    monkeypatch.setattr(type(cli), "parse_args", parse_args)
    before = signal.signal(signal.SIGTERM, main_module._terminate)
    result = CliRunner().invoke(cli, ["data"])
    signal.signal(signal.SIGTERM, before)
    assert (result.exit_code, result.stderr) == (code, f"Error: stopped by {by}; the same command begins again\n")


@pytest.mark.parametrize("number, code, by", [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_signal_that_comes_where_nothing_can_be_raised_is_not_lost(number, code, by):
    class Stopped:
        def __del__(self):
            signal.raise_signal(number)

    def wait():
        Stopped()
        for _ in range(20):  # an exception in __del__ is printed, and nothing more
            time.sleep(0.1)
        raise SystemExit("the signal was lost")

    with forked_command("wait", prepare=lambda: cli.command()(wait)) as running:
        said = running.communicate()[1]
    assert (running.returncode, said) == (code, f"Error: stopped by {by}; the same command begins again\n")
