"""Arguments and options that commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def folder_argument(name: str) -> Callable[..., Any]:
    """An argument that is a folder."""
    return click.argument(name, type=click.Path(path_type=Path, file_okay=False))


class ListOf(click.ParamType):
    """Parts with commas between them, none of them empty.

    Args:
        what: they are, for people.
        example: of such a list.
        kind: makes a part of its text; ValueError: it is none.
    """

    name = "list"

    def __init__(self, what: str, example: str, kind: Callable[[str], Any] = float) -> None:
        self._refusal, self._kind = f"is not a list of {what} as in {example}", kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",")]
        try:
            if all(parts):
                return [self._kind(part) for part in parts]
        except ValueError:
            pass
        self.fail(f"'{value}' {self._refusal}", param, ctx)


IDS = ListOf("ids", "000,003,007", str)
SYMBOLS = ListOf("chemical symbols", "Al,Mg", str)


class _Location(click.Path):
    """A folder, or a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in value else super().convert(value, param, ctx)


dataset_type = _Location(file_okay=False)


def dataset_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """An argument that is a dataset: a folder, or a URL of one."""
    return click.argument("dataset", type=dataset_type)(command)


def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of an argument or option that says which study a command is about."""
    ctx.meta[f"{__name__}.{parameter.name}"] = value
    return value


def study_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Studies whose names begin so, for tab completion."""
    import os

    from ...trainables.errors import InputError
    from ..study.study import Study

    studies = Path(ctx.params.get("studies") or os.environ.get("DFTUNE_STUDIES") or "studies")
    try:
        names = Study.names(studies, ctx.params.get("ledger") or os.environ.get("DFTUNE_LEDGER") or None)
    except InputError:
        return []
    return [n for n in names if n.startswith(incomplete)]


study_argument = click.argument("name", callback=remember, shell_complete=study_names)


def study_folder(ctx: click.Context) -> Path | None:
    """The folder of the study that the command is about, also after it has failed; None if it is about none."""
    name, studies = (ctx.meta.get(f"{__name__}.{parameter}") for parameter in ("name", "studies"))
    return studies / name if name and studies and Path(name).name == name else None


def studies_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The folder of the studies."""
    return click.option(
        "--studies",
        type=click.Path(path_type=Path, file_okay=False),
        default="studies",
        envvar="DFTUNE_STUDIES",
        show_default=True,
        show_envvar=True,
        callback=remember,
        help="Folder that holds the studies.",
    )(command)


def ledger_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The database of the ledgers, if they are not files."""
    return click.option(
        "--ledger",
        metavar="URL",
        envvar="DFTUNE_LEDGER",
        show_envvar=True,
        callback=_without_password,
        help="PostgreSQL database of the studies, postgresql://USER@HOST/DATABASE; by default a file in each folder.",
    )(command)


def _without_password(ctx: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    """Refuse a password in an argument: all users of the machine can read it."""
    typed = ctx.get_parameter_source(parameter.name or "") == click.core.ParameterSource.COMMANDLINE
    if url and typed and re.search(r"://[^/@]*:[^/]*@|[?&]password=", url):
        raise click.BadParameter(
            "all users of this machine see a password there; put it into ~/.pgpass, or the URL into DFTUNE_LEDGER"
        )
    return url or None


def address_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The Ray cluster to work on."""
    return click.option(
        "--address",
        envvar="RAY_ADDRESS",
        show_envvar=True,
        help="Ray cluster to work on; by default an embedded local Ray.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
