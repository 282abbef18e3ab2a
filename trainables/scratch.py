"""A folder where a process may keep what a later one of the same run would make again."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_folder: ContextVar[Path | None] = ContextVar("scratch", default=None)


@contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Inside, and in this thread, ``scratch`` is a folder that somebody else removes, or None."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def scratch() -> Path | None:
    """The folder; None where there is none, as on another machine."""
    folder = _folder.get()
    return folder if folder is not None and folder.is_dir() else None
