"""Studies that are deleted, and what a run that came to no trial has left."""

import os
import shutil
from contextlib import closing
from pathlib import Path

from ...trainables.errors import InputError
from ..ledger.lease import held
from ..ledger.ledger import Ledger
from ..ledger.places import LedgerFile, Place
from . import folder as folders
from .errors import StudyError
from .untrained import FOLDER

# In the folder of a study, beside ledger and leases.
MADE = ("scores.json", "model", "figures", "logs", FOLDER, folders.OWNER)


def delete(folder: Path, place: Place, name: str) -> None:
    """Delete a study with all that is in its folder, while it is held, so that nobody runs it.

    Args:
        folder: of the study.  With its ledger in a database it may be another study's, and is then left.
        place: of its ledger.
        name: of the study.

    Raises:
        StudyError: there is none, or it cannot be removed.
        Held: a process runs it.
    """
    there = os.path.lexists(place.path) if isinstance(place, LedgerFile) else place.holds(name)
    if not there:
        raise StudyError(f"{place}: no study '{name}'; `dftune study list` shows the studies there are")
    identity = _identity(place, name)
    if isinstance(place, LedgerFile):
        ours = True
    else:
        owner = folders.owner_of(folder)
        ours = owner is not None and owner["id"] == identity
    with closing(place.home(name)) as home, held(home):
        try:
            place.remove(name)  # first: what is left of a study without a ledger is taken for none
            if ours and folder.is_symlink():
                raise StudyError(f"{folder}: is a link; what it leads to is left, remove it yourself")
            if ours:
                shutil.rmtree(folder)
        except OSError as error:
            raise StudyError(f"{folder}: cannot be removed ({error.strerror}); remove what is left yourself") from error


def is_empty(place: Place, name: str) -> bool:
    """Whether a study has begun and has no trial, so that nothing is lost if it begins again."""
    if not place.holds(name):
        return False
    try:
        with closing(Ledger.open(place, name)) as ledger:
            return ledger.conclusion() is None and not ledger.trials()
    except InputError:  # nobody can tell
        return False


def clear(folder: Path, place: Place, name: str) -> None:
    """Remove an empty study, which is held: its settings may have changed since, and its scores with them.

    Raises StudyError: it cannot be removed.
    """
    try:
        for part in MADE:
            path = folder / part
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        place.remove(name)
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be cleared ({error.strerror}); remove it, or choose another name"
        ) from error


def _identity(place: Place, name: str) -> str | None:
    """What no other study has, None if its ledger cannot be read."""
    try:
        with closing(Ledger.open(place, name)) as ledger:
            return ledger.id
    except InputError:
        return None
