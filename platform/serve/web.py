"""The web side of models: requests checked before anything is computed, answers as JSON, text, Arrow or NPY.

A request passes token, header, body, check and prediction.  So many bodies are read at once; one structure at a time is
checked, in a thread, and one predicted, in another.  `/healthz` waits for none of them.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException

from ...trainables.errors import InputError, one_line
from ...trainables.json_body import JSON, MOST_STRUCTURES
from ..version import __version__
from .answers import Asked, Reply, answer, media_type_of, prepare, status_of
from .front import HEADERS as front_headers
from .front import Shown, front
from .front_script import SCRIPT
from .interface import (
    ARROW,
    NPY,
    Health,
    Index,
    Models,
    answers,
    describe,
    details_model,
    predict_operation,
    problems,
    short_name,
    wishes,
)
from .metrics import REQUEST_ID, ROOM, of_models
from .page import HEADERS, curl, page
from .settings import EndpointSettings, is_token
from .shelf import Shelf
from .turns import Places, Turns, worked

HTML = "text/html"
LONGEST_NAME = 80  # of what a header says, in an answer
SPARE = 16  # bodies that are read beside those of requests that can wait, so that the others are told soon


def web_app(shelf: Shelf, settings: EndpointSettings) -> FastAPI:
    """The endpoint as an ASGI application.

    Args:
        shelf: the models that it serves.
        settings: its limits and its token.
    """
    about = list(shelf.about.values())
    first = about[0]
    title = first.title if len(about) == 1 else f"{len(about)} models: {', '.join(shelf.names)}"
    app = FastAPI(
        title="dftune",
        version=__version__,
        description=f"{title[0].upper()}{title[1:]}.",
        docs_url=None,  # of FastAPI, with scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    describe(app, about)
    _errors_in_one_line(app)
    with_token = settings.token_sha256 is not None
    room = 1 + settings.queue + SPARE
    bodies = Places(room, "are being read")
    of_all = str(room * (settings.max_replicas or settings.replicas))
    checks = Turns(settings.queue, "are being checked or wait")
    turns = Turns(settings.queue, "are being predicted or wait")
    guarded = APIRouter(dependencies=_guards(settings.token_sha256))

    @app.get("/healthz", responses=problems(with_token=False))
    async def health() -> Health:
        """Whether the endpoint answers; without a token."""
        return Health(status="ok")

    @app.get(
        "/",
        response_model=Index,
        responses={200: {"content": {HTML: {"schema": {"type": "string"}}}}, **problems(with_token=False)},
    )
    async def index(request: Request) -> Any:
        """What there is at this endpoint; without a token.  For a browser a page to predict with."""
        if HTML in request.headers.get("accept", ""):
            models = {
                name: Shown(one.example, "density" in one.surrogate.quantities, wishes(one), one.sites)
                for name, one in shelf.about.items()
            }
            text = front(models, app.description, with_token=with_token)
            return HTMLResponse(text, headers=front_headers | {"Vary": "Accept"})
        return Index(
            service="dftune",
            version=__version__,
            predict="/v1/predict",
            model="/v1/model",
            models="/v1/models",
            docs="/docs",
            openapi="/openapi.json",
            health="/healthz",
            metrics="/metrics",
        )

    @app.get("/front.js", include_in_schema=False)
    async def front_js() -> Response:
        return Response(SCRIPT, media_type="text/javascript", headers={"X-Content-Type-Options": "nosniff"})

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        url = str(request.base_url).rstrip("/")
        return HTMLResponse(page(app.openapi(), curl(url, first.example, with_token=with_token)), headers=HEADERS)

    @guarded.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=problems(with_token=with_token),
    )
    async def metrics() -> PlainTextResponse:
        """Numbers for Prometheus: requests, seconds, sizes; of all replicas behind this web server."""
        return PlainTextResponse(of_models([shelf.describe(name) for name in shelf.names]))

    @guarded.get(
        "/v1/model",
        name="model",
        response_model=first.kind.card_model,
        responses=problems(with_token=with_token),
    )
    async def card() -> Any:
        """What the first model is, and how accurate."""
        return (await asyncio.to_thread(shelf.get)).model.card

    @guarded.get("/v1/models", name="models", responses=problems(with_token=with_token))
    async def models() -> Models:
        """All models, the first one first."""
        return Models.model_validate({"models": [shelf.describe(name) for name in shelf.names]})

    @guarded.get(
        "/v1/models/{name}",
        name="details",
        responses={200: {"model": details_model(about)}, **problems(404, with_token=with_token)},
    )
    async def details(name: str) -> Response:
        """What a model is, how accurate, and what it refuses.  NAME@VERSION is another version of it."""
        found = await asyncio.to_thread(shelf.get, name)
        limits = {
            "size": settings.size,
            "size_unit": found.model.surrogate.size_unit,
            "structures": MOST_STRUCTURES,
            "body": settings.body,
            "time_limit": settings.time_limit,
        }
        said = {"version": found.version, "limits": limits, "card": found.model.card.model_dump(mode="json")}
        return JSONResponse(shelf.describe(found.name) | said)

    refused = problems(400, 404, 406, 408, 413, 415, 422, 504, with_token=with_token)

    @guarded.post(
        "/v1/predict",
        openapi_extra=predict_operation([first]),
        responses={200: answers([first]), **refused},
    )
    async def predict(request: Request) -> Response:
        """Predict by the first model; otherwise as `/v1/models/{name}/predict`."""
        return await predicted(request, shelf.names[0])

    @guarded.post(
        "/v1/models/{name}/predict",
        name="predict_by",
        openapi_extra=predict_operation(about),
        responses={200: answers(about), **refused},
    )
    async def predict_by(request: Request, name: str) -> Response:
        """Predict a structure, or several: JSON, or with another `Accept` text or a `quantity` as an array.

        A body of JSON says everything. Of any other body the wishes are in the query. NAME@VERSION asks another version
        of the model. A structure of several that cannot be predicted has its error in its place.
        """
        return await predicted(request, name)

    async def predicted(request: Request, name: str) -> Response:
        turns.refuse_if_taken()  # before its body is read and checked, which would be for nothing
        known = shelf.about[shelf.find(name)[0]]
        offered, quantity = known.surrogate.quantities, request.query_params.get("quantity")
        said = " or ".join(offered) or "none"
        if quantity is not None and quantity not in offered:
            raise HTTPException(422, f"quantity: there is {said}")
        media_type = media_type_of(request.headers.get("accept", ""), quantity, offered)
        if media_type is None:
            raise HTTPException(406, f"'Accept: {ARROW}' or '{NPY}' and ?quantity={said} belong together")
        kind = _kind(request, known.surrogate.formats)
        query = {one: request.query_params[one] for one in wishes(known) if one in request.query_params}

        def checked(tell: Any) -> tuple[str, Asked]:
            found = shelf.get(name)
            return str(found), prepare(found.model, content, kind, query, settings.size, tell)

        try:
            async with asyncio.timeout(settings.time_limit):
                with bodies.one():
                    content = await _body(request, settings.body, settings.body_time)
                model, asked = await checks.run(checked)
                reply = await turns.run(lambda tell: answer(asked, media_type, quantity, settings.cpus, tell))
                return _response(reply, {"X-Model": model, "X-Size": str(asked.size), ROOM: of_all})
        except TimeoutError:
            raise HTTPException(
                504, f"not done within {settings.time_limit:g} s; ask later, for a smaller cell, or without forces"
            ) from None

    app.include_router(guarded)
    return app


def _kind(request: Request, formats: Any) -> str:
    """The type of a request's body: what `format` says, else its header."""
    packed = request.headers.get("content-encoding", "identity")
    if packed.strip().lower() not in ("", "identity"):
        raise HTTPException(415, f"content encoding {packed[:LONGEST_NAME]}; send the body as it is")
    short = request.query_params.get("format")
    if short is None:
        return request.headers.get("content-type", "").partition(";")[0].strip().lower()[:LONGEST_NAME]
    known = {short_name(one): one for one in (JSON, *formats)}
    if short not in known:
        raise HTTPException(422, f"format: there is {' or '.join(known)}")
    return known[short]


def _response(reply: Reply, headers: dict[str, str]) -> Response:
    if isinstance(reply.content, bytes):
        return Response(reply.content, media_type=reply.media_type, headers=headers)
    sent = BackgroundTask(worked.set)
    return StreamingResponse(reply.content, media_type=reply.media_type, headers=headers, background=sent)


def _guards(token_sha256: str | None) -> list[Any]:
    """What keeps out who does not have the token; nothing where none is asked for."""
    if token_sha256 is None:
        return []
    bearer = HTTPBearer(auto_error=False, description="the endpoint's token")

    def admit(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if not is_token(given.credentials if given else "", token_sha256):
            raise HTTPException(
                401,
                "this endpoint asks for its token; send 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )

    return [Depends(admit)]


def _errors_in_one_line(app: FastAPI) -> None:
    """Every error as ``Problem``."""

    def problem(request: Request, status: int, detail: str, headers: Any = None) -> JSONResponse:
        name = request.headers.get(REQUEST_ID)
        return JSONResponse({"detail": detail} | ({} if name is None else {"request_id": name}), status, headers)

    @app.exception_handler(InputError)
    async def _unusable(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InputError)
        return problem(request, status_of(error), one_line(error))

    @app.exception_handler(StarletteHTTPException)
    async def _refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StarletteHTTPException)
        return problem(request, error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return problem(request, 422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        # Its traceback is in the log of the replica: Starlette raises it again.
        return problem(request, 500, f"a fault of dftune, not of the request ({type(error).__name__}); report it")


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """The request's body, counted as it comes.

    Args:
        request: its header has been read.
        most: bytes.
        seconds: for all of it.

    Raises:
        HTTPException: 408, too slow; 413, too large.
    """
    too_large = HTTPException(413, f"the request is larger than {most:,} bytes; send fewer structures, without results")
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
