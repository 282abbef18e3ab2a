"""`dftune study watch`: a study that runs elsewhere, followed in words, or on a live page."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import json_option, ledger_option, remember, studies_option, study_names
from .show_study import show_study
from .show_watch import as_values, left, say
from .tables import echo, enveloped, json_text

if TYPE_CHECKING:
    from ..study.study import Study


@click.command("watch")
@click.argument("name", required=False, callback=remember, shell_complete=study_names)
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds between two looks."
)
@click.option("--web", is_flag=True, help="Show live pages of all studies in the browser instead.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address of the pages.  Any but loopback needs a token."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the pages.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (mode 0600) with the token that readers must bring; by default the token in DFTUNE_TOKEN, if set.",
)
@studies_option
@ledger_option
@json_option
def study_watch(
    name: str | None,
    interval: float,
    web: bool,
    host: str,
    port: int,
    token_file: Path | None,
    studies: Path,
    ledger: str | None,
    as_json: bool,
) -> None:
    """Follow study NAME until it has ended.  Another process runs it, on this host or another.

    It only reads: Ctrl-C ends the watching, not the study.  The exit code is 0 if the study has ended, and 1 if nobody
    runs it.  With --json, each event is one JSON object in a line.

    With --web it shows pages: all studies, and of each its state, trials, figures and best config, while it runs.  A
    browser asks for the token as a password; any user name will do.

    \b
    Example:
      dftune study watch al4
      dftune study watch --web
    """
    from ..study.study import Study

    if web and as_json:
        raise click.UsageError("--web shows pages, and has no --json")
    if web:
        return _show_pages(name, host, port, token_file, studies, ledger)
    if name is None:
        raise click.UsageError("Missing argument 'NAME': which study; `dftune study list` names them")
    return _follow(Study.open(name, studies, ledger), interval, as_json)


def _follow(found: "Study", interval: float, as_json: bool) -> None:
    from ..progress import for_terminal

    end, progress = None, for_terminal()
    try:
        for event in found.watch(interval):
            if as_json:
                echo(json_text(enveloped(as_values(event), found.spec.of_kind.units)))
            else:
                say(event, found, progress)
            end = event
    except KeyboardInterrupt:
        progress.close()
        return echo("no longer watched; the study goes on", err=True)
    finally:
        progress.close()
    name = found.spec.name
    if end is not None and end.view.state != "ended":
        raise click.ClickException(f"study {name} {left(end.view)}; go on with `dftune study resume {name}`")
    if not as_json:
        show_study(found, found.conclusion())


def _show_pages(
    name: str | None, host: str, port: int, token_file: Path | None, studies: Path, ledger: str | None
) -> None:
    from ..dashboard.server import listening, show
    from ..serve.settings import TOKEN, digest, read_token
    from ..study.study import Study

    token = os.environ.pop(TOKEN, None) if token_file is None else read_token(token_file)
    if name is not None:
        Study.open(name, studies, ledger)  # said here if there is none
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with listening(host, port) as found:
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}/{'' if name is None else f'studies/{name}'}"
        echo(f"open {where} in a browser; Ctrl-C ends the pages, and no study", err=True)
        try:
            show(found, host, studies, ledger, None if token is None else digest(token))
        except KeyboardInterrupt:
            echo("ended", err=True)
