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


def text_table(rows: Sequence[Mapping[str, Any]], *, units: Mapping[str, str]) -> list[str]:
    """The lines of a plain table: column names with units, then one line for each row.  Numbers stand to the right."""
    names = columns(rows)
    cells = [[cell(row.get(name)) for name in names] for row in rows]
    heads = [head(name, units) for name in names]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(names))]
    numeric = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in names]
    return ["  ".join(_aligned(line, widths, numeric)).rstrip() for line in [heads, *cells]]


def _aligned(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)]


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
