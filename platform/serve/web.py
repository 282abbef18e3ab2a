"""The web side of a model: requests checked before anything is computed, answers as JSON or Arrow.

A request passes token, header, body, check and prediction.  So many bodies are read at once; one structure at a time is
checked, in a thread, and one predicted, in another.  `/healthz` waits for none of them.
"""

import asyncio
import hashlib
import hmac
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ...trainables.errors import InputError, Malformed, TooLarge, UnknownFormat, one_line
from ...trainables.kind import Job, Tell
from ..model.model import Model
from ..version import __version__
from .interface import ARROW, Health, Index, describe, predict_operation, problems
from .page import HEADERS, curl, page
from .settings import EndpointSettings
from .turns import Places, Turns

SPARE = 16  # bodies that are read beside those of requests that can wait, so that the others are told soon
STATUS: dict[type[InputError], int] = {Malformed: 400, TooLarge: 413, UnknownFormat: 415}  # of all others 422


def web_app(model: Model, settings: EndpointSettings) -> FastAPI:
    """The endpoint as an ASGI application.

    Args:
        model: what it serves.
        settings: its limits and its token.
    """
    surrogate = model.surrogate
    title = model.card.lines()[0]
    app = FastAPI(
        title="dftune",
        version=__version__,
        description=f"{title[0].upper()}{title[1:]}.",
        docs_url=None,  # of FastAPI, with scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    describe(app, surrogate)
    _errors_in_one_line(app)
    with_token = settings.token_sha256 is not None
    bodies = Places(1 + settings.queue + SPARE, "are being read")
    checks = Turns(settings.queue, "are being checked or wait")
    turns = Turns(settings.queue, "are being predicted or wait")
    guarded = APIRouter(prefix="/v1", dependencies=_guards(settings.token_sha256))

    @app.get("/healthz", responses=problems(with_token=False))
    async def health() -> Health:
        """Whether the endpoint answers; without a token."""
        return Health(status="ok")

    @app.get("/", responses=problems(with_token=False))
    async def index() -> Index:
        """What there is at this endpoint; without a token."""
        return Index(
            service="dftune",
            version=__version__,
            predict="/v1/predict",
            model="/v1/model",
            docs="/docs",
            openapi="/openapi.json",
            health="/healthz",
        )

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        url = str(request.base_url).rstrip("/")
        return HTMLResponse(page(app.openapi(), curl(url, surrogate.example(), with_token=with_token)), headers=HEADERS)

    @guarded.get(
        "/model",
        name="model",
        response_model=model.kind.card_model,
        responses=problems(with_token=with_token),
    )
    async def card() -> Any:
        """What the model is, and how accurate."""
        return model.card

    wishes = [name for name in surrogate.request.model_fields if name != "structure"]

    @guarded.post(
        "/predict",
        openapi_extra=predict_operation(surrogate),
        responses={
            200: {"model": surrogate.answer, "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}},
            **problems(400, 406, 408, 413, 415, 422, 504, with_token=with_token),
        },
    )
    async def predict(request: Request) -> Response:
        """Predict a structure: JSON, or with `Accept: application/vnd.apache.arrow.stream` a `quantity` as Arrow.

        A body of JSON says everything. Of any other body the wishes are in the query.
        """
        offered, quantity = " or ".join(surrogate.quantities) or "none", request.query_params.get("quantity")
        if quantity is not None and quantity not in surrogate.quantities:
            raise HTTPException(422, f"quantity: there is {offered}")
        if (ARROW in request.headers.get("accept", "")) != (quantity is not None):
            raise HTTPException(406, f"'Accept: {ARROW}' and ?quantity={offered} belong together")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        query = {name: request.query_params[name] for name in wishes if name in request.query_params}
        try:
            async with asyncio.timeout(settings.time_limit):
                with bodies.one():
                    content = await _body(request, settings.body, settings.body_time)
                job = await checks.run(lambda tell: _prepare(model, content, kind, query, settings.size, tell))
                return await turns.run(lambda tell: _answer(job, quantity, settings.cpus, tell))
        except TimeoutError:
            raise HTTPException(
                504, f"not done within {settings.time_limit:g} s; ask later, for a smaller cell, or without forces"
            ) from None

    app.include_router(guarded)
    return app


def _guards(token_sha256: str | None) -> list[Any]:
    """What keeps out who does not have the token; nothing where none is asked for."""
    if token_sha256 is None:
        return []
    bearer = HTTPBearer(auto_error=False, description="the endpoint's token")

    def admit(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        digest = hashlib.sha256((given.credentials if given else "").strip().encode()).hexdigest()
        if not hmac.compare_digest(digest, token_sha256):
            raise HTTPException(
                401,
                "this endpoint asks for its token; send 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )

    return [Depends(admit)]


def _errors_in_one_line(app: FastAPI) -> None:
    """Every error as ``Problem``."""

    @app.exception_handler(InputError)
    async def _unusable(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InputError)
        return JSONResponse({"detail": one_line(error)}, STATUS.get(type(error), 422))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        # Its traceback is in the log of the replica: Starlette raises it again.
        return JSONResponse(
            {"detail": f"a fault of dftune, not of the request ({type(error).__name__}); report it"}, 500
        )


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """The request's body, counted as it comes.

    Args:
        request: its header has been read.
        most: bytes.
        seconds: for all of it.

    Raises:
        HTTPException: 408, too slow; 413, too large.
    """
    too_large = HTTPException(413, f"the request is larger than {most:,} bytes; send one structure, without results")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > most:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds) as clock:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        if not clock.expired():
            raise  # the time of the whole request is over
        raise HTTPException(408, f"the body did not come within {seconds:g} s; send it at once") from None
    return b"".join(parts)


def _prepare(model: Model, content: bytes, kind: str, query: Mapping[str, str], largest: int, tell: Tell) -> Job:
    """The structure of a request, checked.

    Raises:
        TooLarge: for this endpoint.
        InputError: anything else that cannot be predicted.
    """
    tell("reading", 0, 2)
    structure, asked = model.surrogate.parse(content, kind, query)
    tell("checking", 1, 2)
    return model.prepare(structure, largest=largest, **asked)


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
