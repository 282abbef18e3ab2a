"""Which sockets of which processes listen, as the kernel says: what `ss -ltnp` shows, without root and without ss."""

import os
from contextlib import suppress
from pathlib import Path

LISTENING = "0A"  # state of a socket in /proc/net/tcp


def descendants() -> set[int]:
    """This process and all that it has started, directly or not."""
    parents, found = {}, {os.getpid()}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listeners(processes: set[int]) -> dict[str, str]:
    """Of these processes: address, as the kernel writes it, of each TCP socket that listens, and whose it is."""
    owners = {}
    for process in processes:
        with suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    owners[os.readlink(link)] = Path(f"/proc/{process}/cmdline").read_bytes()[:60].decode()
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and f"socket:[{inode}]" in owners:
                found[local] = owners[f"socket:[{inode}]"]
    return found


def is_local(local: str) -> bool:
    """Whether an address of /proc/net/tcp or tcp6 is one that only this machine reaches."""
    address, _ = local.split(":")
    if len(address) == 8:
        return address.endswith("7F")  # 127.0.0.0/8, the last byte first
    mapped, loopback = "0000000000000000FFFF0000", "00000000000000000000000001000000"
    return address == loopback or (address.startswith(mapped) and address.endswith("7F"))
