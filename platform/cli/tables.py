"""Printed results: JSON for programs, plain tables for people."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

SCHEMA = 1  # version of the form of all JSON that commands print
# Of numbers that any kind of surrogates has.
UNITS = {
    "seconds": "s",
    "started_at": "s since 1970-01-01 UTC",
    "ended_at": "s since 1970-01-01 UTC",
    "trial_seconds": "s",
    "seconds_left": "s",
    "heartbeat_age": "s",
    "time_limit": "s",
    "overhead.start": "s",
    "besides": "s",
    "reserved": "s",
    "training_seconds": "s",
    "wall_seconds": "s",
    "scoring_seconds": "s",
    "slot_hours": "h",
    "gpu_hours": "h",
    "resources.memory": "GB",
    "memory_mb": "MB",
    "points_per_second": "1/s",
}


def echo(*lines: object, err: bool = False) -> None:
    """Print lines for people, or an empty one.  Names and texts of files may be in them: they cannot make others."""
    from ...trainables.errors import printed_line

    for line in lines or ("",):
        click.echo(printed_line(str(line)), err=err)


def print_json(value: Mapping[str, Any], units: Mapping[str, str] | None = None) -> None:
    """Print a result for programs, as docs/json.md describes it.

    Args:
        value: names -> plain values.
        units: name -> its unit, or "name above it.name"; those of numbers that all kinds of surrogates have are known.
    """
    click.echo(json_text(enveloped(value, units), indent=2))


def enveloped(value: Mapping[str, Any], units: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A result with the version of its form, and the units of the names in it; arguments as ``print_json``."""
    known = {**UNITS, **(units or {}), **value.get("units", {})}
    there = set(_names(value))
    return {"schema_version": SCHEMA, **value, "units": {name: unit for name, unit in known.items() if name in there}}


def _names(value: Any, above: str = "") -> Iterator[str]:
    """All names in nested values, each alone and behind the one above it."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield f"{above}.{name}"
            yield from _names(part, str(name))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _names(part, above)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that any program reads, in any encoding.  A number that is not finite is null, as JSON has none."""
    from ...trainables.errors import CONTROL

    wide = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf8sig")
    text = json.dumps(_finite(value), indent=indent, default=str, allow_nan=False, ensure_ascii=not wide)
    return CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def print_table(rows: Sequence[dict[str, Any]], units: Mapping[str, str] | None = None) -> None:
    """Print a plain table: column names with units, then one line for each row."""
    from ...trainables.tables import text_table

    for line in text_table(rows, units=units or {}):
        echo(line)
