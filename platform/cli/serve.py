"""`dftune serve`: a surrogate as an HTTP endpoint."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import click

from .options import address_option
from .tables import echo


@click.command("serve")
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on.  Any but loopback needs a token."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Structures predicted at once.")
@click.option(
    "--max-replicas",
    type=click.IntRange(1),
    help="Start up to this number of replicas while requests wait.  [default: as --replicas]",
)
@click.option("--loaded", type=click.IntRange(1), default=8, show_default=True, help="Models in a replica's memory.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="CPUs for each prediction.")
@click.option(
    "--gpus", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of a GPU for each prediction."
)
@click.option(
    "--queue",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Requests that may wait at a replica; others are answered 503.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Longest time for a request [s].",
)
@click.option(
    "--grid-points",
    "--size",
    "size",
    type=click.IntRange(1),
    default=500_000,
    show_default=True,
    help="Largest structure, in the unit that the model counts: grid points for an LDOS.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (mode 0600) with the token that requests must bring; by default the token in DFTUNE_TOKEN, if set.",
)
@click.option(
    "--config-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a config file for `serve deploy` instead, with the token's hash.",
)
@click.option(
    "--ipi",
    nargs=2,
    metavar="STRUCTURE ADDRESS",
    help="Give forces to the i-PI server at ADDRESS instead, as `dftune md ipi`, which has more options.",
)
@address_option
@click.pass_context
def serve(
    context: click.Context,
    models: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    config_out: Path | None,
    address: str | None,
    ipi: tuple[str, str] | None,
    **limits: float | None,
) -> None:
    """Serve MODELs over HTTP, with a page for browsers.

    Structures go in; energies, Fermi level, DOS, forces, density and LDOS come out.  Ctrl-C ends it.

    A MODEL is the folder of a model, or a folder that holds one for each version.  NAME is that of the folder unless it
    is given.  A version that is put beside the others answers as soon as it is loaded, and no request is lost.

    The API describes itself at /docs.  What cannot be predicted is refused with the reason in one line.

    \b
    Example:
      dftune serve al4.model
      dftune serve al4.model beryllium=models/be --loaded 2
      (umask 077; openssl rand -hex 32 > token)
      dftune serve al4.model --host 0.0.0.0 --replicas 4 --token-file token
    """
    if ipi is not None:
        if len(models) > 1:
            raise click.UsageError("--ipi takes one MODEL")
        from .md import md_ipi

        place = {"model": Path(models[0]), "structure": Path(ipi[0]), "address": ipi[1]}
        return context.invoke(md_ipi, **place)
    from pydantic import ValidationError

    from ...trainables.errors import one_line
    from ..progress import for_terminal
    from ..serve.page import curl
    from ..serve.server import served
    from ..serve.settings import TOKEN, EndpointSettings, digest, named, read_token

    # Not left in the environment: that of every process of Ray would have it.
    token = os.environ.pop(TOKEN, None) if token_file is None else read_token(token_file)
    try:
        settings = EndpointSettings(
            models={name: str(Path(folder).absolute()) for name, folder in named(models).items()},
            token_sha256=None if token is None else digest(token),
            without_token=token is None,
            **limits,  # type: ignore[arg-type]
        )
    except ValidationError as error:
        raise click.UsageError(one_line(error)) from error
    if config_out is not None:
        from ...trainables.files import write_text
        from ..serve.config_file import config_file

        write_text(config_out, config_file(settings, host=host, port=port))
        return echo(f"written: {config_out}", err=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends it, also where a shell has had SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with closing(for_terminal()) as progress:
        try:
            with served(settings, host=host, port=port, address=address, say=progress.say) as (first, check):
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                what = f"{', '.join(settings.models)} {'are' if len(settings.models) > 1 else 'is'}"
                progress.say(f"{what} served at {url} (API: {url}/docs); Ctrl-C ends it.  Try:")
                echo(*curl(url, first.example, with_token=token is not None).split("\n"))
                while True:
                    time.sleep(2)
                    check()
        except KeyboardInterrupt:
            progress.say("ended")
