"""Optuna's storage in a database, opened without the files of all its migrations."""

import functools
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.util import LRUCache

from ...searchers import optuna_private

# The latest statements as text, of all files and databases that this process opens: SQLAlchemy alone forms each anew
# for each engine, which was two thirds of the time to open a ledger in a file.
_STATEMENTS: LRUCache[Any, Any] = LRUCache(500)
SHARED = {"compiled_cache": _STATEMENTS}  # execution options of an engine whose dialect is one of ours


class SharedSQLite(SQLiteDialect_pysqlite):
    """SQLite, whose statements are the same whichever the file."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


registry.register("sqlite.dftune", __name__, SharedSQLite.__name__)
registry.register("postgresql.dftune", f"{__package__}.shared_postgresql", "SharedPostgreSQL")


def open_file(creator: Callable[[], sqlite3.Connection], *, new: bool = False) -> optuna.storages.RDBStorage:
    """An RDBStorage in the SQLite file that ``creator`` connects to; otherwise as ``open_storage``.

    In a URL a part of the path could mean something else: ? # % {1}.
    """
    settings = {"creator": creator, "execution_options": SHARED}
    return open_storage("sqlite+dftune:///ledger.db", settings, new=new)


def open_storage(url: str, settings: dict[str, Any], *, new: bool) -> optuna.storages.RDBStorage:
    """An RDBStorage in a tenth of the time that Optuna takes, which runs all its migrations' files to know its version.

    Args:
        url: of the database.
        settings: for SQLAlchemy's engine.
        new: whether to make Optuna's tables where they are missing.

    Raises:
        RuntimeError: its tables are of another version; Optuna says what to do.
        SQLAlchemyError: the database cannot be used.
    """
    if new:
        engine = create_engine(url, **settings)
        try:
            with engine.begin() as connection:
                if not inspect(connection).has_table(optuna_private.TABLE_OF_STUDIES):
                    for statement in optuna_private.NOTE_VERSION:
                        connection.execute(text(statement))
        finally:
            engine.dispose()
    elif (storage := _of_this_version(url, settings)) is not None:
        return storage
    storage = optuna.storages.RDBStorage(url, settings, skip_table_creation=not new, skip_compatibility_check=True)
    if storage.get_current_version() != optuna_private.TABLES_VERSION:
        storage = optuna.storages.RDBStorage(url, settings, skip_table_creation=not new)  # refuses it
    return storage


def _of_this_version(url: str, settings: dict[str, Any]) -> optuna.storages.RDBStorage | None:
    """The storage, where the database says that its tables are of this version: Optuna asks it that four times."""
    engine = create_engine(optuna_private.filled(url), **settings)
    try:
        with engine.connect() as connection:
            found = connection.execute(text(optuna_private.VERSION)).scalars().all()
    except (OperationalError, ProgrammingError) as error:
        if optuna_private.TABLE_OF_VERSION not in str(error.orig):  # it is locked, or away
            raise
        found = []
    if found == [optuna_private.TABLES_VERSION]:
        return optuna_private.storage_of(url, settings, engine, scoped_session(sessionmaker(bind=engine)))
    engine.dispose()
    return None


@functools.cache
def empty_file() -> bytes:
    """A SQLite file with Optuna's tables and no study, made once a process: it is half of the work of a new ledger."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        close(open_file(lambda: sqlite3.connect(path), new=True))
        return path.read_bytes()


def close(storage: optuna.storages.RDBStorage) -> None:
    """Release the file or the connections."""
    storage.remove_session()
    storage.engine.dispose()
