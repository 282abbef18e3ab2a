"""Processes of this machine: which one is which, for names and marks that others read."""

import os
from pathlib import Path


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
