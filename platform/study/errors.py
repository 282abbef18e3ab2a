"""Why a study cannot go on, and what becomes of an error that nobody expected."""

import os
import tempfile
import time
import traceback
from pathlib import Path

from ...trainables.errors import DftuneError, InputError

DEBUG = "DFTUNE_DEBUG"  # in the environment, 1: tracebacks are printed, too


class StudyError(InputError):
    """A study cannot be started, or came to nothing."""


class StudyInterrupted(StudyError):
    """The user stopped the study; it can go on."""


class SearchStopped(StudyError):
    """The method or Ray Tune could not go on."""


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
                (place / name).write_text(text, encoding="utf-8")
            except OSError:  # a full disk, say
                continue
            return place / name
    return Path(os.devnull)


def bug_of(error: BaseException, folder: Path | None = None) -> Bug:
    """What to raise in place of an error that nobody expected: one line, and where its traceback is."""
    where = write_traceback(error, folder)
    words = " ".join(str(error).split())[:300]
    return Bug(
        f"something went wrong inside ({type(error).__name__}: {words}); this is no mistake of yours: please report it "
        f"with the traceback in {where} ({DEBUG}=1 prints it)"
    )
