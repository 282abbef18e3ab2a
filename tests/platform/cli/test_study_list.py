"""One damaged or foreign ledger hides no other study from the list, and says in a line what is wrong with it."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import optuna
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.ledger.ledger import LedgerError
from dftune.platform.study.study import Study
from dftune.tests.platform.cli.conftest import make_study


def change(statement, *values):
    def damage(path):
        with closing(sqlite3.connect(path)) as database:
            database.execute(statement, values)
            database.commit()

    return damage


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite_pages(path):
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 40_000)


def make_folder(path):
    path.unlink()
    path.mkdir()


def dangle(path):
    path.unlink()
    path.symlink_to("gone.db")


def of_another_tool(path):
    path.unlink()
    optuna.create_study(study_name="theirs", storage=f"sqlite:///{path}")


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "no database": lambda path: path.write_bytes(b"not a database, but long enough to look like one" * 40),
    "half a file": truncate,
    "overwritten pages": overwrite_pages,
    "a folder": make_folder,
    "a dangling link": dangle,
    "another tool's": of_another_tool,
    "no table of trials": change("DROP TABLE trials"),
    "no attribute": change("DELETE FROM study_user_attributes"),
    "an attribute cut off": change("UPDATE study_user_attributes SET value_json = substr(value_json, 1, 50)"),
    "a report cut off": change("UPDATE trial_user_attributes SET value_json = substr(value_json, 1, 5)"),
    "a report of another form": change("UPDATE trial_user_attributes SET value_json = '[1]' WHERE key = 'result'"),
    "an unknown state": change("UPDATE trials SET state = 'SLEEPING'"),
    "a hyperparameter cut off": change("UPDATE trial_params SET distribution_json = '{'"),
    "a time of another form": change("UPDATE trials SET datetime_start = 'noon'"),
    "a result of another form": change("UPDATE study_user_attributes SET value_json = '7' WHERE key = 'dftune'"),
}


def test_a_copy_under_another_name_is_not_shown_with_the_values_of_the_first(studies):
    shutil.copytree(studies / "kept", studies / "aged")
    change("UPDATE trial_values SET value = 100")(studies / "aged" / "ledger.db")
    result = CliRunner().invoke(cli, ["study", "list", "--json", "--studies", str(studies)])
    copied, kept = json.loads(result.stdout)["studies"]
    assert (copied["name"], copied["state"], copied["best"]) == ("aged", "unreadable", None)
    assert "aged: holds study 'kept'; give the folder that name" in copied["problem"]
    assert kept["best"] == 1 / 64


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_ledger_hides_no_other_study(damage, studies):
    make_study(studies, "aged")
    DAMAGES[damage](studies / "aged" / "ledger.db")
    options = ["--studies", str(studies)]

    result = CliRunner().invoke(cli, ["study", "list", "--json", *options])
    assert result.exit_code == 0, result.output
    broken, kept = json.loads(result.stdout)["studies"]
    assert (broken["name"], broken["state"], broken["trials"]) == ("aged", "unreadable", None)
    assert broken["problem"]
    assert "\n" not in broken["problem"]
    assert (kept["name"], kept["state"], kept["trials"], kept["best"]) == ("kept", "ended", 4, 1 / 64)
    assert kept["problem"] is None

    result = CliRunner().invoke(cli, ["study", "list", *options])
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [["aged", "unreadable"], ["kept", "ended"]]
    assert result.stderr == f"study aged: {broken['problem']}\n"

    with pytest.raises(LedgerError) as error:  # asked for alone, it is the user's file that is wrong, not the program
        Study.open("aged", studies).look()
    assert str(error.value) == broken["problem"]
