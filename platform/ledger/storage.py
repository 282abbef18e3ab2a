"""Optuna's storage in a database, opened without the files of all its migrations."""

import functools
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import create_engine, inspect, text

from ...searchers import optuna_private


def open_storage(url: str, settings: dict[str, Any], *, new: bool) -> optuna.storages.RDBStorage:
    """An RDBStorage in a fifth of the time that Optuna takes, which runs all its migrations' files to know its version.

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
    storage = optuna.storages.RDBStorage(url, settings, skip_table_creation=not new, skip_compatibility_check=True)
    if storage.get_current_version() != optuna_private.TABLES_VERSION:
        storage = optuna.storages.RDBStorage(url, settings, skip_table_creation=not new)  # refuses it
    return storage


@functools.cache
def empty_file() -> bytes:
    """A SQLite file with Optuna's tables and no study, made once a process: it is half of the work of a new ledger."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        creator = {"creator": lambda: sqlite3.connect(path)}  # in a URL a part of the path could mean something else
        close(open_storage("sqlite:///empty.db", creator, new=True))
        return path.read_bytes()


def close(storage: optuna.storages.RDBStorage) -> None:
    """Release the file or the connections."""
    storage.remove_session()
    storage.engine.dispose()
