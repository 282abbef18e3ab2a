"""Processes of this machine: which one is which, for names and marks that others read."""

import os
from pathlib import Path

# Environment of a process before torch is imported.  Its threads wait for each other by spinning, by default so long
# that a training of two threads beside four busy processes takes three times as long as with this, and a prediction
# five times; alone, 0.87 times (benchmarks/threads.py).
PATIENCE = {"GOMP_SPINCOUNT": "1000"}


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
