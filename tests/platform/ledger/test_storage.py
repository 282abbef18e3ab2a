import sqlite3
from contextlib import closing, contextmanager

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from dftune.platform.ledger import storage as storage_module
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.places import Database
from dftune.platform.ledger.storage import close, empty_file, open_file, open_storage
from dftune.searchers import optuna_private
from dftune.tests.platform.ledger.elsewhere import SPEC


@contextmanager
def closing_storage(storage):
    yield storage
    close(storage)


@pytest.fixture
def storage(tmp_path):
    with closing_storage(RDBStorage(f"sqlite:///{tmp_path / 'ledger.db'}")) as storage:
        yield storage


def tables_of(storage):
    """What SQLite has, the statements without their spaces, and the version that is noted there."""
    with storage.engine.connect() as connection:
        found = connection.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name")).all()
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    statements = {name: None if sql is None else "".join(sql.split()) for name, sql in found}
    return statements, version


@pytest.mark.parametrize("noted", [False, True], ids=["new", "made half"])
def test_a_storage_that_is_opened_fast_is_the_one_that_optuna_makes(storage, tmp_path, noted):
    url = f"sqlite:///{tmp_path / 'fast.db'}"
    if noted:  # ended between the note of the version and the tables
        with closing(sqlite3.connect(tmp_path / "fast.db")) as database:
            for statement in optuna_private.NOTE_VERSION:
                database.execute(statement)
            database.commit()
    with closing_storage(open_storage(url, {}, new=True)) as fast:
        assert tables_of(fast) == tables_of(storage)
        assert fast.get_head_version() == optuna_private.TABLES_VERSION
        study = fast.create_new_study([StudyDirection.MINIMIZE], "a")
    with (
        closing_storage(open_storage(url, {}, new=False)) as again,
        closing_storage(RDBStorage(url)) as theirs,
    ):
        assert again.get_study_id_from_name("a") == theirs.get_study_id_from_name("a") == study


def test_a_storage_whose_version_is_known_has_all_that_optunas_has(storage):
    settings = {}
    with closing_storage(open_storage(storage.url, settings, new=False)) as fast:
        assert vars(fast)["_version_manager"] is None, "the database was asked once"
        made = dict.fromkeys(("engine", "scoped_session", "_version_manager"))
        theirs = RDBStorage(storage.url, settings, skip_table_creation=True, skip_compatibility_check=True)
        with closing_storage(theirs):
            assert vars(fast) | made == vars(theirs) | made
            assert [type(vars(fast)[name]) for name in ("engine", "scoped_session")] == [
                type(vars(theirs)[name]) for name in ("engine", "scoped_session")
            ]


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.PRUNED])
def test_a_trial_that_is_written_at_once_is_the_one_that_optuna_writes(storage, state):
    study = storage.create_new_study([StudyDirection.MINIMIZE], "a")
    template = create_trial(
        state=state,
        params={"width": 8, "rate": 0.1, "activation": "gelu"},
        distributions={
            "width": IntDistribution(4, 64, log=True),
            "rate": FloatDistribution(0.01, 1.0),
            "activation": CategoricalDistribution(["relu", "gelu"]),
        },
        user_attrs={"seed": 3, "score:rfr": 1.5},
    )
    with closing_storage(open_storage(storage.url, {}, new=False)) as fast:
        made = [some.create_new_trial(study, template) for some in (storage, fast, storage)]
        first, second, third = (storage.get_trial(number) for number in made)
        assert [first.number, second.number, third.number] == [0, 1, 2]
        for name, value in vars(first).items():
            if name not in ("_number", "_trial_id"):
                assert vars(second)[name] == value, name
        assert fast.get_trial(made[1]) == second
        whole = create_trial(state=TrialState.COMPLETE, value=1.0, system_attrs={"of": "Optuna"})
        assert fast.get_trial(fast.create_new_trial(study, whole)).system_attrs == {"of": "Optuna"}


def test_a_file_without_a_version_is_opened_as_optuna_does(tmp_path):
    with pytest.raises(StorageInternalError):  # it looks for a table that is not there
        open_storage(f"sqlite:///{tmp_path / 'none.db'}", {}, new=False)


def test_the_file_of_a_new_ledger_is_the_one_that_optuna_makes(storage, tmp_path):
    path = tmp_path / "empty.db"
    path.write_bytes(empty_file())
    with closing_storage(open_storage(f"sqlite:///{path}", {}, new=False)) as new:
        assert tables_of(new) == tables_of(storage)
        assert new.get_all_studies() == []


def test_a_second_file_takes_the_statements_of_the_first_and_has_its_own_rows(tmp_path):
    formed = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.db"
        path.write_bytes(empty_file())
        with closing_storage(open_file(lambda path=path: sqlite3.connect(path))) as storage:
            storage.create_new_study([StudyDirection.MINIMIZE], name)
            assert [study.study_name for study in storage.get_all_studies()] == [name]
        formed.append([sql for sql in map(str, storage_module._STATEMENTS.values()) if "studies" in sql])
    assert formed[0] == formed[1] != []


def test_a_second_database_takes_the_statements_of_the_first_and_has_its_own_rows(postgresql, tables):
    formed = []
    for name in ("a", "b"):
        place = Database(postgresql.new_database(like=tables))
        Ledger.create(place, SPEC.model_copy(update={"name": name}), "0" * 64).close()
        assert place.names() == [name]
        formed.append([sql for sql in map(str, storage_module._STATEMENTS.values()) if "%(" in sql])
    assert formed[0] == formed[1] != []


def test_tables_of_another_version_are_refused_with_optunas_words(storage):
    with storage.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    with pytest.raises(RuntimeError, match="optuna storage upgrade"):
        open_storage(storage.url, {}, new=False)
