"""The process that keeps an endpoint up: Ray, its web server and the replicas, from start to end."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...cluster.connection import ClusterError, connected, given_address
from ...trainables.errors import one_line
from .proxy import ENVIRONMENT
from .settings import EndpointError, EndpointSettings, refuse_open
from .shelf import About, Shelf

NAME = "dftune"  # of the application on its cluster


@contextmanager
def served(
    settings: EndpointSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    address: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[About, Callable[[], None]]]:
    """An endpoint that answers inside the block; yields its first model, and what raises ClusterError once it ended.

    At the end of the block, requests that were accepted are answered, for as long as the settings' time limit.

    Args:
        settings: what to serve; without a token only on loopback.
        host, port: to listen on, on the head of the cluster.
        address: of a running cluster; None for RAY_ADDRESS, or an embedded local Ray that ends with the block.
        say: what is going on.

    Raises:
        EndpointError: no token where one is needed, or the port is taken.
        ModelError: no such model, or a damaged one.
        ClusterError: no cluster, one that serves already, or one without room for the replicas.
    """
    refuse_open(host, settings.token_sha256)
    about = Shelf(settings.model_copy(update={"loaded": 1})).about
    if given_address(address) is None:
        _check_port(host, port)  # of this machine
    for name, value in ENVIRONMENT.items():  # of the processes of an embedded Ray
        os.environ.setdefault(name, value)
    with connected(address, say=say, remedy="start the endpoint again"):
        from ray import serve  # after the environment is set that Ray reads when it is imported
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        from ...cluster.resources import slots
        from .endpoint import application_of

        room = slots(settings.cpus, settings.gpus, what="a replica", remedy="lower --cpus or --gpus")
        if room < settings.replicas:
            raise ClusterError(f"{settings.replicas} replicas, but the nodes have room for {room}; lower --replicas")
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        if serve.status().proxies or serve.status().applications:
            raise ClusterError("this cluster runs Ray Serve already; deploy by its config file (docs/cluster.md)")
        say("starting the web server")
        try:
            try:
                # The limit of Serve itself stands behind ours, which says what to do.
                http = {"host": host, "port": port, "request_timeout_s": settings.time_limit + 10}
                serve.start(proxy_location="HeadOnly", http_options=http)
                say(f"starting {settings.replicas} replica{'s' if settings.replicas > 1 else ''}")
                kinds = {name: one.kind for name, one in about.items()}
                serve.run(application_of(settings, kinds), name=NAME, route_prefix="/")
            except (RayError, RayServeException, RuntimeError, TimeoutError) as error:
                raise ClusterError(f"the endpoint did not start: {one_line(error, 300)}") from error
            yield next(iter(about.values())), _check_alive
        finally:
            say("stopping")
            _finish(settings.time_limit)
            serve.shutdown()


def _finish(patience: float) -> None:
    """Have the replicas end when they have answered what they accepted; the web server goes on until then."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    end = time.monotonic() + patience + 10
    try:
        if NAME in serve.status().applications:
            serve.delete(NAME, _blocking=False)
        while NAME in serve.status().applications and time.monotonic() < end:
            time.sleep(0.1)
    except (RayError, RayServeException):
        return  # the cluster is gone


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port or --host"
        ) from error


def _check_alive() -> None:
    """Raises ClusterError where the application is gone for good; Serve itself starts dead replicas again."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        found = serve.status().applications.get(NAME)
    except (RayError, RayServeException) as error:
        raise ClusterError("the cluster is gone; start the endpoint again") from error
    if found is None or found.status in ("DEPLOY_FAILED", "DELETING"):
        raise ClusterError("the endpoint has ended; start it again")
