"""Study files, datasets and models with random faults, by a seed: refused in one line, or read as what they say.

A few of them run each time, some hundreds in the slow test.  Commands that start Ray end where they would connect.
"""

import json
import random
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.places import ROOT
from dftune.tests.platform.cli.test_malformed import OLD_MODEL, changed

FEW, MANY = 3, 120  # faults of each target
WORDS = [
    "nan", "-inf", "inf", "1e400", "-0", "9" * 400, "0x10", "1_000", '""', "'x'", '"\\u0000"', "[]", "{}", "true",
    "1979-05-27", "[" * 300 + "]" * 300, "[1, [2, {a = 3}]]", '"' + "é" * 500 + '"', '"../../x"', '"\\u001b[31m"',
    "5e-324", "1e308", "-1", "0", "2.5", '"4.68"', "[4.68, 5]",
]  # fmt: skip
JUNK = ["", "\n", "=", "[", "]", '"', "{", "}", ".", "\x00", "\udcff", "é", "name = 1\n", "[space]\n", "#", "\ufeff"]
NUMBERS = [np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0, -1.0, 5e-324, 1e30]
TEXTS = ["", "../../x", "a/b", "\x1b[2J", "x" * 5000, "nul\x00", "é\u202e", "000"]


def damaged_text(text: str, dice: random.Random) -> bytes:
    """Some values of a TOML or JSON text replaced, and now and then some letters."""
    lines = text.splitlines(keepends=True)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(lines))
        way = dice.random()
        if way < 0.6 and "=" in lines[at]:
            lines[at] = f"{lines[at].partition('=')[0]}= {dice.choice(WORDS)}\n"
        elif way < 0.75:
            lines.insert(at, lines[dice.randrange(len(lines))])
        elif way < 0.85:
            del lines[at]
            lines = lines or ["\n"]
        else:
            line = lines[at]
            cut = dice.randrange(len(line) + 1)
            lines[at] = line[:cut] + dice.choice(JUNK) + line[cut + dice.randint(0, 4) :]
    return damaged_bytes("".join(lines).encode("utf-8", "surrogateescape"), dice, likely=0.15)


def damaged_bytes(content: bytes, dice: random.Random, likely: float = 1.0) -> bytes:
    """Cut short, with bits turned, or with a piece of it twice."""
    if dice.random() > likely or not content:
        return content
    way, at = dice.randrange(4), dice.randrange(len(content))
    if way == 0:
        return content[:at]
    if way == 1:
        return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]
    if way == 2:
        return content[:at] + dice.randbytes(dice.randint(1, 40)) + content[at:]
    return content[:at] + content[at // 2 :]


def damaged_table(table: pa.Table, dice: random.Random) -> pa.Table:
    """A column left out, of another type or name, or with an odd value."""
    name = dice.choice(table.column_names)
    index, column = table.column_names.index(name), table.column(name)
    way = dice.randrange(7)
    if way == 0:
        return table.drop_columns([name])
    if way == 1:
        return table.rename_columns([dice.choice(TEXTS) if n == name else n for n in table.column_names])
    if way == 2:
        return pa.concat_tables([table, table.slice(0, 1)])
    if way == 3:
        return table.slice(0, dice.choice([0, 1]))
    if way == 4:
        return table.set_column(index, name, pa.array([str(v) for v in column.to_pylist()]))
    values = column.to_pylist()
    values[dice.randrange(len(values))] = odd_like(values[0], dice)
    try:
        return table.set_column(index, name, pa.array(values, type=column.type if way == 5 else None))
    except (pa.ArrowException, OverflowError):  # no table can hold such a value
        return table.drop_columns([name])


def odd_like(value: object, dice: random.Random) -> object:
    """An odd value in the place of another one, of its type in most cases."""
    if dice.random() < 0.15:
        return None
    if isinstance(value, list):
        if dice.random() < 0.5 and value:
            value = list(value)
            value[dice.randrange(len(value))] = odd_like(value[0], dice)
            return value
        return dice.choice([[], value[:-1], value + value])
    if isinstance(value, str):
        return dice.choice(TEXTS)
    if isinstance(value, int):
        return dice.choice([0, -1, 2**31 - 1, 10**9, 119, 255])
    return dice.choice(NUMBERS)


def told(*command: object) -> tuple[int, str]:
    """Exit code and output of a command, which may refuse in one line, but not break."""
    result = CliRunner().invoke(cli, [str(word) for word in command])
    assert result.exception is None or isinstance(result.exception, SystemExit), command
    assert "went wrong inside" not in result.output, result.output
    assert not [c for c in result.output if not c.isprintable() and c not in "\n"], "control characters"
    if result.exit_code:
        # Click says how a command is used above its own refusals; its and our last line is the reason.
        assert result.stderr.strip().splitlines()[-1].startswith("Error: "), result.stderr
        assert result.stdout.strip() == "", result.stdout
    return result.exit_code, result.stdout


def no_constant(word: str) -> None:
    raise AssertionError(f"{word} in JSON")


def strict(text: str) -> object:
    """The JSON of a command, which has no NaN."""
    return json.loads(text, parse_constant=no_constant)


def try_study(name: str, tmp_path: Path, dice: random.Random) -> bool:
    """Whether a study file with faults was taken."""
    file = tmp_path / name
    text = (ROOT / "examples" / name).read_text(encoding="utf-8").replace('"al4" ', f'"{tmp_path / "al4"}" ')
    content = damaged_text(text, dice)
    file.write_bytes(content)
    command = ["compare", file, "--output", tmp_path / "out"] if name == "compare.toml" else ["study", "run", file]
    code, _ = told(*command, *(() if name == "compare.toml" else ("--studies", tmp_path / "studies")))
    assert code != 0, "there is no Ray"
    taken, said = told("study", "check", file, "--json")
    if taken == 0:
        strict(said)
        tomllib.loads(content.decode("utf-8-sig"))
    return taken == 0


def try_dataset(name: str, tmp_path: Path, dice: random.Random) -> bool:
    """Whether a dataset with a fault in one of its files was taken."""
    folder = tmp_path / "al4"
    whole = (folder / name).read_bytes()
    try:
        if name == "dataset.json":
            values = json.loads(whole)
            content = json.dumps(changed(values, dice)).encode() if dice.random() < 0.6 else whole
            (folder / name).write_bytes(damaged_bytes(content, dice, likely=0.2 if content != whole else 1.0))
        elif dice.random() < 0.7:
            pq.write_table(damaged_table(pq.read_table(folder / name), dice), folder / name)
        else:
            (folder / name).write_bytes(damaged_bytes(whole, dice))
        code, said = told("data", "show", folder, "--json")
        if code == 0:
            shown = strict(said)
            assert isinstance(shown, dict)
        assert told("descriptors", "compute", folder, "--cutoff", 4, "--two-j-max", 4)[0] != 0, "there is no Ray"
        told("data", "show", folder)
        return code == 0
    finally:
        (folder / name).write_bytes(whole)


def try_model(name: str, tmp_path: Path, dice: random.Random) -> bool:
    """Whether a model with a fault in one of its files was taken."""
    folder = tmp_path / "old.model"
    whole = (folder / name).read_bytes()
    try:
        if name == "model.json" and dice.random() < 0.6:
            (folder / name).write_text(json.dumps(changed(json.loads(whole), dice)))
        else:
            (folder / name).write_bytes(damaged_bytes(whole, dice))
        code, said = told("model", "show", folder, "--json")
        if code == 0:
            strict(said)
        assert told("serve", folder, "--token-file", tmp_path / "token")[0] != 0, "there is no Ray"
        return code == 0
    finally:
        (folder / name).write_bytes(whole)


TRIED = {
    "al4.toml": try_study,
    "compare.toml": try_study,
    "dataset.json": try_dataset,
    "snapshots.parquet": try_dataset,
    "model.json": try_model,
    "weights.safetensors": try_model,
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a dataset, a model and a token."""
    (tmp_path / "al4").mkdir()
    (tmp_path / "al4" / "ldos").symlink_to(ROOT / "examples" / "al4" / "ldos")
    for name in ("dataset.json", "snapshots.parquet"):
        shutil.copy(ROOT / "examples" / "al4" / name, tmp_path / "al4")
    shutil.copytree(OLD_MODEL, tmp_path / "old.model")
    (tmp_path / "token").write_text("a" * 40)
    (tmp_path / "token").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "no cluster")
    return tmp_path


@pytest.mark.parametrize("name", TRIED)
def test_some_random_faults(name, workplace):
    for seed in range(FEW):
        TRIED[name](name, workplace, random.Random(f"{name} {seed}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_many_random_faults(name, workplace):
    """Some of the files are still right, so that it is not for another reason that all are refused."""
    taken = [TRIED[name](name, workplace, random.Random(f"{name} {seed}")) for seed in range(FEW, FEW + MANY)]
    assert any(taken) or name == "weights.safetensors"
    assert not all(taken)
