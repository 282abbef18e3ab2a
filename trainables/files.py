"""Files that appear whole or not at all, and their checksums."""

import codecs
import hashlib
import os
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import InputError, cannot_be_read
from .temporary import owner, remove_left_over

LARGEST_TEXT = 100_000_000  # bytes
# What is written at once [bytes]: Linux takes six times as long to copy 64 MB that it is given in one piece.
PIECE = 1 << 22
UNSYNCED = 1 << 26  # bytes that are written before they are brought to the disk
SMALL = 1 << 14  # bytes whose checksum takes less time than another thread


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there.  Raises InputError: it cannot be made, or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose a folder you may write to") from error


def refuse_existing(path: Path) -> None:
    """Raise InputError if something has that name, or nobody can tell."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    raise InputError(f"{path}: exists already; choose another name or remove it first")


def make_room_for(path: Path) -> None:
    """Make the folder of a new one: better known before the work than after.

    Raises:
        InputError: something has that name, or its place cannot be written.
    """
    refuse_existing(path)
    make_folder(path.parent)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write to the yielded temporary path; on success it replaces ``path``, on any error it vanishes.

    Works for a file (replaced) and for a folder (which must not exist yet); data are on disk before the name is.

    Raises:
        InputError: the place cannot be written, or the disk is full.
    """
    # Its beginning only: a name may have 255 bytes.
    temporary = path.with_name(f".{path.name[:40]}.{owner()}-{secrets.token_hex(4)}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if temporary.is_dir():
                for file in temporary.rglob("*"):
                    _sync(file)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else error
            raise InputError(
                f"{path}: cannot be written ({cause}); choose a folder you may write to, with room"
            ) from error
    finally:
        if os.path.isdir(temporary):  # not Path.is_dir, which raises an error of a name that is too long
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):  # nothing was made where the place itself is missing
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """``atomic`` for a folder, which can be large: what killed processes left half written beside it goes first."""
    remove_left_over(path.parent)
    with atomic(path) as temporary:
        yield temporary


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all.  Errors as ``atomic``."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path, most: int = LARGEST_TEXT, *, other: str | None = None) -> str:
    """The text of a file of a user's, without the mark (BOM) that some editors set before it.

    Args:
        path: the file, in UTF-8; UTF-16 with its mark is read, too.
        most: bytes that it may have.
        other: encoding of what is neither; None: that is refused.

    Raises:
        FileNotFoundError: there is none.
        InputError: it cannot be read, is no text, or is too large.
    """
    try:
        # What a shell hands over, as /dev/stdin, is read.
        given = path.parts[1:2] in (("dev",), ("proc",)) and path.parts[2:3] != ("shm",)
        if path.is_fifo() and not given:  # opening it would wait for a writer
            raise InputError(f"{path}: a pipe; give a file")
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(cannot_be_read(path, error)) from error
    if len(content) > most:
        raise InputError(f"{path}: larger than {most / 1e6:g} MB, more than any such file has; give the right one")
    return decoded(content, path, other=other)


def decoded(content: bytes, where: object, *, other: str | None = None) -> str:
    """Bytes as text, see ``read_text``.  Raises InputError: they are none."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if other is not None:
            return content.decode(other)
        raise InputError(f"{where}: no UTF-8 text (byte {error.start}); save it as UTF-8") from None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class HashedFile:
    """A file that is written from its beginning.  Threads compute its SHA-256 and bring it to the disk meanwhile.

    Args:
        path: the file; it is replaced if there is one.
        ahead: pieces that may wait for their checksum.  What was written may be overwritten in memory once so many
            more were.  A thread that finds nothing to do costs more to wake than a piece of a megabyte to write.
    """

    def __init__(self, path: Path, *, ahead: int = 1) -> None:
        self._stream, self._hash, self._ahead = path.open("wb"), hashlib.sha256(), ahead
        self._hashing, self._syncing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._hashed = deque[Future[None]]()
        self._synced: Future[None] | None = None
        self._unsynced = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hashing.shutdown()
        self._syncing.shutdown()
        self._stream.close()

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def write(self, data: bytes | memoryview) -> int:
        self._wait(self._ahead - 1)
        if len(data) < SMALL:
            self._wait(0)
            self._hash.update(data)
            return self._stream.write(data)
        self._hashed.append(self._hashing.submit(self._hash.update, data))
        for start in range(0, len(data), PIECE):
            self._stream.write(data[start : start + PIECE])
        self._unsynced += len(data)
        if self._unsynced >= UNSYNCED and (self._synced is None or self._synced.done()):
            self._synced = self._syncing.submit(os.fdatasync, self._stream.fileno())
            self._unsynced = 0
        return len(data)

    def tell(self) -> int:
        return self._stream.tell()

    def flush(self) -> None:
        self._stream.flush()

    def hexdigest(self) -> str:
        """Of all that was written."""
        self._wait(0)
        return self._hash.hexdigest()

    def _wait(self, most: int) -> None:
        """Until no more than so many pieces wait for their checksum."""
        while len(self._hashed) > most:
            self._hashed.popleft().result()


_whole: set[tuple[Path, int, int, int, int]] = set()


def is_known(path: Path) -> bool:
    """Whether this process has found a file to be the right one, and its size and times are those it had then."""
    return _identity(path) in _whole


def remember(path: Path) -> None:
    """Remember that a file is the right one, so that it is not read for its checksum again."""
    _whole.add(_identity(path))


def _identity(path: Path) -> tuple[Path, int, int, int, int]:
    status = path.stat()
    return path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
