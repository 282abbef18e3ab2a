"""Printed results: JSON for programs, plain tables for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_table(rows: Sequence[dict[str, Any]], units: Mapping[str, str] | None = None) -> None:
    """Print a plain table: column names with units, then one line for each row."""
    from ...trainables.tables import cell, columns, head

    names = columns(rows)
    cells = [[cell(row.get(name)) for name in names] for row in rows]
    heads = [head(name, units or {}) for name in names]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(names))]
    numeric = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in names]
    for line in [heads, *cells]:
        click.echo("  ".join(_aligned(line, widths, numeric)).rstrip())


def _aligned(line: Iterable[str], widths: Iterable[int], right: Iterable[bool]) -> list[str]:
    return [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)]
