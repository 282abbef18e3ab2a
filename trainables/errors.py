"""Errors of dftune, and how an error is said in one line.

Everything that is raised on purpose is a ``DftuneError``.  One that a user can mend is an ``InputError``: its message
names the file, key or snapshot, what is wrong there, and the remedy.  Anything else that is raised is a bug.
"""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class DftuneError(Exception):
    """The root of all errors that dftune raises on purpose."""


class InputError(DftuneError, ValueError):
    """Something the user gave cannot be used as it is; the message is one line and says what to do."""


class DatasetError(InputError):
    """A dataset, or a file to import into one, is missing, incomplete, damaged or of another kind."""


class ModelError(InputError):
    """A model is missing or damaged, or is asked for what it cannot predict."""


class TooLarge(ModelError):
    """A structure is larger than any that the model takes."""


class Malformed(InputError):
    """A request is not in the format that it is said to be in."""


class UnknownFormat(InputError):
    """A request is in a format that nobody reads."""


def one_line(error: "ValidationError | BaseException | str", most: int | None = None) -> str:
    """An error in one line of at most so many characters.

    Of a validation error it is the first problem: where, what, and what was given.
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())[:most]
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}" if place else first["msg"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: the one it resembles, or all there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names) or 'none'}"
