"""`dftune serve`: a surrogate as an HTTP endpoint."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import click

from .options import address_option, folder_argument
from .tables import echo


@click.command("serve")
@folder_argument("model")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on.  Any but loopback needs a token."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Structures predicted at once.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="CPUs for each prediction.")
@click.option(
    "--gpus", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of a GPU for each prediction."
)
@click.option(
    "--queue",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Requests that wait at a replica; more get 503.",
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
@address_option
def serve(model: Path, host: str, port: int, token_file: Path | None, address: str | None, **limits: float) -> None:
    """Serve MODEL over HTTP: structures in, energies, Fermi level, DOS, forces, density and LDOS out.  Ctrl-C ends it.

    The API describes itself at /docs.  What cannot be predicted is refused with the reason in one line.

    \b
    Example:
      dftune serve al4.model
      (umask 077; openssl rand -hex 32 > token)
      dftune serve al4.model --host 0.0.0.0 --replicas 4 --token-file token
    """
    from pydantic import ValidationError

    from ...trainables.errors import one_line
    from ..progress import for_terminal
    from ..serve.page import curl
    from ..serve.server import served
    from ..serve.settings import TOKEN, EndpointSettings, digest, read_token

    # Not left in the environment: that of every process of Ray would have it.
    token = os.environ.pop(TOKEN, None) if token_file is None else read_token(token_file)
    try:
        settings = EndpointSettings(
            model=str(model.absolute()),
            token_sha256=None if token is None else digest(token),
            without_token=token is None,
            **limits,  # type: ignore[arg-type]
        )
    except ValidationError as error:
        raise click.UsageError(one_line(error)) from error
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends it, also where a shell has had SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with closing(for_terminal()) as progress:
        try:
            with served(settings, host=host, port=port, address=address, say=progress.say) as (opened, check):
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                progress.say(f"{model} is served at {url} (API: {url}/docs); Ctrl-C ends it.  Try:")
                echo(curl(url, opened.surrogate.example(), with_token=token is not None))
                while True:
                    time.sleep(2)
                    check()
        except KeyboardInterrupt:
            progress.say("ended")
