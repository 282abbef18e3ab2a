"""Where a ledger is kept: in a SQLite file beside its study, or with many others in a PostgreSQL database.

A place opens Optuna's storage, tells errors that pass from those that stay, and has the home of the studies' leases.
The password of a database stays in the place: no text about the place or an error contains it.
"""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from ...cluster.processes import standing_still
from ...searchers import optuna_private
from ...trainables.errors import InputError, one_line
from ...trainables.files import atomic
from .lease import Folder, Holder, Home, Sign
from .storage import SHARED, close, empty_file, open_file, open_storage

OURS = "dftune"  # the attribute that a study of ours has, and one of another tool has not
LOCKED_SECONDS = 5.0  # SQLite itself waits so long for another program that has the file locked
_PASSING = ("is locked", "unable to open", "disk I/O error", "disk is full", "is not there")  # storage may come back
_LONG = 430  # bytes of a path, with what is added to it while it is made, and SQLite's journal, 512 at most
_DRIVER = "postgresql+dftune"  # psycopg, by shared_postgresql.py
_FORM = "postgresql://USER@HOST/DATABASE"
_TABLES = 0x6466_7475  # the lock under which tables are made
# A dead network is noticed within half a minute, not after two hours.
_CONNECTION = {
    "application_name": "dftune",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_CLOCK = "extract(epoch FROM clock_timestamp())::double precision"
_MAKE_LEASES = """
CREATE TABLE dftune_leases (
    name text PRIMARY KEY, number integer NOT NULL, holder text NOT NULL, beat double precision NOT NULL, stop text
)
"""
# A holder that freezes in the middle of a write lets go of its locks before its lease may be taken over.
_SETTINGS = ("SET idle_in_transaction_session_timeout = '30s'", "SET lock_timeout = '40s'")


class LedgerError(InputError):
    """The ledger is missing, damaged, of another version, or cannot be written."""


class LedgerAway(LedgerError):
    """The ledger cannot be used now; it may come back."""


class LedgerFile:
    """A SQLite file, which holds one study.

    Args:
        path: it; its folder holds the leases.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def holds(self, name: str) -> bool:
        """Whether the study is there."""
        return self.path.exists()

    def home(self, name: str) -> Home:
        """Where the leases of the study are."""
        return Folder(self.path.parent)

    @contextmanager
    def creating(self, name: str) -> Iterator[tuple[optuna.storages.RDBStorage, str]]:
        """A storage for a new study, and its name while it is made: it appears whole at the end, or not at all."""
        with atomic(self.path) as temporary:
            temporary.write_bytes(empty_file())
            storage = _sqlite(temporary)
            yield storage, name
            close(storage)

    def open(self, name: str | None) -> tuple[optuna.storages.RDBStorage, int]:
        """The storage, and the number of the study in it.  Raises LedgerError if there is none."""
        if not self.path.is_file():
            raise LedgerError(f"{self}: no ledger; `dftune study list` shows the studies there are")
        with closing(_connect(self.path)) as database:  # Optuna would make its tables in any file that has none
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if optuna_private.TABLE_OF_STUDIES not in names:
            raise LedgerError(f"{self}: not the ledger of a study; remove it, or restore the ledger from a backup")
        storage = _sqlite(self.path)
        try:
            # Another tool may have made studies of its own beside it.
            ours = [study for study in storage.get_all_studies() if OURS in study.user_attrs]
            if len(ours) != 1:
                raise LedgerError(f"{self}: an Optuna storage, but not the ledger of one dftune study")
            return storage, optuna_private.study_id(ours[0])
        except BaseException:
            close(storage)
            raise

    def remove(self, name: str) -> None:
        """Delete the study, whatever its file has become."""
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink()

    def guard(self) -> Callable[[], None]:
        """A function that raises if the file is away, or is another one than now."""
        first = _identity(self.path)

        def look() -> None:
            found = _identity(self.path)
            if found is None:  # SQLite would go on writing to a file that has no name any more
                raise sqlite3.OperationalError("the file is not there")
            if found != first:
                raise LedgerError(f"{self}: has been replaced by another file meanwhile; resume the study")

        return look

    def passes(self, error: Exception) -> bool:
        """Whether the trouble may pass by itself."""
        return any(p in self.cause(error) for p in _PASSING)

    def cause(self, error: Exception) -> str:
        """The database's own words, without SQLAlchemy's."""
        words, length = one_line(_innermost(error)), len(os.fsencode(self.path.absolute()))
        if "unable to open" in words and length > _LONG:
            return f"its path has {length} bytes, more than SQLite opens; choose a --studies folder with a shorter path"
        if "is locked" in words:
            for process in standing_still(self.path)[:1]:  # SQLite cannot take a lock from it
                words += (
                    f" by process {process}, which stands still; let it go on (kill -CONT {process}) or end it "
                    f"(kill -KILL {process})"
                )
        return words


class Database:
    """A PostgreSQL database, which holds many studies, and their leases.

    Args:
        url: ``postgresql://USER@HOST/DATABASE``, with a password or without.

    Raises:
        LedgerError: the URL is of another form, or the driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            known = parsed.get_backend_name() in ("postgresql", "postgres") and bool(parsed.database)
        except (ArgumentError, ValueError):
            known = False
        if not known:  # what was given may hold a password: it is not repeated
            raise LedgerError(f"not the URL of a PostgreSQL ledger; write {_FORM}")
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise LedgerError("a PostgreSQL ledger needs a driver; pip install 'dftune[postgresql]'") from error
        self._url: URL = parsed.set(drivername="postgresql+psycopg")
        passwords = (parsed.password, parsed.query.get("password"))
        self._secrets = [word for word in passwords if isinstance(word, str) and word]

    def __str__(self) -> str:
        where = {key: value for key, value in self._url.query.items() if key in ("host", "port")}
        shown = URL.create(
            "postgresql", self._url.username, None, self._url.host, self._url.port, self._url.database, where
        )
        return shown.render_as_string()

    def names(self) -> list[str]:
        """Names of the studies there, sorted.  Raises LedgerError if the database cannot be read."""
        with self._asked() as engine, engine.connect() as connection:
            if not inspect(connection).has_table(optuna_private.TABLE_OF_STUDIES):
                return []
            query = f"{optuna_private.STUDIES_WITH_ATTRIBUTE} AND study_name NOT LIKE '.%'"
            return sorted(connection.execute(text(query), {"key": OURS}).scalars())

    def holds(self, name: str) -> bool:
        """Whether the study is there.  Errors as ``names``."""
        with self._asked() as engine, engine.connect() as connection:
            if not inspect(connection).has_table(optuna_private.TABLE_OF_STUDIES):
                return False
            found = connection.execute(text(optuna_private.STUDY_OF_NAME), {"name": name})
            return found.first() is not None

    def home(self, name: str) -> Home:
        """Where the leases of the study are."""
        return _Table(self, name)

    @contextmanager
    def creating(self, name: str) -> Iterator[tuple[optuna.storages.RDBStorage, str]]:
        """As for a file.  The study has a temporary name until it is whole."""
        with self._asked() as engine, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _TABLES})
            new = not inspect(connection).has_table(optuna_private.TABLE_OF_STUDIES)
            storage = self._storage(new=new)  # makes the tables, which two at once could not
        temporary = f".{name}.{secrets.token_hex(4)}"
        try:
            yield storage, temporary
            with storage.engine.begin() as connection:
                connection.execute(text(optuna_private.RENAME_STUDY), {"name": name, "temporary": temporary})
        except IntegrityError as error:
            raise LedgerError(
                f"{self}: a study '{name}' exists; go on with `dftune study resume {name}`, or choose another name"
            ) from error
        finally:
            with storage.engine.connect() as connection:
                left = connection.execute(text(optuna_private.STUDY_OF_NAME), {"name": temporary}).scalar()
            if left is not None:
                storage.delete_study(left)
            close(storage)

    def open(self, name: str | None) -> tuple[optuna.storages.RDBStorage, int]:
        """The storage, and the number of the study in it.  Raises LedgerError if there is none."""
        if name is None or not self.holds(name):
            raise LedgerError(f"{self}: no study '{name}'; `dftune study list` shows the studies there are")
        storage = self._storage(new=False)
        return storage, storage.get_study_id_from_name(name)

    def remove(self, name: str) -> None:
        """As for a file.  The row of its leases stays: their numbers only grow."""
        storage, study = self.open(name)
        storage.delete_study(study)
        close(storage)

    def guard(self) -> Callable[[], None]:
        """A function that raises nothing: the server sees to it that the database stays the same."""
        return lambda: None

    def passes(self, error: Exception) -> bool:
        """As for a file: the server is away or starts, the connection is lost, there is a deadlock or no room."""
        return any(
            isinstance(e, (OperationalError, InterfaceError))
            or (isinstance(e, DBAPIError) and e.connection_invalidated)
            for e in _chain(error)
        )

    def cause(self, error: Exception) -> str:
        """As for a file, and without the password."""
        words = one_line(_innermost(error))
        for secret in self._secrets:
            words = words.replace(secret, "***")
        return words

    def engine(self) -> Engine:
        """An engine whose connections notice when the server goes away, and are made again when it is back."""
        return create_engine(self._url.set(drivername=_DRIVER), **self._settings())

    def _storage(self, *, new: bool) -> optuna.storages.RDBStorage:
        # Optuna formats the URL as a template: braces of a password are quoted in it, as are other special letters.
        url = self._url.set(drivername=_DRIVER).render_as_string(hide_password=False)
        return open_storage(url, self._settings(), new=new)

    def _settings(self) -> dict[str, Any]:
        return {
            "execution_options": SHARED,
            "use_native_hstore": False,  # for a type that Optuna's tables have not, it asked the server at each start
            "pool_pre_ping": True,
            "pool_size": 2,
            "isolation_level": "READ COMMITTED",
            "connect_args": {key: value for key, value in _CONNECTION.items() if key not in self._url.query},
            "pool_events": [(_set_up, "connect")],
        }

    @contextmanager
    def _asked(self) -> Iterator[Engine]:
        """An engine for a few questions."""
        engine = self.engine()
        try:
            yield engine
        except SQLAlchemyError as error:
            raise (LedgerAway if self.passes(error) else LedgerError)(
                f"{self}: cannot be used: {self.cause(error)}"
            ) from error
        finally:
            engine.dispose()


class _Table:
    """The leases of a study in its database, one row a study; the clock is the database's.

    Args:
        database: of the ledger.
        name: of the study.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database, self._name, self._engine = database, name, database.engine()

    def __str__(self) -> str:
        return f"study '{self._name}' in {self._database}"

    def look(self) -> Sign | None:
        query = f"SELECT number, holder, {_CLOCK} - beat, beat = 0, stop FROM dftune_leases WHERE name = :name"
        try:
            with self._connected() as connection:
                found = connection.execute(text(query), {"name": self._name}).one_or_none()
        except FileNotFoundError:
            return None
        return None if found is None else Sign(found[0], Holder.of(found[1]), *found[2:])

    def take(self, number: int, holder: str) -> None:
        with self._connected() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TABLES})
            if not inspect(connection).has_table("dftune_leases"):
                connection.execute(text(_MAKE_LEASES))
        taken = self._change(
            f"INSERT INTO dftune_leases VALUES (:name, :number, :holder, {_CLOCK}, NULL) ON CONFLICT (name) DO UPDATE "
            f"SET number = :number, holder = :holder, beat = {_CLOCK}, stop = NULL "
            "WHERE dftune_leases.number = :number - 1",
            number=number,
            holder=holder,
        )
        if not taken:
            raise FileExistsError(f"{self}: lease {number} is taken")

    def beat(self, number: int) -> tuple[int, str | None]:
        self._change(f"UPDATE dftune_leases SET beat = {_CLOCK} WHERE name = :name AND number = :number", number=number)
        sign = self.look()
        return (0, None) if sign is None else (sign.number, sign.stop)

    def free(self, number: int) -> None:
        self._change("UPDATE dftune_leases SET beat = 0 WHERE name = :name AND number = :number", number=number)

    def ask(self, number: int, who: str) -> None:
        self._change(
            "UPDATE dftune_leases SET stop = :who WHERE name = :name AND number = :number", number=number, who=who
        )

    def close(self) -> None:
        self._engine.dispose()

    def _change(self, statement: str, **values: Any) -> bool:
        """Whether a row was changed."""
        with self._connected() as connection:
            return connection.execute(text(statement), {"name": self._name, **values}).rowcount > 0

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A transaction; the database's errors are those of storage, a missing table is a missing file."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            missing = getattr(_innermost(error), "sqlstate", None) == "42P01"
            raise (FileNotFoundError if missing else OSError)(self._database.cause(error)) from error


Place = LedgerFile | Database


def _sqlite(path: Path) -> optuna.storages.RDBStorage:
    """The storage in a file of any name."""
    return open_file(lambda: _connect(path))


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=LOCKED_SECONDS, check_same_thread=False)  # SQLAlchemy's pool has a lock


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which tell a file from another one of its name.  None: no file, or storage does not answer."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_up(connection: Any, record: Any) -> None:
    """Settings of a new connection to PostgreSQL."""
    with connection.cursor() as cursor:
        for setting in _SETTINGS:
            cursor.execute(setting)
    connection.commit()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _innermost(error: BaseException) -> BaseException:
    *_, inner = _chain(error)
    return getattr(inner, "orig", None) or inner
