"""How a command ends when something goes wrong: with one line, and the traceback of a bug in a file."""

import json
import re
import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dftune.platform.cli.job import main as run_job
from dftune.platform.cli.main import cli
from dftune.platform.study.study import Study
from dftune.platform.submit.order import Order
from dftune.trainables.data.dataset import Dataset


def ended(*arguments: object) -> list[str]:
    """The lines that a command says on stderr when it fails."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dftune")
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr.splitlines()


def file_in(line: str) -> Path:
    """Where the traceback is that a line names."""
    found = re.search(r"the traceback (?:is )?in (\S+\.txt) ", line)
    assert found is not None
    return Path(found[1])


def raises(error: Exception):
    """A function of no file: an error that comes from a script of the user's is told with its line."""
    there = {"error": error}
    exec("def raise_it(*_, **__):\n    raise error", there)
    return there["raise_it"]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """A folder for temporary files of its own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("DFTUNE_DEBUG", raising=False)
    return tmp_path / "temporary"


def test_a_bug_ends_with_one_line_and_its_traceback_in_the_studys_folder(studies, monkeypatch):
    monkeypatch.setattr(Study, "trials", raises(KeyError("width")))
    (line,) = ended("study", "show", "kept", "--studies", studies)
    assert line.startswith("Error: something went wrong inside (KeyError: 'width'); this is no mistake of yours")
    assert "DFTUNE_DEBUG=1 prints it" in line
    assert file_in(line).parent == studies / "kept"
    assert file_in(line).read_text().splitlines()[-1] == "KeyError: 'width'"


def test_a_bug_outside_of_studies_leaves_its_traceback_among_temporary_files(al4, monkeypatch, temporary):
    monkeypatch.setattr(Dataset, "lines", raises(KeyError("id")))
    (line,) = ended("data", "show", al4.path)
    assert file_in(line).parent == temporary
    assert 'File "' in file_in(line).read_text()


def test_with_debug_the_traceback_is_printed_too(studies, monkeypatch):
    monkeypatch.setenv("DFTUNE_DEBUG", "1")
    monkeypatch.setattr(Study, "trials", raises(KeyError("width")))
    said = ended("study", "show", "kept", "--studies", studies)
    assert said[0] == "Traceback (most recent call last):"
    assert said[-2] == "KeyError: 'width'"
    assert file_in(said[-1]).is_file()


def test_what_the_system_refuses_is_no_bug_of_dftune(studies, monkeypatch):
    monkeypatch.setattr(Study, "trials", raises(OSError(28, "No space left on device", "ledger.db")))
    (line,) = ended("study", "show", "kept", "--studies", studies)
    assert line.startswith("Error: the system refused: [Errno 28] No space left on device: 'ledger.db'; the traceback")
    assert "report" not in line
    assert file_in(line).is_file()


def test_a_mistake_of_the_user_leaves_no_traceback(studies, temporary):
    (line,) = ended("study", "show", "other", "--studies", studies)
    assert "no ledger" in line
    assert not list(studies.rglob("traceback-*"))
    assert not list(temporary.iterdir())


READER = """
class Reader:
    name, about = "mine", "a folder"

    def recognises(self, path):
        return True

    def read(self, sources, *, told, report):
        {line}


READER = Reader()
"""


def test_an_error_of_the_users_own_script_names_its_line(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(READER.format(line="return 1 / 0"))
    (line,) = ended("data", "import", tmp_path, tmp_path / "made", "--reader", script)
    assert line.startswith(f"Error: {script}, line 9: ZeroDivisionError: division by zero; the traceback is in ")
    assert file_in(line).is_file()
    script.write_text(READER.format(line="return None"))
    (line,) = ended("data", "import", tmp_path, tmp_path / "made", "--reader", script)
    assert line == "Error: importer 'mine' gave a NoneType, not Found; see docs/extending.md"


@pytest.mark.parametrize(
    "error, code, said", [(click.Abort(), 1, "Aborted!"), (click.UsageError("so not"), 2, "Error: so not")]
)
def test_what_click_raises_passes_as_it_is(studies, monkeypatch, temporary, error, code, said):
    monkeypatch.setattr(Study, "trials", raises(error))
    result = CliRunner().invoke(cli, ["study", "show", "kept", "--studies", str(studies)])
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == said
    assert not list(temporary.iterdir())


def test_a_bug_in_a_submitted_study_ends_it_likewise(studies, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Study, "from_spec", raises(KeyError("width")))
    order = Order({"name": "kept", "dataset": "/nowhere", "method": "random"}, str(studies), [], False)
    (tmp_path / "order.json").write_text(order.to_json())
    assert json.loads(order.to_json())["studies"] == str(studies)
    assert run_job(str(tmp_path / "order.json")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: something went wrong inside (KeyError: 'width')")
    assert file_in(line).parent == studies / "kept"
