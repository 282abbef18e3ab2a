"""One holder of a study at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ..trainables.errors import InputError


class Held(InputError):
    """Another process holds the study."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold ``path`` inside the block; the kernel lets go of it when the process ends, however it ends.

    Raises:
        Held: another process holds it; the message says which.
    """
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise Held(f"{path}: cannot be written ({error.strerror}); choose a folder you may write to") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            text = stream.read(200)
            raise Held(f"{path.parent}: held by {text or 'another process'}; wait for it or stop it") from error
        stream.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {now}")
        stream.flush()
        yield
        stream.truncate(0)
