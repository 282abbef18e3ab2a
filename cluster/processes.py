"""Processes of an embedded Ray on this machine: whose they are, and what a killed starter has left behind."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from ..trainables.processes import machine, started

MARK = "DFTUNE_RAY_OF"  # in the environment of all processes of an embedded Ray: who started it
MARK_FILE = "dftune"  # the same in the folder of its files
KEEP_ENVIRONMENT = "SPT_NOENV"  # set, Ray's processes do not write their titles over the environment that they show


def standing_still(file: Path) -> list[int]:
    """Processes of this machine that have a file open and are stopped, by Ctrl-Z or SIGSTOP; of one's own user."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "Tt":
                continue
            if str(file.resolve()) in {os.readlink(fd) for fd in (folder / "fd").iterdir()}:
                found.append(int(folder.name))
    return found


def mark() -> str:
    """The value of MARK that names this process."""
    return f"{os.getpid()} {started(os.getpid())} {machine()}"


def mark_folder(folder: Path) -> None:
    """Say in the folder of an embedded Ray who started it, and remove those beside it whose starter is gone."""
    (folder / MARK_FILE).write_text(mark(), encoding="utf-8")
    for other in folder.parent.iterdir():
        if other != folder and not other.is_symlink() and _is_dead(_mark_of(other)):
            shutil.rmtree(other, ignore_errors=True)


def end_left_over() -> None:
    """Kill what is left of embedded Rays whose starter was killed, and of those that this process started.

    With its starter the kernel kills the raylet, and a raylet that takes long to end is killed by Ray; two agents of it
    (Ray 2.60) then stay for ever.
    """
    for _ in range(5):  # one that is struck may just have started another
        if not (left := [process for process, value in _marked() if value == mark() or _is_dead(value)]):
            return
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _marked() -> list[tuple[int, str]]:
    """Processes with a MARK in their environment, and its value."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        values = [entry.partition(b"=")[2] for entry in environment if entry.startswith(f"{MARK}=".encode())]
        found += [(int(folder.name), value.decode()) for value in values]
    return found


def _mark_of(folder: Path) -> str:
    """The mark of an embedded Ray's folder; empty for any other's, and for one that cannot be read."""
    try:
        return (folder / MARK_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _is_dead(value: str) -> bool:
    """Whether the process that a mark names was one of this machine, and has ended."""
    process, since, where = value.split(" ", 2) if value.count(" ") >= 2 else ("0", "", "")
    return where != "" and where == machine() and started(int(process)) != since
