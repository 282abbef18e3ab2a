"""All studies of a folder or database at a glance, whatever state they are in."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...trainables.data.location import name_of
from ...trainables.errors import InputError, one_line
from . import folder as folders
from .study import Study


@dataclass(frozen=True)
class Listed:
    """A study in a list.

    ``state`` is that of ``Study.look``, or ``unreadable``; then ``problem`` says why, and there is nothing else.
    ``best`` is the lowest value of a finished trial, of what the study ``minimizes``.  ``holder`` runs it, or ran it
    when it died; ``held_by`` is the same in fields; ``last_sign`` is when it gave its last sign of life, in ISO format.
    """

    name: str
    state: str
    method: str | None = None
    dataset: str | None = None
    trials: int | None = None
    best: float | None = None
    minimizes: str | None = None
    holder: str | None = None
    last_sign: str | None = None
    problem: str | None = None
    held_by: dict[str, Any] | None = None


def listed(studies: str | Path = folders.STUDIES, ledger: str | None = None) -> list[Listed]:
    """The studies in a folder, or in a PostgreSQL database, by name; one that cannot be read hides no other.

    Raises:
        LedgerError: ``ledger`` is not the URL of a database, or it cannot be read.
    """
    return [_listed(name, studies, ledger) for name in Study.names(studies, ledger)]


def _listed(name: str, studies: str | Path, ledger: str | None) -> Listed:
    try:
        study = Study.open(name, studies, ledger)
        view = study.look()
    except InputError as error:
        return Listed(name, "unreadable", problem=str(error))
    except Exception as error:  # a file can be damaged in more ways than anybody has thought of
        return Listed(name, "unreadable", problem=f"its ledger is damaged: {one_line(repr(error), 200)}")
    at = view.last_sign
    return Listed(
        name=name,
        state=view.state,
        method=study.spec.method,
        dataset=name_of(study.spec.dataset),
        trials=len(view.trials),
        best=None if view.best is None else view.best.value,
        minimizes=", ".join(study.spec.minimize),
        holder=view.holder if view.state in ("running", "died") else None,
        held_by=view.held_by if view.state in ("running", "died") else None,
        last_sign=None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
    )
