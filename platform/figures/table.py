"""The trials of a study as a table that sorts by a click, and a config as TOML."""

import html
import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ..ledger.ledger import LedgerTrial
from ..spec import StudySpec

# A click on a heading, or Enter, sorts by it, another one the other way; cells without a value come last.
SORT = """
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => a === "" || b === "" ? (a === "") - (b === "") :
    (up ? 1 : -1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  for (const row of [...body.rows].sort((a, b) => compare(key(a), key(b)))) body.append(row);
}
function headingOf(event) { return event.target.closest(".trials th"); }
addEventListener("click", event => { if (headingOf(event)) sortBy(headingOf(event)); });
addEventListener("keydown", event => { if (event.key === "Enter" && headingOf(event)) sortBy(headingOf(event)); });
"""


def trial_table(trials: Sequence[LedgerTrial], spec: StudySpec) -> str:
    """A row a trial, the best in bold."""
    value = f"{spec.value_name}{spec.value_measure.suffix}"
    others = [f"{name}{measure.suffix}" for name, measure in zip(spec.minimize[1:], spec.other_measures)]
    scores = list(dict.fromkeys(name for t in trials for name in t.scores))
    rows = [
        {
            "trial": t.number,
            "state": t.state,
            value: t.reached(spec.metric),
            **dict(zip_longest(others, t.others)),
            "seconds": t.seconds,
            **{name: t.config.get(name) for name in spec.space},
            **{f"score {name}": t.scores.get(name) for name in scores},
            "failure": t.failure,
        }
        for t in trials
    ]
    done = [(t.value, t.number) for t in trials if t.value is not None]
    best = min(done)[1] if done else None
    shown = [name for name in rows[0] if name != "failure" or any(row["failure"] for row in rows)] if rows else []
    head = "".join(f"<th tabindex=0>{html.escape(name)}</th>" for name in shown)
    lines = "".join(
        f"<tr{' class=best' if row['trial'] == best else ''}>{''.join(_cell(row[name]) for name in shown)}</tr>"
        for row in rows
    )
    return (
        "<section><h2>Trials</h2><p>Click a heading to sort by it.  The best trial is marked.</p>"
        f"<table class=trials><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></section>"
    )


def _cell(value: Any) -> str:
    exact = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    text = f"{value:.4g}" if isinstance(value, float) else exact[:120]
    return f'<td data-value="{html.escape(exact)}">{html.escape(text)}</td>'


def toml(table: str, values: Mapping[str, Any]) -> str:
    """Plain values as a table of a TOML file."""
    return "\n".join([f"[{table}]", *(f"{name} = {_literal(v)}" for name, v in values.items() if v is not None)])


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)  # of text, numbers and truth TOML has JSON's form
