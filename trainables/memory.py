"""Memory of the machine, of the control group that a process is in, and of the process.  Bytes."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

LARGE = 4 * 2**20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
GROUPS, MOUNTED = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def host_memory(groups: Path = GROUPS, mounted: Path = MOUNTED) -> int:
    """Bytes that this process may use: the machine's, or fewer where a control group (Slurm, a container) says so.

    Args:
        groups: the control groups of the process, a line each.
        mounted: where the kernel shows them.
    """
    return min([_whole(), *(limit for limit, _ in _limits(groups, mounted))])


def free_memory(groups: Path = GROUPS, mounted: Path = MOUNTED, machine: Path = Path("/proc/meminfo")) -> int:
    """Bytes that this process can still take: what the machine has available, or what a control group leaves.

    Args:
        groups, mounted: as in ``host_memory``.
        machine: what the kernel says of all memory.
    """
    found = _whole()
    for line in machine.read_text().splitlines() if machine.exists() else ():
        if line.startswith("MemAvailable:"):
            found = min(found, 1024 * int(line.split()[1]))
    return min([found, *(min(limit, max(limit - used, 0)) for limit, used in _limits(groups, mounted))])


def _whole() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_little() -> None:
    """Have the C library keep little of what is freed: glibc keeps up to 64 MB at the end of each of its arenas.

    Arrays that are larger than ``LARGE`` come from the system and go back to it at once.
    """
    if (set_ := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # other libraries have none
        set_(M_TRIM_THRESHOLD, LARGE // 4)
        set_(M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Have the C library give the system what it keeps between parts that are in use."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _limits(groups: Path, mounted: Path) -> Iterator[tuple[int, int]]:
    """Limits of the control groups, and what is used of them besides files that the kernel can drop."""
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            root, limit_file, used_file = mounted / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        elif controllers == "":
            root, limit_file, used_file = mounted, "memory.max", "memory.current"
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (place for place in (folder, *folder.parents) if place.is_relative_to(root)):
            if (place / limit_file).exists() and (limit := (place / limit_file).read_text().strip()) != "max":
                used = int((place / used_file).read_text()) if (place / used_file).exists() else 0
                yield int(limit), used - _droppable(place / "memory.stat")


def _droppable(stat: Path) -> int:
    """Bytes of files in memory that nobody has used of late."""
    lines = (line.split() for line in stat.read_text().splitlines()) if stat.exists() else ()
    return max((int(value) for name, value in lines if name in ("inactive_file", "total_inactive_file")), default=0)
