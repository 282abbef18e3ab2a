"""When Ray is killed under a process: one line and an end, instead of Ray's own.

Without its raylet the native part of Ray ends the process at the next value that it wants, without a word.  Without its
GCS server it goes on for a minute, and then ends the process with a dump.
"""

import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..trainables.processes import started

INTERVAL = 0.2  # seconds between two looks
KNOCKS = 2.0  # seconds between two at the head of a cluster
SILENT = 40.0  # seconds without an answer of the head, which may be started again; Ray ends the process after 60
FEW_FILES = 1024  # that a process may have open; with 64 the raylet of two CPUs ends
TAIL = 20_000  # bytes of each of Ray's own logs that are kept
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


class Watch:
    """Looks, in a thread, whether the processes are there that nothing goes on without, and ends this one with them.

    Args:
        remedy: how to go on, in a few words.
        write: takes what Ray has logged.
    """

    def __init__(self, remedy: str, write: Callable[[str], object]) -> None:
        self._remedy, self._write, self._over = remedy, write, threading.Event()

    def begin(self, processes: Mapping[str, int], logs: Path, head: str | None = None) -> None:
        """Look after processes of this machine, by their names.

        Args:
            processes: name -> process.
            logs: the folder of Ray's logs.
            head: HOST:PORT of the GCS server, where it is none of the processes.
        """
        since = {name: (process, started(process)) for name, process in processes.items()}
        threading.Thread(target=self._look, args=(since, logs), daemon=True).start()
        if head is not None:
            threading.Thread(target=self._knock, args=(head, logs), daemon=True).start()

    def end(self) -> None:
        """Look no more: Ray is about to end because it is told to."""
        self._over.set()

    def _look(self, since: dict[str, tuple[int, str]], logs: Path) -> None:
        while not self._over.wait(INTERVAL):
            gone = [name for name, (process, start) in since.items() if not start or started(process) != start]
            if gone:
                self._end(f"Ray's {gone[0]} was killed, by somebody or for want of {wanting()}", logs)

    def _knock(self, head: str, logs: Path) -> None:
        answered = time.monotonic()
        while not self._over.wait(KNOCKS):
            if answers(head):
                answered = time.monotonic()
            elif time.monotonic() - answered > SILENT:
                self._end(f"the head of the Ray cluster at {head} does not answer", logs)

    def _end(self, what: str, logs: Path) -> None:
        if self._over.is_set():
            return
        self._write("".join(_tail(logs / file) for file in ("raylet.out", "raylet.err", "gcs_server.out")))
        said = f"Error: {what}; {self._remedy}"
        print(f"{SHOW_CURSOR}\n{said}" if sys.stderr.isatty() else said, file=sys.stderr, flush=True)
        os._exit(1)


def wanting() -> str:
    """What Ray may have wanted: memory, or open files if this process may have few."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"memory or of open files (`ulimit -n` is {files})" if files < FEW_FILES else "memory"


def answers(address: str) -> bool:
    """Whether something takes connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError:
        return False
    return True


def _tail(file: Path) -> str:
    try:
        return f"the end of {file.name}:\n{file.read_bytes()[-TAIL:].decode(errors='replace')}\n"
    except OSError:
        return ""
