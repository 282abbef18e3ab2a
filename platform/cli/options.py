"""What the commands share: arguments, options, and how results are printed."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click


def folder_argument(name: str) -> Callable[..., Any]:
    """An argument that is a folder."""
    return click.argument(name, type=click.Path(path_type=Path, file_okay=False))


class _Location(click.Path):
    """A folder, or a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in value else super().convert(value, param, ctx)


dataset_type = _Location(file_okay=False)


def dataset_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """An argument that is a dataset: a folder, or a URL of one."""
    return click.argument("dataset", type=dataset_type)(command)


def studies_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where studies lie."""
    return click.option(
        "--studies",
        type=click.Path(path_type=Path, file_okay=False),
        default="studies",
        envvar="DFTUNE_STUDIES",
        show_default=True,
        show_envvar=True,
        help="Folder that holds the studies.",
    )(command)


def ledger_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the ledgers of the studies are."""
    return click.option(
        "--ledger",
        metavar="URL",
        envvar="DFTUNE_LEDGER",
        show_envvar=True,
        callback=_without_password,
        help="PostgreSQL database of the studies, postgresql://USER@HOST/DATABASE; by default a file in each folder.",
    )(command)


def _without_password(ctx: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    """A password in an argument can be read by all users of the machine."""
    typed = ctx.get_parameter_source(parameter.name or "") == click.core.ParameterSource.COMMANDLINE
    if url and typed and re.search(r"://[^/@]*:[^/]*@|[?&]password=", url):
        raise click.BadParameter(
            "all users of this machine see a password there; put it into ~/.pgpass, or the URL into DFTUNE_LEDGER"
        )
    return url or None


def address_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which Ray cluster."""
    return click.option(
        "--address",
        envvar="RAY_ADDRESS",
        show_envvar=True,
        help="Ray cluster to work on; by default an embedded local Ray.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    """A result for programs."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_table(rows: Sequence[dict[str, Any]], units: Mapping[str, str] | None = None) -> None:
    """A plain table: column names with units, a line a row, wide enough for its content."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    heads = [f"{name} [{units[name]}]" if units and name in units else name for name in names]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(names))]
    numeric = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in names]
    for line in [heads, *cells]:
        click.echo("  ".join(_aligned(line, widths, numeric)).rstrip())


def _aligned(line: Iterable[str], widths: Iterable[int], right: Iterable[bool]) -> list[str]:
    return [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
