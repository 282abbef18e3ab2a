"""Models as a Ray Serve application.

A Serve config file names it as ``import_path: dftune.platform.serve.endpoint:application``.  Its ``args`` are those of
``EndpointSettings``.
"""

import os
import threading
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from ...cluster.ray_private import replica_on_loopback
from ...cluster.resources import use_cpus
from ...trainables.kind import Kind
from .settings import RETRY_AFTER, TOKEN, EndpointError, EndpointSettings, digest
from .shelf import Shelf
from .turns import give_back_after_work
from .web import web_app

AT_ONCE = 10_000  # requests that Serve hands to a replica, which refuses more than it can take itself: so none is held
# back unheard, nor /healthz behind them


@serve.deployment
@serve.ingress()
class Endpoint:
    """One replica: models in a process of its own."""

    def __init__(self, settings: EndpointSettings, kinds: Mapping[str, Kind]) -> None:
        replica_on_loopback()
        use_cpus(settings.cpus)
        self.settings, self.shelf = settings, Shelf(settings, kinds)
        self.shelf.watch()
        threading.Thread(target=give_back_after_work, name="memory", daemon=True).start()

    def __serve_build_asgi_app__(self) -> object:
        return web_app(self.shelf, self.settings)


def application(settings: EndpointSettings) -> Application:
    """The Serve application of models; its token is that of the settings, or DFTUNE_TOKEN.

    Raises:
        EndpointError: no token, and not said that none is wanted.
    """
    return application_of(settings)


def application_of(settings: EndpointSettings, kinds: Mapping[str, Kind] | None = None) -> Application:
    """As ``application``; kinds by model go to the replicas as they are, else the names in the cards find them."""
    if settings.token_sha256 is None and not settings.without_token:
        given = os.environ.get(TOKEN)
        if given is None:
            raise EndpointError(f"an endpoint asks for a token: set {TOKEN}, or without_token: true on loopback")
        settings = settings.model_copy(update={"token_sha256": digest(given)})
    return Endpoint.options(  # type: ignore[attr-defined]
        **_number(settings),
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=AT_ONCE,
        max_queued_requests=AT_ONCE,  # while no replica stands; `proxy.py` answers them
        health_check_period_s=2.0,  # so soon a dead replica is seen, and another one started
        backpressure_config={"retry_after_s": RETRY_AFTER},
        max_constructor_retry_count=2,
        # A replica that is to end finishes what it has accepted.
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=settings.time_limit,
    ).bind(settings, dict(kinds or {}))


def _number(settings: EndpointSettings) -> dict[str, Any]:
    """How many replicas: so many, or more while requests wait."""
    if settings.max_replicas is None:
        return {"num_replicas": settings.replicas}
    scaling = {
        "min_replicas": settings.replicas,
        "max_replicas": settings.max_replicas,
        "target_ongoing_requests": 2,  # one that is predicted and one that waits
        "upscale_delay_s": 5.0,
        "downscale_delay_s": 60.0,  # another replica stands within ten seconds
    }
    return {"autoscaling_config": scaling}
