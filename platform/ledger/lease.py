"""One holder of a study or folder at a time, also where several hosts share it and locks of the kernel do not reach.

Whoever took the highest number N holds the study; only one process can take a number.  The holder gives a sign of life
every few seconds, by the clock of the storage, and reads there whether it is asked to stop.  N only grows, so a ledger
that has seen N + 1 can refuse N.  All this is written down in the lease's *home*: the folder itself, or the ledger's
database.
"""

import errno
import getpass
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ...trainables.errors import InputError
from ...trainables.files import write_text
from ...trainables.processes import machine, started

STALE_SECONDS = 60.0  # a lease whose heartbeat is older may be taken over; NFS may show it 30 s late
BEAT_SECONDS = 2.0
_TAKEN = "another process has just taken it; wait for it or stop it"


class Held(InputError):
    """Another process holds it."""


class LeaseLost(InputError):
    """Another process has taken it over, because this one gave no sign of life."""


@dataclass(frozen=True)
class Holder:
    """The process that took a lease: its number, its host, and since when it holds it [s of the epoch]."""

    process: int
    host: str
    machine: str
    started: str
    since: float

    @classmethod
    def of(cls, text: str) -> "Holder | None":
        """The holder that a home has written down, or None while it is being written."""
        try:
            values = json.loads(text)
            return cls(
                int(values["process"]), str(values["host"]), str(values["machine"]), str(values["started"]),
                float(values["since"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def is_dead(self) -> bool:
        """Whether this machine can tell that the process has ended."""
        return bool(self.machine) and self.machine == machine() and started(self.process) != self.started

    @property
    def fields(self) -> dict[str, Any]:
        """For programs: its number and host, and since when it holds the lease, in ISO format."""
        since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return {"process": self.process, "host": self.host, "since": since}

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return f"process {self.process} on {self.host} since {since}"


@dataclass(frozen=True)
class Sign:
    """The latest lease, as its home shows it.

    ``age`` is the age of its last heartbeat [s].  ``free``: it was let go.  ``stop``: who has asked its holder to stop.
    """

    number: int
    holder: Holder | None
    age: float
    free: bool
    stop: str | None

    @property
    def is_dead(self) -> bool:
        """Whether this machine can tell that its holder has ended."""
        return self.holder is not None and self.holder.is_dead

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it, as far as can be told."""
        return not self.free and self.age < STALE_SECONDS and not self.is_dead


class Home(Protocol):
    """Where leases are written down.  Each method raises OSError if that place is away or cannot be written."""

    def look(self) -> Sign | None:
        """The latest lease, None if there was none."""
        ...

    def take(self, number: int, holder: str) -> None:
        """Write down the lease ``number``, one above the latest.  Raises FileExistsError if another just did."""
        ...

    def beat(self, number: int) -> tuple[int, str | None]:
        """Give a sign of life.  Returns the number of the latest lease (0: none), and who asks ``number`` to stop."""
        ...

    def free(self, number: int) -> None:
        """Let it go."""
        ...

    def ask(self, number: int, who: str) -> None:
        """Ask the holder of ``number`` to stop."""
        ...

    def close(self) -> None:
        """Leave it."""
        ...


class Folder:
    """The leases of a folder: files ``lease-N``.  O_EXCL lets only one process make a file, on NFS too.

    Its heartbeat is the time of its last change.  Whoever asks its holder to stop writes ``stop-N``.

    Args:
        path: exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def look(self) -> Sign | None:
        for _ in range(5):
            if not (number := max(_leases(self.path), default=0)):
                return None
            with (
                suppress(FileNotFoundError),  # somebody has just followed, and removed it
                self._lease(number).open(encoding="utf-8") as stream,  # opened, so that NFS asks the server
            ):
                changed = os.fstat(stream.fileno()).st_mtime
                holder = Holder.of(stream.read(1000))
                return Sign(number, holder, self._now() - changed, changed == 0, self._stop(number))
        raise BlockingIOError(errno.EAGAIN, "its leases change all the time")

    def take(self, number: int, holder: str) -> None:
        with self._lease(number).open("x", encoding="utf-8") as stream:
            stream.write(holder)
            stream.flush()
            os.fsync(stream.fileno())
        for earlier in _leases(self.path):
            if earlier < number:
                self._lease(earlier).unlink(missing_ok=True)
                (self.path / f"stop-{earlier}").unlink(missing_ok=True)
        remove_half_written(self.path)

    def beat(self, number: int) -> tuple[int, str | None]:
        with suppress(FileNotFoundError):
            os.utime(self._lease(number))  # to the time of the storage, about which several hosts agree
        return max(_leases(self.path), default=0), self._stop(number)

    def free(self, number: int) -> None:
        os.utime(self._lease(number), (0, 0))  # older than any heartbeat; needs no room on a full disk

    def ask(self, number: int, who: str) -> None:
        write_text(self.path / f"stop-{number}", who)

    def close(self) -> None:
        pass

    def _lease(self, number: int) -> Path:
        return self.path / f"lease-{number}"

    def _stop(self, number: int) -> str | None:
        try:
            with (self.path / f"stop-{number}").open(encoding="utf-8") as stream:
                return stream.read(200)
        except FileNotFoundError:
            return None

    def _now(self) -> float:
        """The time by the clock of the storage, or by this host's clock if the storage can only be read."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".now-") as file:
                os.utime(file.fileno())
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return time.time()


class Lease:
    """The right to write, while ``check`` raises nothing.

    Args:
        home: where it is written down.
        number: N.
    """

    def __init__(self, home: Home, number: int) -> None:
        self.home, self.number = home, number
        self.stop: str | None = None  # who has asked to stop
        self._looked = time.time()
        self._lost: LeaseLost | None = None
        self._ended = threading.Event()

    def check(self) -> None:
        """Make sure that it is still held, if the last look is some time ago: the process may have been frozen.

        Raises:
            LeaseLost: another process has taken it over.
        """
        if self._lost is None and time.time() - self._looked > 2 * BEAT_SECONDS:
            self._beat()
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS) and self._lost is None:
            self._beat()

    def _beat(self) -> None:
        try:
            latest, stop = self.home.beat(self.number)
            if latest == self.number:
                self.stop = self.stop or stop
                return
            sign = self.home.look()
            holder = sign.holder if sign is not None else None
        except FileNotFoundError:
            holder = None
        except OSError:
            return  # the storage is away; a write to it will say so
        finally:
            self._looked = time.time()
        why = f"this process gave no sign of life for long, so {holder} took it over" if holder else "its lease is gone"
        self._lost = LeaseLost(f"{self.home}: {why}; stopped, and nothing more is written")

    def _release(self) -> None:
        if self._lost is None:
            with suppress(OSError):
                self.home.free(self.number)


@contextmanager
def held(home: Home | Path, say: Callable[[str], None] = lambda text: None) -> Iterator[Lease]:
    """Hold a folder, or what else has a home of leases, inside the block, with a heartbeat every few seconds.

    A holder that has died on this machine is followed at once, any other when its heartbeat is STALE_SECONDS old.

    Args:
        home: an existing folder stands for its own leases.
        say: told when a dead or silent holder is followed.

    Raises:
        Held: another process holds it; the message says which, since when, and when it may be taken over.
    """
    home = Folder(home) if isinstance(home, Path) else home
    try:
        lease = _take(home, say)
    except OSError as error:
        raise Held(f"{home}: cannot be written ({error.strerror or error}); choose a place you may write to") from error
    thread = threading.Thread(target=lease._keep, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease._ended.set()
        thread.join()  # a heartbeat that came later would take back what is let go
        lease._release()


def _take(home: Home, say: Callable[[str], None]) -> Lease:
    sign = home.look()
    last = 0 if sign is None else sign.number
    if sign is not None and sign.is_held:
        raise Held(
            f"{home}: held by {sign.holder or 'a process that is just starting'}; stop it, or wait: should it give no "
            f"sign of life, it may be taken over in {STALE_SECONDS - max(sign.age, 0):.0f} s"
        )
    try:
        home.take(last + 1, json.dumps(_myself()))
    except FileExistsError as error:
        raise Held(f"{home}: {_TAKEN}") from error
    if sign is not None and not sign.free:
        how = "which has died" if sign.is_dead else f"without a sign of life for {sign.age:.0f} s"
        say(f"{home}: taken over from {sign.holder or 'a process'}, {how}")
    return Lease(home, last + 1)


def me() -> str:
    """Who this is, for others to read: user, host and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user} on {socket.gethostname()} (process {os.getpid()})"


def remove_half_written(folder: Path) -> None:
    """Remove from a folder that is held what a killed process has left half written."""
    for left in folder.glob(".*.part"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _leases(folder: Path) -> list[int]:
    return [int(found[1]) for name in os.listdir(folder) if (found := re.fullmatch(r"lease-(\d{1,12})", name))]


def _myself() -> dict[str, Any]:
    mine = os.getpid()
    return {
        "process": mine,
        "host": socket.gethostname(),
        "machine": machine(),
        "started": started(mine),
        "since": time.time(),
    }
