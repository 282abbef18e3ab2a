"""Where compiled kernels are kept, so that a machine compiles them once: a folder of the user's own.

It is NUMBA_CACHE_DIR, or ~/.cache/dftune/kernels; where that cannot be written, or others could write to it, a folder
of this user's below the temporary folder.  Below it each version of the sources has a folder of its own, wherever they
lie: all clones, environments and Ray's copies of the package share what one of them compiled.  numba reads its files
with pickle, so nobody else may write there.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import get_host_cpu_name
from numba.core.caching import UserProvidedCacheLocator

from ...errors import InputError
from ...files import sha256, write_text
from .vector import WIDTH

# No check of indices, division as C's, and other threads of Python go on meanwhile.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False, "cache": True, "nogil": True}
SOURCES = Path(__file__).parent


@cache
def folder() -> Path:
    """Of what was compiled from these sources; it exists, and belongs to this user alone."""
    key = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]} {WIDTH}".encode())
    for source in sorted(SOURCES.glob("*.py")):
        key.update(source.read_bytes())
    wanted = Path(os.environ.get("NUMBA_CACHE_DIR") or "~/.cache/dftune/kernels").expanduser()
    for place in (wanted, Path(tempfile.gettempdir()) / f"dftune-kernels-{os.geteuid()}"):
        if _private(place):
            path = place / key.hexdigest()[:16]
            path.mkdir(mode=0o700, exist_ok=True)
            return path
    return Path(tempfile.mkdtemp(prefix="dftune-kernels-"))


def _private(place: Path) -> bool:
    """Whether the folder is there, or can be made, and only this user can write to it."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = place.lstat()
    except (OSError, RuntimeError):
        return False
    return state.st_uid == os.geteuid() and not state.st_mode & 0o022 and os.access(place, os.W_OK)


class ByContent(UserProvidedCacheLocator):
    """Tells numba to keep what it compiles in ``folder``."""

    def __init__(self, function: Any, file: str) -> None:
        super().__init__(function, file)
        self._cache_path = str(folder())
        self._stamp = hashlib.sha256(Path(file).read_bytes()).hexdigest()  # kernels may lie in other folders, too

    def get_source_stamp(self) -> str:
        return self._stamp

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "ByContent":
        return cls(py_func, py_file)


def compiled(function: Callable[..., Any], *, inside: bool = False) -> Any:
    """Decorator: the function is compiled when it is first called, and kept in ``folder``.

    Args:
        function: to compile.
        inside: whether it becomes a part of the functions that call it.
    """
    before = numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.ByContent"
    try:
        return numba.njit(**OPTIONS, forceinline=inside)(function)
    finally:
        numba.config.CACHE_LOCATOR_CLASSES = before  # other packages' functions are kept where they were


def ready(name: str, call: Callable[[], Any]) -> None:
    """Have a kernel compiled; one process of a machine compiles, the others wait for it.

    What was compiled is used only if it is still what was kept: damaged code might compute wrong numbers.

    Args:
        name: what to call it.
        call: calls it on small input, which compiles it, or loads what was compiled.
    """
    mark, started = folder() / f"{name}-{get_host_cpu_name()}.done", time.perf_counter()

    def say(why: str) -> None:
        print(f"dftune compiles the kernel of {name}, {why}", file=sys.stderr, flush=True)

    with _alone(folder() / f"{name}.lock"):
        kept = mark.exists() and _as_kept(mark)
        if not kept:
            say("as what was kept is damaged" if mark.exists() else "once on this machine")
            if mark.exists():
                _forget()
        try:
            call()
        except Exception:  # a damaged index: pickle's errors have many types
            kept = False
            say("as what was kept is damaged")
            _forget()
            call()
        if not kept:
            print(f"  done in {time.perf_counter() - started:.0f} s, kept in {folder()}", file=sys.stderr, flush=True)
            with suppress(InputError):  # a full disk: it is compiled again next time
                write_text(mark, json.dumps(_checksums()))


def _checksums() -> dict[str, str]:
    """SHA-256 of all code in the folder, by the name of its file."""
    there = ((file, file.stat()) for file in folder().glob("*.nbc"))
    return {file.name: _checksum(file, about.st_mtime_ns, about.st_size) for file, about in there}


@cache
def _checksum(file: Path, written: int, size: int) -> str:
    """Read once by a process that uses several kernels, and again when it was written anew."""
    return sha256(file)


def _as_kept(mark: Path) -> bool:
    """Whether all code that a mark names is there and what it was; another processor may have added its own."""
    try:
        return json.loads(mark.read_bytes()).items() <= _checksums().items()
    except (OSError, ValueError, AttributeError):
        return False


def _forget() -> None:
    """Remove all that was compiled."""
    for file in [*folder().glob("*.nb[ci]"), *folder().glob("*.done")]:
        file.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock; without one where the file system has none."""
    try:
        stream = path.open("w")
    except OSError:
        yield
        return
    with stream:
        with suppress(OSError):
            flock(stream, LOCK_EX)
        yield
