"""Files with values and bytes that nobody would write: each is refused in one line, or is what it says."""

import copy
import json
import random
import shutil
import tomllib
from contextlib import suppress

import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.spec import SpecError, StudySpec
from dftune.tests.places import ROOT

ODD = [None, True, -1, 0, 1e308, 1e-320, 10**30, "x", "", [], {}, [[]], "\x1b[31m", "nan", [1, 2], {"a": 1}, "é" * 300]
RAW = [b"", b"\xff\xfe", b"[" * 50_000, b"{", b"null", b"3", b"\0" * 100, b"\xef\xbb\xbf{}", b'{"a":' * 50_000, b"NaN"]
OLD_MODEL = ROOT / "tests" / "data" / "before_kinds" / "old" / "model"


def places(values, above=()):
    """The place of every value in nested ones."""
    yield above
    for key in values if isinstance(values, dict) else range(min(2, len(values))) if isinstance(values, list) else ():
        yield from places(values[key], (*above, key))


def changed(values, dice):
    """The same with one value replaced by an odd one."""
    values, (*above, last) = copy.deepcopy(values), dice.choice(list(places(values))[1:])
    part = values
    for key in above:
        part = part[key]
    part[last] = dice.choice(ODD)
    return values


def shown(*command: object) -> None:
    """Run a command that may refuse, but not break."""
    result = CliRunner().invoke(cli, [str(word) for word in command])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "went wrong inside" not in result.output
    if result.exit_code:
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_head_with_odd_values_or_bytes(kind, al4, tmp_path):
    folder = tmp_path / "head"
    if kind == "model":
        shutil.copytree(OLD_MODEL, folder)
    else:
        folder.mkdir()
        for name in ("dataset.json", "snapshots.parquet"):
            shutil.copy(al4.path / name, folder)
    head = folder / f"{kind}.json"
    values, dice = json.loads(head.read_text()), random.Random(0)
    contents = [*RAW, *(json.dumps(changed(values, dice)).encode() for _ in range(15))]
    for content in contents:
        head.write_bytes(content)
        shown("data" if kind == "dataset" else "model", "show", folder)


@pytest.mark.parametrize("name", ["snapshots.parquet", "weights.safetensors"])
def test_a_table_or_weights_with_odd_bytes(name, al4, tmp_path):
    folder, dice = tmp_path / "folder", random.Random(1)
    if name == "weights.safetensors":
        shutil.copytree(OLD_MODEL, folder)
    else:
        folder.mkdir()
        shutil.copy(al4.path / "dataset.json", folder)
        shutil.copy(al4.path / name, folder)
    whole = (folder / name).read_bytes()
    for n in range(15):
        content = bytearray(whole)
        for _ in range(3):
            content[dice.randrange(min(len(content), 5000))] = dice.randrange(256)
        (folder / name).write_bytes(content[: dice.randrange(len(content))] if n % 4 == 0 else content)
        shown("data" if name == "snapshots.parquet" else "model", "show", folder)


def test_a_study_with_odd_values():
    values = tomllib.loads((ROOT / "examples" / "al4.toml").read_text(encoding="utf-8"))
    values |= {"dataset": "/nowhere", "budget": {"seconds": 5.0}, "resources": {"cpus": 1}, "compare": {"seeds": [0]}}
    dice = random.Random(0)
    for _ in range(150):
        odd = changed(values, dice)
        with suppress(SpecError):
            StudySpec.of(odd)
