"""The process that shows the live pages, from start to Ctrl-C."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..serve.settings import EndpointError, refuse_open
from ..study.study import Study
from .app import web_app

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.  Raises EndpointError: the port is taken, or the host is none of this machine's."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise EndpointError(f"cannot listen on {host} ({error.strerror}); choose another --host") from error
    with closing(found):
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(where)
            found.listen(64)
        except OSError as error:
            remedy = "choose another --port or --host"
            raise EndpointError(f"cannot listen on {host}:{port} ({error.strerror}); {remedy}") from error
        yield found


def show(
    found: socket.socket, host: str, studies: str | Path, ledger: str | None = None, token_sha256: str | None = None
) -> None:
    """Show the pages on a socket until Ctrl-C, which is raised as KeyboardInterrupt.

    Raises:
        EndpointError: others reach the host, and there is no token.
        LedgerError: ``ledger`` cannot be read.
    """
    import uvicorn

    refuse_open(host, token_sha256, "the page")
    Study.names(studies, ledger)
    app = web_app(Path(studies), ledger, token_sha256=token_sha256, hosts=LOOPBACK | {host})
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[found])
