"""`dftune data` shows and checks the datasets of any kind of surrogates."""

import hashlib
import json

import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.toy_kind import ToyKind
from dftune.trainables.kinds import KINDS


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A dataset of the toy kind."""
    monkeypatch.setitem(KINDS._ours, "toy", ToyKind())
    pairs = [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]
    values = {"kind": "toy", "numbers": {"train": pairs, "validation": pairs[:2], "test": pairs[2:]}}
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    return tmp_path


def said(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_dataset_of_another_kind_is_shown_by_its_splits(numbers):
    lines = [line.split() for line in said("data", "show", numbers).splitlines()]
    assert lines == [[str(numbers)], ["split", "size"], ["train", "3"], ["validation", "2"], ["test", "1"]]


def test_a_dataset_of_another_kind_is_shown_to_programs(numbers):
    shown = json.loads(said("data", "show", numbers, "--json"))
    assert (shown["path"], shown["name"]) == (str(numbers), numbers.name)
    assert shown["fingerprint"] == hashlib.sha256((numbers / "dataset.json").read_bytes()).hexdigest()
    assert shown["rows"][0] == {"split": "train", "size": 3}


def test_a_dataset_of_another_kind_is_checked(numbers):
    assert said("data", "check", numbers) == f"{numbers}: every file has the checksum that it should have\n"
    assert json.loads(said("data", "check", numbers, "--json"))["snapshots"] == []


def test_the_kinds_that_there_are_are_named(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"kind": "toys"}))
    result = CliRunner().invoke(cli, ["data", "show", str(tmp_path)])
    assert result.exit_code == 1
    assert "there is no kind of surrogates 'toys'; did you mean 'alloys'?" in result.stderr
