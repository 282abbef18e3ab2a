"""Tables of rows for people: how a number is written, and tables for notebooks."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

MOST_ROWS = 20  # of a table in a notebook


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all columns, in the order in which they appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def head(name: str, units: Mapping[str, str]) -> str:
    """The head of a column: its name and unit."""
    return f"{name} [{units[name]}]" if name in units else name


def html_table(rows: Sequence[Mapping[str, Any]], *, units: Mapping[str, str], caption: str) -> str:
    """A small HTML table; of many rows the first 20, and how many more there are."""
    names = columns(rows)
    lines = [f"<caption>{html.escape(caption)}</caption>", _line("th", [head(name, units) for name in names])]
    lines += [_line("td", [cell(row.get(name)) for name in names]) for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f'<tr><td colspan="{len(names)}">and {len(rows) - MOST_ROWS} more</td></tr>')
    return f"<table>{''.join(lines)}</table>"


def _line(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in cells) + "</tr>"
