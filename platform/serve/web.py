"""The web side of a model: requests checked before anything is computed, answers as JSON or Arrow.

One prediction at a time is computed, in a thread; a bounded number waits for its turn.
"""

import asyncio
import hashlib
import hmac
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from ...trainables.errors import InputError, Malformed, TooLarge, UnknownFormat, one_line
from ...trainables.json_body import JSON
from ...trainables.kind import Job, Surrogate, Tell
from ..model.model import Model
from ..version import __version__
from .settings import EndpointSettings

ARROW = "application/vnd.apache.arrow.stream"
RETRY_AFTER = 5  # seconds, said to whom a full queue turns away
STATUS: dict[type[InputError], int] = {Malformed: 400, TooLarge: 413, UnknownFormat: 415}  # of all others 422
T = TypeVar("T")


class _GivenUp(Exception):
    """Nobody waits for this prediction any more."""


class _Turns:
    """One prediction at a time, so many waiting, and an end to those that nobody waits for."""

    def __init__(self, queue: int) -> None:
        self._most, self._worker = 1 + queue, ThreadPoolExecutor(1, "prediction")
        self._taken, self._lock = 0, threading.Lock()

    def _release(self, _: Any) -> None:
        with self._lock:
            self._taken -= 1

    async def run(self, predict: Callable[[Tell], T]) -> T:
        """The prediction's result, when its turn has come and it is done.

        Raises:
            HTTPException: 503, as many wait as may.
        """
        with self._lock:
            if self._taken >= self._most:
                raise HTTPException(
                    503,
                    f"{self._taken} requests are being predicted or wait already; try again in {RETRY_AFTER} s",
                    {"Retry-After": str(RETRY_AFTER)},
                )
            self._taken += 1
        given_up = threading.Event()

        def progress(what: str, done: int, total: int) -> None:
            if given_up.is_set():
                raise _GivenUp

        future = self._worker.submit(predict, progress)
        future.add_done_callback(self._release)  # not before the thread is free
        try:
            return await asyncio.wrap_future(future)
        finally:
            given_up.set()


def web_app(model: Model, settings: EndpointSettings) -> FastAPI:
    """The endpoint as an ASGI application.

    Args:
        model: what it serves.
        settings: its limits and its token.
    """
    surrogate = model.surrogate
    title = model.card.lines()[0]
    app = FastAPI(title="dftune", version=__version__, description=f"{title[0].upper()}{title[1:]}.")
    turns = _Turns(settings.queue)

    def admit(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode()).hexdigest()
        if settings.token_sha256 is None:
            return
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, settings.token_sha256):
            raise HTTPException(
                401,
                "this endpoint asks for its token; send 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )

    guarded = APIRouter(prefix="/v1", dependencies=[Depends(admit)])

    @app.exception_handler(InputError)
    async def _unusable(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InputError)
        return JSONResponse({"detail": one_line(error)}, STATUS.get(type(error), 422))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the endpoint answers; without a token."""
        return {"status": "ok"}

    @guarded.get("/model", response_model=model.kind.card_model)
    async def card() -> Any:
        """What the model is, and how accurate."""
        return model.card

    wishes = [name for name in surrogate.request.model_fields if name != "structure"]

    @guarded.post("/predict", openapi_extra=_described(surrogate, wishes), response_class=JSONResponse)
    async def predict(
        request: Request,
        quantity: Annotated[str | None, Query(json_schema_extra={"enum": list(surrogate.quantities)})] = None,
    ) -> Response:
        """Predict a structure: JSON, or with `Accept: application/vnd.apache.arrow.stream` a `quantity` as Arrow.

        A body of JSON says everything. Of any other body the wishes are in the query.
        """
        offered = " or ".join(surrogate.quantities) or "none"
        if quantity is not None and quantity not in surrogate.quantities:
            raise HTTPException(422, f"quantity: there is {offered}")
        if (ARROW in request.headers.get("accept", "")) != (quantity is not None):
            raise HTTPException(406, f"'Accept: {ARROW}' and ?quantity={offered} belong together")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        query = {name: request.query_params[name] for name in wishes if name in request.query_params}
        try:
            async with asyncio.timeout(settings.time_limit):
                content = await _body(request, settings.body)
                job = await asyncio.to_thread(_prepare, model, content, kind, query, settings.size)
                return await turns.run(lambda progress: _answer(job, quantity, settings.cpus, progress))
        except TimeoutError:
            raise HTTPException(
                504, f"not done within {settings.time_limit:g} s; ask later, for a smaller cell, or without forces"
            ) from None

    app.include_router(guarded)
    return app


def _described(surrogate: Surrogate, wishes: Sequence[str]) -> dict[str, Any]:
    """What the page of the API says of the body of a request, and of what can stand in its query."""
    schema = surrogate.request.model_json_schema()
    content: dict[str, Any] = {JSON: {"schema": schema}}
    for name, about in surrogate.formats.items():
        content[name] = {"schema": {"type": "string", "description": about}}
    query = [{"name": name, "in": "query", "schema": schema["properties"][name]} for name in wishes]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


async def _body(request: Request, most: int) -> bytes:
    """The request's body, counted as it comes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"the request is larger than {most:,} bytes; send one structure, without results")
        parts.append(part)
    return b"".join(parts)


def _prepare(model: Model, content: bytes, kind: str, query: Mapping[str, str], largest: int) -> Job:
    """The structure of a request, checked.

    Raises:
        TooLarge: for this endpoint, or for any.
        InputError: anything else that cannot be predicted.
    """
    structure, asked = model.surrogate.parse(content, kind, query)
    job = model.prepare(structure, **asked)
    if job.size > largest:
        unit = model.surrogate.size_unit
        raise TooLarge(
            f"the structure needs {job.size:,} {unit}, and this endpoint takes {largest:,}; use a smaller one"
        )
    return job


def _answer(job: Job, quantity: str | None, cpus: int, progress: Tell) -> Response:
    """The answer to a request, computed."""
    if quantity is not None:
        return StreamingResponse(_stream(job.batches(quantity, cpus=cpus, progress=progress)), media_type=ARROW)
    found = job.run(cpus=cpus, progress=progress)
    return JSONResponse(found.to_dict() | {"units": dict(found.units)})


def _stream(batches: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
    """An Arrow IPC stream, a piece a batch."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()
