"""Errors of dftune, and how an error is said in one line.

Everything that is raised on purpose is a ``DftuneError``.  One that a user can mend is an ``InputError``: its message
names the file, key or snapshot, what is wrong there, and the remedy.  Anything else that is raised is a bug.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pydantic import ValidationError

E = TypeVar("E", bound=BaseException)

# Commands to terminals, marks that turn the direction of writing, and halves of characters.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


# What pydantic adds to a place: the types of a union that it tried.
_TRIED = {"int", "float", "str", "bool", "none", "constrained-float", "constrained-str"}


class DftuneError(Exception):
    """The root of all errors that dftune raises on purpose."""


class InputError(DftuneError, ValueError):
    """Something the user gave cannot be used as it is; the message is one line and says what to do."""


class DatasetError(InputError):
    """A dataset, or a file to import into one, is missing, incomplete, damaged or of another kind."""


def cannot_be_read(path: object, error: OSError) -> str:
    """What to say of a file or folder that the system does not let be read."""
    return f"{path}: cannot be read ({error.strerror or error}); check its permissions, or copy it again"


def unreadable(path: object, error: OSError) -> DatasetError:
    """The error of a file or folder to import that the system does not let be read."""
    return DatasetError(cannot_be_read(path, error))


class ModelError(InputError):
    """A model is missing or damaged, or is asked for what it cannot predict."""


class TooLarge(ModelError):
    """A structure is larger than any that the model takes."""


class Malformed(InputError):
    """A request is not in the format that it is said to be in."""


class UnknownFormat(InputError):
    """A request is in a format that nobody reads."""


def without_frames(error: E) -> E:
    """An error that is kept, without what it holds of where it was raised: the variables there may be large."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def one_line(error: "ValidationError | BaseException | str", most: int | None = None) -> str:
    """An error in one line of at most so many characters.

    Of a validation error it is the first problem: where, what, and what was given.
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return printable(" ".join(str(error).split())[:most])
    first = error.errors()[0]
    place, said = key_of(first["loc"]), printable(first["msg"].removeprefix("Value error, "))
    return f"{place}: {said[0].lower()}{said[1:]}" if place else said


def key_of(place: Sequence[int | str]) -> str:
    """The key that an error of pydantic is about, as the user wrote it: without the names of types that were tried."""
    first, *rest = place or ("",)
    named = [part for part in rest if not (isinstance(part, str) and (part in _TRIED or "[" in part))]
    return printable(".".join(map(str, [first, *named])))


def printable(text: str) -> str:
    """A text, whoever wrote it, so that it cannot command a terminal: control characters become ``\\x1b`` and the like.

    Line ends and tabs stay.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printed_line(text: str) -> str:
    """``printable`` of a text that is to stay one line, whatever names of files are in it."""
    return printable(text).replace("\n", "\\n")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: the one it resembles, or all there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names) or 'none'}"
