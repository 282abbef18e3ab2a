"""A config file for Ray Serve's own `serve deploy`, which runs an endpoint on a cluster that stays."""

from typing import Any

from ...cluster.launch.nodes import to_yaml
from .proxy import ENVIRONMENT
from .server import NAME
from .settings import EndpointSettings, refuse_open

APPLICATION = "dftune.platform.serve.endpoint:application"


def config_file(settings: EndpointSettings, *, host: str = "127.0.0.1", port: int = 8000) -> str:
    """The file, as text, with the hash of the token and never the token.

    Args:
        settings: of the endpoint.
        host, port: to listen on, on every node.

    Raises:
        EndpointError: no token, and others reach the host.
    """
    refuse_open(host, settings.token_sha256)
    arguments: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": settings.time_limit + 10},
        "applications": [{"name": NAME, "route_prefix": "/", "import_path": APPLICATION, "args": arguments}],
    }
    ((name, value),) = ENVIRONMENT.items()
    return (
        f"# An endpoint of dftune.  Ray's processes need the environment variable {name}={value}, the models under\n"
        "# these paths on every node, and this Python environment.  Then: serve deploy FILE\n"
        f"{to_yaml(config)}"
    )
