"""Processes of this machine: which one is which, and what a killed process has left behind."""

import os
import signal
from contextlib import suppress
from pathlib import Path

MARK = "DFTUNE_RAY_OF"  # in the environment of all processes of an embedded Ray: who started it


def machine() -> str:
    """This boot of this machine and its table of processes (a container has its own); empty where nothing says it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(process: int) -> str:
    """When a process of this machine began, in ticks since its boot; empty for one that has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def mark() -> str:
    """The value of MARK that names this process."""
    return f"{os.getpid()} {started(os.getpid())} {machine()}"


def end_orphans() -> int:
    """Kill what is left of embedded Rays whose starter was killed; how many that were.

    With the starter the kernel kills the raylet, but two agents of the raylet (Ray 2.60) stay for ever.
    """
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        found = next((entry for entry in environment if entry.startswith(f"{MARK}=".encode())), None)
        if found is None:
            continue
        starter, since, where = found.decode().partition("=")[2].split(" ", 2)
        if where == machine() and started(int(starter)) != since:
            with suppress(OSError):
                os.kill(int(folder.name), signal.SIGKILL)
                count += 1
    return count
