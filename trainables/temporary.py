"""Temporary files and folders whose names say whose they are, so that those of killed processes can be removed."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .processes import machine, started

# Machine, process, its start: of a temporary folder, and of what is being written under a name of its own.
NAME = re.compile(r"(?:\.?dftune-(?:[a-z]+-)?|\..+\.)([0-9a-f]{12})-(\d+)-(\d+)-\w+(?:\.part)?")


@contextmanager
def temporary_folder(what: str, where: Path | None = None) -> Iterator[Path]:
    """A folder that is removed at the end; what this user's dead processes left beside it is, too.

    Args:
        what: a word for its name, of small letters.
        where: the folder that it lies in, hidden there; that for temporary files, if None.

    Raises:
        OSError: it cannot be made.
    """
    remove_left_over(where or Path(tempfile.gettempdir()))
    prefix = f"{'.' if where else ''}dftune-{what}-{owner()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def owner() -> str:
    """This process, as a part of names."""
    return f"{_machine()}-{os.getpid()}-{started(os.getpid())}"


def remove_left_over(where: Path) -> None:
    """Remove what is temporary in a folder, this user's, and of processes of this machine that have ended."""
    with suppress(OSError):
        for entry in os.scandir(where):
            found = NAME.fullmatch(entry.name)
            if found is None or found[1] != _machine() or started(int(found[2])) == found[3]:
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)


def _machine() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:12]
