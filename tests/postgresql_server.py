"""A PostgreSQL server of one's own, for tests and benchmarks: on a Unix socket in a folder of its own, with a password.

The programs come with the wheel ``pgserver``; those of the system do as well.  As root, which PostgreSQL refuses to be
run by, it belongs to ``nobody``.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

USER, PASSWORD = "ada", "s3cret/{0}%@:x"


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, None where they are not installed."""
    spec = importlib.util.find_spec("pgserver")
    wheel = [Path(spec.origin).parent / "pginstall" / "bin"] if spec is not None and spec.origin else []
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in (*wheel, *system) if (path / "initdb").is_file()), None)


def _place() -> str:
    """Where temporary files lie, which may be memory: a new database takes a fifth of what it takes on a disk.

    Not where the path of a socket would be too long, or where nobody but root may enter.
    """
    place = Path(tempfile.gettempdir()).resolve()
    suits = len(str(place)) <= 60 and all(path.stat().st_mode & 0o001 for path in (place, *place.parents))
    return str(place) if suits else "/tmp"


class Server:
    """A server with a fresh cluster, running.

    Args:
        durable: write to disk what is committed, as servers do; tests need not.
    """

    def __init__(self, *, durable: bool = False) -> None:
        found = programs()
        assert found is not None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_place()))
        self._owner: dict = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        try:
            self._run(found / "initdb", "--version")
        except PermissionError:  # the environment lies in a folder that others may not enter
            found = Path(shutil.copytree(found.parent, self.folder / "programs")) / "bin"
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        self._run(
            found / "initdb", "-D", self.folder / "data", "-U", USER, "--pwfile", self.folder / "password",
            "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--locale", "C",
        )  # fmt: skip
        settings = ["listen_addresses=", "max_connections=50", f"unix_socket_directories={self.folder}"]
        if not durable:
            settings += ["fsync=off", "full_page_writes=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        self._command = [str(found / "postgres"), "-D", str(self.folder / "data"), *options]
        self._process: subprocess.Popen | None = None
        self._databases = 0
        self.start()
        self._hash_once()

    def _run(self, *command: object) -> None:
        subprocess.run([str(c) for c in command], check=True, capture_output=True, cwd="/", **self._owner)

    def _hash_once(self) -> None:
        """Store the password such that a connection takes 1 ms of a processor's time and not 5; before 16 it cannot."""
        import psycopg
        from psycopg.sql import SQL, Identifier

        with psycopg.connect(self.url("postgres")) as connection:
            if connection.info.server_version >= 160_000:
                connection.execute("SET scram_iterations = 1")
                connection.execute(SQL("ALTER USER {} PASSWORD {}").format(Identifier(USER), PASSWORD))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        deadline = time.monotonic() + 600
        while True:
            if self._process is None or self._process.poll() is not None:  # those of a killed one are still ending
                with (self.folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd="/", **self._owner)
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, and remove what it wrote."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, password: str | None = PASSWORD) -> str:
        """The URL of a database, with the password."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{USER}{secret}@/{database}?host={self.folder}"

    def new_database(self, like: str | None = None) -> str:
        """Make an empty database, or a copy of the one of the given URL; its URL."""
        import psycopg

        self._databases += 1
        name = f"studies{self._databases}"
        template = "template1" if like is None else urlsplit(like).path[1:]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            # It copies the files, which is half the work of writing all to the log; before 15 it does nothing else.
            how = " STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}{how}")  # type: ignore[arg-type]
        return self.url(name)
