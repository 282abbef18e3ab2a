"""Temporary folders whose names say whose they are, so that those of killed processes can be removed."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .processes import machine, started

NAME = re.compile(r"dftune-(?:[a-z]+-)?([0-9a-f]{12})-(\d+)-(\d+)-\w+")  # machine, process, its start


@contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """A folder in that for temporary files, removed at the end; what this user's dead processes left there is, too.

    Args:
        what: a word for its name, of small letters.

    Raises:
        OSError: it cannot be made.
    """
    remove_left_over(Path(tempfile.gettempdir()))
    prefix = f"dftune-{what}-{_machine()}-{os.getpid()}-{started(os.getpid())}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_left_over(where: Path) -> None:
    """Remove temporary folders of this user whose processes were of this machine and have ended."""
    with suppress(OSError):
        for entry in os.scandir(where):
            found = NAME.fullmatch(entry.name)
            if found is None or found[1] != _machine() or started(int(found[2])) == found[3]:
                continue
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                    shutil.rmtree(entry.path, ignore_errors=True)


def _machine() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:12]
