"""What reaches a terminal: no command to it from anyone's file, and letters that it takes."""

import ast
import io
import json
import shutil
import sys

import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.cli.tables import json_text
from dftune.platform.progress import Plain, Terminal
from dftune.tests.places import ROOT
from dftune.trainables.errors import CONTROL, printable

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e\udc80"  # title, clear, line start, colour, direction, no letter


@pytest.fixture
def hostile(al4, tmp_path):
    """A dataset whose origin commands the terminal that shows it."""
    path = tmp_path / "data"
    path.mkdir()
    shutil.copy(al4.path / "snapshots.parquet", path)
    head = json.loads((al4.path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps(head | {"source": f"origin {EVIL[:-1]} end"}))
    return path


def test_control_characters_are_written_out_and_text_is_left_alone():
    text = "Ewald energy -2.3 ± 0.1 meV/Å³, τ = 300 K, μ_B → 🜁 日本\n\tnext\u00a0line"
    assert printable(text) == text
    assert printable("a\x1b[31mb\x9bc\rd\udc80") == r"a\x1b[31mb\x9bc\rd\udc80"
    assert not CONTROL.search(printable(EVIL))


def test_what_a_file_says_cannot_command_a_terminal(hostile):
    shown = CliRunner().invoke(cli, ["data", "show", str(hostile)])
    assert shown.exit_code == 0
    assert r"origin \x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e end" in shown.stdout
    assert not CONTROL.search(shown.stdout)


def test_nor_can_it_in_json_which_still_holds_it(hostile):
    shown = CliRunner().invoke(cli, ["data", "show", str(hostile), "--json"])
    assert not CONTROL.search(shown.stdout)
    assert EVIL[:-1] in json.loads(shown.stdout)["source"]


@pytest.mark.parametrize("command", [["data", "show"], ["model", "show"], ["study", "run"], ["compare"]])
def test_nor_can_a_name_in_an_error(command, tmp_path):
    said = CliRunner().invoke(cli, [*command, str(tmp_path / f"no{EVIL}")])
    assert said.exit_code in (1, 2)
    assert not CONTROL.search(said.output)
    assert "owned" in said.output


LINES = "no\nError: another"  # a name that would say something of its own


@pytest.mark.parametrize(
    "command",
    [
        ["data", "show"],
        ["data", "show", "x"],
        ["data", "import"],
        ["model", "predict"],
        ["study", "run"],
        [],
        ["-h", "x"],
    ],
)
def test_a_name_of_two_lines_makes_no_line_in_an_error(command, tmp_path):
    said = CliRunner().invoke(cli, [*command, f"--{LINES}" if command == [] else str(tmp_path / LINES)])
    assert "\nError: another" not in said.output


def test_nor_in_what_a_command_says(al4, tmp_path):
    place = tmp_path / LINES
    shutil.copytree(al4.path, place, ignore=shutil.ignore_patterns("descriptors"))
    shown = [["show", str(place)], ["copy", str(place), str(tmp_path / f"{LINES}2")]]
    for command in shown:
        said = CliRunner().invoke(cli, ["data", *command])
        assert said.exit_code == 0
        assert "no\\nError: another" in said.output
        assert "\nError" not in said.output


@pytest.mark.parametrize("progress", [Plain, Terminal])
def test_nor_can_progress(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = progress()
    shown.say(f"trial {EVIL}")
    shown.say(LINES)
    shown.close()
    assert "no\\nError: another" in sys.stderr.getvalue()
    assert r"\x1b]0;owned\x07" in sys.stderr.getvalue()
    assert not CONTROL.search(sys.stderr.getvalue())


def test_commands_print_through_the_one_function_that_cleans():
    for path in (ROOT / "platform" / "cli").glob("*.py"):
        if path.name == "tables.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            f"{n.value.id}.{n.attr}"
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        }
        assert not names & {"click.echo", "click.secho"}, f"{path.name}: print with `echo` of tables.py"


@pytest.mark.parametrize("charset", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize(
    "command", [["data", "show", "{al4}"], ["data", "show", "{al4}", "--json"], ["study", "show", "-h"]]
)
def test_a_terminal_of_any_encoding_is_written_to(command, charset, al4):
    """Kendall's τ stands in the help, Å in the JSON."""
    shown = CliRunner(charset=charset).invoke(cli, [part.format(al4=al4.path) for part in command])
    assert shown.exception is None
    if "--json" in command:
        assert json.loads(shown.stdout_bytes.decode(charset))["units"]["length"] == "Å"


def test_json_holds_no_number_that_is_none():
    assert json.loads(json_text({"a": [float("nan"), (float("-inf"), 1.5)]})) == {"a": [None, [None, 1.5]]}
