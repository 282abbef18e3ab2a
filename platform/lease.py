"""One holder of a folder at a time, also on storage that several hosts share, where locks of the kernel do not reach.

The holder is who made the file ``lease-N`` of the highest N, with O_EXCL, which only one can, on NFS too.  Its
heartbeat is the time of its last change, set by a thread.  N only grows, so that a ledger that has seen N + 1 can
refuse N.
"""

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..cluster.processes import machine, started
from ..trainables.errors import InputError

STALE_SECONDS = 60.0  # a lease whose heartbeat is older may be taken over; NFS may show it 30 s late
BEAT_SECONDS = 5.0
_TAKEN = "another process has just taken it; wait for it or stop it"


class Held(InputError):
    """Another process holds the folder."""


class LeaseLost(InputError):
    """Another process has taken the folder over, because this one gave no sign of life."""


class Lease:
    """The right to write to a folder, while ``check`` raises nothing.

    Args:
        path: its file, ``lease-N``.
        number: N.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number
        self._beaten = time.time()
        self._lost: LeaseLost | None = None
        self._ended = threading.Event()

    def check(self) -> None:
        """Look whether it is still held, if the last look is some time ago: the process may have been frozen.

        Raises:
            LeaseLost: another process has taken it over.
        """
        if self._lost is None and time.time() - self._beaten > 2 * BEAT_SECONDS:
            self._beat()
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS) and self._lost is None:
            self._beat()

    def _beat(self) -> None:
        folder = self.path.parent
        try:
            with suppress(FileNotFoundError):
                os.utime(self.path)  # to the time of the storage, about which several hosts agree
            found = max(_leases(folder), default=0)
            if found == self.number:
                self._beaten = time.time()
                return
            holder = _holder(folder / f"lease-{found}")[0] if found else None
        except FileNotFoundError:
            holder = None
        except OSError:
            return  # the storage is away: nobody can take it over there either
        why = f"this process gave no sign of life for long, so {holder} took it over" if holder else "its lease is gone"
        self._lost = LeaseLost(f"{folder}: {why}; stopped, and nothing more is written")

    def _release(self) -> None:
        self._ended.set()
        if self._lost is None:
            with suppress(OSError):
                os.utime(self.path, (0, 0))  # older than any heartbeat: free; needs no room on a full disk


@contextmanager
def held(folder: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[Lease]:
    """Hold ``folder`` inside the block, with a heartbeat every few seconds.

    A holder that has died on this machine is followed at once, any other when its heartbeat is STALE_SECONDS old.

    Args:
        folder: exists.
        say: told when a dead or silent holder is followed.

    Raises:
        Held: another process holds it; the message says which, since when, and when it may be taken over.
    """
    try:
        lease = _take(folder, say)
    except OSError as error:
        raise Held(f"{folder}: cannot be written ({error.strerror}); choose a folder you may write to") from error
    thread = threading.Thread(target=lease._keep, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease._release()
        thread.join(timeout=BEAT_SECONDS)


def _take(folder: Path, say: Callable[[str], None]) -> Lease:
    last = max(_leases(folder), default=0)
    followed = ""
    if last:
        try:
            holder, changed = _holder(folder / f"lease-{last}")
        except FileNotFoundError as error:
            raise Held(f"{folder}: {_TAKEN}") from error
        age = _now(folder) - changed
        dead = holder is not None and holder.is_dead
        if changed > 0 and age < STALE_SECONDS and not dead:
            raise Held(
                f"{folder}: held by {holder or 'a process that is just starting'}; stop it, or wait: should it give no "
                f"sign of life, it may be taken over in {STALE_SECONDS - max(age, 0):.0f} s"
            )
        if changed > 0:
            followed = f"taken over from {holder or 'a process'}, " + (
                "which has died" if dead else f"without a sign of life for {age:.0f} s"
            )
    path = folder / f"lease-{last + 1}"
    try:
        with path.open("x", encoding="utf-8") as stream:
            json.dump(_myself(), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise Held(f"{folder}: {_TAKEN}") from error
    for number in _leases(folder):
        if number <= last:
            (folder / f"lease-{number}").unlink(missing_ok=True)
    for left in folder.glob(".*.part"):  # half written by one that was killed
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    if followed:
        say(f"{folder}: {followed}")
    return Lease(path, last + 1)


def _leases(folder: Path) -> list[int]:
    return [int(found[1]) for name in os.listdir(folder) if (found := re.fullmatch(r"lease-(\d{1,12})", name))]


class _Holder:
    """Who made a lease."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._process, self._host = int(values["process"]), str(values["host"])
        self._machine, self._started = str(values["machine"]), str(values["started"])
        self._since = datetime.fromtimestamp(float(values["since"]), UTC).isoformat(timespec="seconds")

    @property
    def is_dead(self) -> bool:
        """Whether this machine can tell that the process has ended."""
        return bool(self._machine) and self._machine == machine() and started(self._process) != self._started

    def __str__(self) -> str:
        return f"process {self._process} on {self._host} since {self._since}"


def _holder(path: Path) -> tuple[_Holder | None, float]:
    """Who made the lease, None while it is only being written; and the time of its last heartbeat."""
    with path.open(encoding="utf-8") as stream:  # opened, so that NFS asks the server
        changed = os.fstat(stream.fileno()).st_mtime
        try:
            return _Holder(json.loads(stream.read(1000))), changed
        except (ValueError, KeyError, TypeError):
            return None, changed


def _myself() -> dict[str, Any]:
    mine = os.getpid()
    return {
        "process": mine,
        "host": socket.gethostname(),
        "machine": machine(),
        "started": started(mine),
        "since": time.time(),
    }


def _now(folder: Path) -> float:
    """The time by the clock of the storage."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".now-") as file:
        os.utime(file.fileno())
        return os.fstat(file.fileno()).st_mtime
