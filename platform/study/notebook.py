"""A study as a notebook shows it, and its trials as rows of a table."""

import html
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ...trainables.data.location import name_of
from ...trainables.errors import InputError
from ..ledger.trial import LedgerTrial
from ..spec import StudySpec

if TYPE_CHECKING:
    from .study import Study

SHOWN = 10  # trials in a notebook


def rows(trials: Sequence[LedgerTrial], spec: StudySpec) -> list[dict[str, Any]]:
    """A row a trial: number, state, all that is minimised, seconds, each hyperparameter and each score."""
    return [
        {
            **{"trial": t.number, "state": t.state},
            **dict(zip_longest(spec.minimize, t.objectives)),
            "seconds": t.seconds,
            **{name: t.config.get(name) for name in spec.space},
            **t.scores,
        }
        for t in trials
    ]


def in_a_line(study: "Study") -> str:
    """What the study is and how it stands."""
    spec = study.spec
    return f"Study('{spec.name}', method '{spec.method}', dataset '{name_of(spec.dataset)}', {_state(study)})"


def as_html(study: "Study") -> str:
    """The same, and its best trials as a table."""
    try:
        trials = study.trials() if study.begun else []
    except InputError:
        trials = []
    best = sorted((t for t in trials if t.value is not None), key=lambda t: t.value or 0.0)[:SHOWN]
    head = f"<p>{html.escape(in_a_line(study))}</p>"
    if not best:
        return head
    table = rows(best, study.spec)
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in table[0])
    lines = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row.values()) + "</tr>" for row in table)
    return f"{head}<table><tr>{titles}</tr>{lines}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _state(study: "Study") -> str:
    try:
        if not study.begun:
            return "not begun"
        counts = Counter(t.state for t in study.trials())
        return ", ".join(f"{n} {state}" for state, n in counts.items()) or "no trials yet"
    except InputError as error:
        return str(error)
