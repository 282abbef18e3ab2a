"""Errors of datasets say what to do, and not only what is wrong."""

import ast
from pathlib import Path

import pytest

from dftune.tests.exported import edit
from dftune.tests.places import ROOT
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.errors import DatasetError

RAISED = ("DatasetError", "InputError", "refuse", "fail", "_fail")
FILES = sorted(file for file in (ROOT / "trainables" / "data").rglob("*.py") if file.parent.name != "generating")


def text_of(node):
    """A message, with what is put into it in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) for value in node.values)
    return f"{{{ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node)}}}"


def messages(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] in RAISED:
            yield node.lineno, text_of(node.args[-1] if ast.unparse(node.func).endswith("refuse") else node.args[0])


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_errors_have_a_remedy(file):
    """After a semicolon.  What ends with another error has that of the other one."""
    for line, text in messages(file):
        passed_on = text.endswith(("error}", "error)}", "problem}", "problem)}", ": ')}", "'magnetic')}"))
        assert "; " in text or passed_on, f"{file}:{line}: {text}"


def test_what_does_not_agree_has_the_remedy_to_take_it_in(raw, tmp_path):
    edit(raw / "000.json", key="band_energy_ev", value=40.9)
    with pytest.raises(DatasetError, match=r"; mend it, or import it as it is with --check warn$"):
        import_dataset([raw / "000.json"], tmp_path / "al4")
    assert len(import_dataset([raw / "000.json"], tmp_path / "al4", check="warn")) == 1
