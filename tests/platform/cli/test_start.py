"""What a command imports before it answers, what it says of a misspelt word, and what Tab completes."""

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dftune.platform.cli import main
from dftune.platform.cli.main import cli

HEAVY = ("torch", "ray", "scipy", "matplotlib", "pandas", "pyarrow", "rich")


def imported_by(*commands: list[object]) -> tuple[str, list[set[str]]]:
    """What commands print, one after the other in a new process, and which heavy packages it has after each."""
    code = (
        "import json, sys; from dftune.platform.cli.main import cli\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    cli(words, standalone_mode=False)\n"
        f"    print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    words = json.dumps([[str(word) for word in command] for command in commands])
    out = subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True, check=True)
    return out.stdout, [set(line.split()) for line in out.stderr.splitlines()]


def test_showing_a_study_imports_nothing_heavy_and_the_check_sees_what_is(studies, al4):
    shown, (of_a_study, of_data) = imported_by(
        ["study", "show", "kept", "--studies", studies], ["data", "show", al4.path]
    )
    assert "chosen: trial 3 (validation_loss 0.01562)" in shown
    assert "band-energy error  16.1 (2.0) meV/atom" in shown
    assert "rfr: τ +1.00" in shown
    assert of_a_study == set()
    assert of_data >= {"pyarrow", "scipy"}
    assert "pandas" not in of_data, "tables are read without it"


def test_threads_wait_briefly_for_each_other_unless_the_user_says_how_long(monkeypatch):
    seen = []
    monkeypatch.setattr(main, "cli", lambda **_: seen.append(os.environ["GOMP_SPINCOUNT"]))
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    before = signal.getsignal(signal.SIGTERM)
    try:
        main.main()
        monkeypatch.delenv("GOMP_SPINCOUNT")
        main.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["7", "1000"]


@pytest.mark.parametrize(
    "words, meant", [(["stduy"], "study"), (["study", "shwo"], "show"), (["study", "list", "--stduies"], "--studies")]
)
def test_a_misspelt_command_or_option_is_recognised(words, meant):
    result = CliRunner().invoke(cli, words, prog_name="dftune")
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr


def completed(shell: str, **environment: str) -> str:
    """What the command prints for a shell; test_study.py asks an installed one."""
    return CliRunner().invoke(cli, env={"_DFTUNE_COMPLETE": shell, **environment}, prog_name="dftune").stdout


@pytest.mark.parametrize(
    "shell, typed, word, line",
    [
        ("bash", "dftune study show k", "3", "plain,kept\n"),
        ("zsh", "dftune study show k", "3", "plain\nkept\n_\n"),
        ("fish", "dftune study show k", "k", "plain,kept\n"),
    ],
)
def test_names_of_studies_complete_in_each_shell(studies, shell, typed, word, line):
    options = {"COMP_WORDS": typed, "COMP_CWORD": word, "DFTUNE_STUDIES": str(studies)}
    assert completed(f"{shell}_complete", **options) == line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_help_names_the_completion_of_each_shell(shell):
    assert f"_DFTUNE_COMPLETE={shell}_source dftune" in CliRunner().invoke(cli, ["--help"]).stdout
    if shell == "bash":  # it looks for the bash of this machine, which must be 4.4 or later
        assert "complete -o nosort -F _dftune_completion" in completed("bash_source")
    else:
        assert "dftune" in completed(f"{shell}_source")
