"""Any path that the file system allows has its own ledger, and a file that is not one of ours is left as it is."""

import hashlib
import os
import sqlite3
import warnings
from contextlib import closing

import optuna
import pytest

from dftune import Study
from dftune.platform.ledger.ledger import Ledger, LedgerError
from dftune.platform.spec import StudySpec
from dftune.trainables.errors import InputError

# What a URL, a template, SQLite, a shell, a glob pattern or a terminal would read as something else than a name.
NAMES = [
    "run{1}", "{SCHEMA_VERSION}", "run?seed=1", "a?mode=memory", "feature%2Fnew", "50%", "a#b", "a&b", "a;b", "a+b",
    "with space", " ", "'quoted'", '"quoted"', "back\\slash", ":memory:", "file:x", "user@host", "~", "-dash", "[a-z]*",
    "$HOME", "two\nlines", "ünïcode Ω 日本語", "e\u0301 and é", "x" * 255, os.fsdecode(b"not \xe9 UTF-8"),
]  # fmt: skip


def spec(seed=0):
    space = {"width": {"type": "int", "low": 4, "high": 64}}
    return StudySpec.of({"name": "tiny", "dataset": "/nowhere", "space": space, "method": "random", "seed": seed})


def create(studies, seed=0):
    (studies / "tiny").mkdir(parents=True)
    with closing(Ledger.create(studies / "tiny" / "ledger.db", spec(seed), "0" * 64)):
        pass


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_folder_of_any_name_holds_its_studies(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # SQLAlchemy only warns of the part of a name that it has left out
        create(tmp_path / name)
    assert os.listdir(tmp_path) == [name], "and no other folder or file"
    assert os.listdir(tmp_path / name / "tiny") == ["ledger.db"]
    assert Study.names(tmp_path / name) == ["tiny"]
    assert Study.open("tiny", tmp_path / name).spec == spec()


def test_names_that_a_url_would_take_for_each_other_are_different_places(tmp_path):
    names = ["feature/new", "feature%2Fnew", "feature%252Fnew", "a", "a?b", "a#b", "a{0}", "a{{0}}"]
    for seed, name in enumerate(names):
        create(tmp_path / name, seed)
    assert [Study.open("tiny", tmp_path / name).spec.seed for name in names] == list(range(len(names)))


def test_a_path_longer_than_sqlite_opens_is_refused_in_one_line(tmp_path):
    room = 415 - len(os.fsencode(tmp_path))
    long = tmp_path.joinpath(*["x" * 30] * (room // 31))
    create(long)
    assert Study.open("tiny", long).spec == spec()
    for times, why in ((5, r"its path has \d+ bytes, more than SQLite opens; choose a"), (21, "File name too long")):
        with pytest.raises(InputError, match=why) as error:
            Ledger.create(tmp_path.joinpath(*["x" * 200] * times, "ledger.db"), spec(), "0" * 64)
        assert "\n" not in str(error.value)


def test_a_study_that_another_tool_has_made_beside_ours_is_passed_over(tmp_path):
    create(tmp_path)
    url = f"sqlite:///{tmp_path / 'tiny' / 'ledger.db'}"
    optuna.create_study(study_name="theirs", storage=url).optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    optuna.create_study(study_name="tiny, too", storage=url)
    study = Study.open("tiny", tmp_path)
    assert study.spec == spec()
    assert study.trials() == []
    with closing(Ledger.open(tmp_path / "tiny" / "ledger.db")) as ledger:
        ledger.asked(0, {"width": 8}, seed=0, scores={})
        ledger.told(0, 0.5, {"epoch": 1}, None)
    assert [t.value for t in study.trials()] == [0.5]
    assert len(optuna.load_study(study_name="theirs", storage=url).trials) == 3


@pytest.mark.parametrize("content", ["nothing", "a table"])
def test_looking_at_a_file_of_somebody_else_changes_nothing_in_it(content, tmp_path):
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as database:
        if content == "a table":
            database.execute("CREATE TABLE accounts (name text)")
        database.commit()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(LedgerError, match="not the ledger of a study"):
        Ledger.open(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert os.listdir(tmp_path) == ["ledger.db"]
