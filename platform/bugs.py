"""What becomes of an error that nobody expected: one line for people, and its traceback in a file."""

import os
import sysconfig
import tempfile
import time
import traceback
from pathlib import Path

from ..trainables.errors import DftuneError, one_line

DEBUG = "DFTUNE_DEBUG"  # in the environment, 1: the command line prints tracebacks, too


class Bug(DftuneError):
    """Something went wrong in dftune, or in code of the user's, that is no mistake in the input."""


def write_traceback(error: BaseException, folder: Path | None = None) -> Path:
    """Write the traceback of an error to a file, and return its path.

    Args:
        error: that was caught.
        folder: of the study; by default, or where it cannot be written, the folder for temporary files.
    """
    text = "".join(traceback.format_exception(error))
    name = f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for place in (folder, Path(tempfile.gettempdir())):
        if place is not None and place.is_dir():
            try:
                (place / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:  # a full disk, say
                continue
            return place / name
    return Path(os.devnull)


def bug_of(error: BaseException, folder: Path | None = None) -> Bug:
    """What to raise in place of an error that nobody expected: one line, and where its traceback is."""
    where = write_traceback(error, folder)
    if isinstance(error, OSError):  # a full disk or a lost file is no fault of the program
        return Bug(f"the system refused: {one_line(error, 300)}; the traceback is in {where} ({DEBUG}=1 prints it)")
    if (place := _own_code(error)) is not None:
        what = f"{type(error).__name__}: {one_line(error, 300)}"
        return Bug(f"{place}: {what}; the traceback is in {where} ({DEBUG}=1 prints it)")
    return Bug(
        f"something went wrong inside ({type(error).__name__}: {one_line(error, 300)}); this is no mistake of yours: "
        f"please report it with the traceback in {where} ({DEBUG}=1 prints it)"
    )


def _own_code(error: BaseException) -> str | None:
    """File and line of the user's script that an error comes from; None: of dftune or a package."""
    packages = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    others = [Path(__file__).resolve().parents[1], *packages]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename).resolve()
        if not frame.filename.startswith("<") and not any(file.is_relative_to(one) for one in others):
            return f"{frame.filename}, line {frame.lineno}"
    return None


def last_words(error: Exception, folder: Path | None = None) -> str:
    """What a command says in one line of the error that ends it.  With DFTUNE_DEBUG=1 it prints the traceback, too.

    Args:
        error: that was caught.  The traceback of one that nobody expected is written to a file.
        folder: of the study, if it is about one.
    """
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    return one_line(error if isinstance(error, DftuneError) else bug_of(error, folder))
