"""What an endpoint has done, for Prometheus.

It is counted in Serve's web server, which sees every request to all replicas, also those that none answers.  The
replicas add what they know of their models.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REQUEST_ID = "x-request-id"
ROOM = "x-room"  # of a prediction: so many requests for one may be under way, at all replicas
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)  # [s]
ROUTES = ("predict", "models", "model", "metrics", "healthz", "docs", "openapi.json")


class Metrics:
    """Counts of the requests to a web server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dftune_requests", "Requests that were answered", ("route", "model", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "dftune_request_seconds",
            "Seconds of a request, waiting included",
            ("route", "model"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._size = Counter(
            "dftune_predicted_size", "Size of what was predicted, in the model's unit", ("model",),
            registry=self._registry,
        )  # fmt: skip
        self.under_way = Gauge(
            "dftune_requests_under_way", "Requests that wait or are answered", ("route",), registry=self._registry
        )

    def count(self, path: str, status: int, seconds: float, headers: Mapping[str, str]) -> None:
        """A request that was answered.

        Args:
            path: of the request.
            status: of the answer.
            seconds: from one to the other.
            headers: of the answer, with ``x-model`` and ``x-size`` if it is a prediction.
        """
        route, model = route_of(path), headers.get("x-model", "")
        self._requests.labels(route, model, str(status)).inc()
        self._seconds.labels(route, model).observe(seconds)
        if status == 200 and headers.get("x-size", "").isdecimal():
            self._size.labels(model).inc(int(headers["x-size"]))

    def text(self) -> str:
        """All of them, in the text form of Prometheus."""
        return generate_latest(self._registry).decode()


def of_models(models: Sequence[Mapping[str, Any]]) -> str:
    """What a replica knows of its models, as ``Shelf.describe`` says it, in the text form of Prometheus."""
    registry = CollectorRegistry()
    versions = Gauge("dftune_model_info", "Models that answer", ("model", "kind"), registry=registry)
    failed = Gauge("dftune_model_problem", "1 if a newer version does not answer", ("model",), registry=registry)
    for one in models:
        versions.labels(f"{one['name']}@{one['version']}", one["kind"]).set(1)
        failed.labels(one["name"]).set(one["problem"] is not None)
    return generate_latest(registry).decode()


def route_of(path: str) -> str:
    """One of few names, whatever anybody asks for."""
    last = path.rstrip("/").rpartition("/")[2]
    if "/v1/models/" in path and last != "predict":
        last = "models"
    return last if last in ROUTES else ("index" if path == "/" else "other")
