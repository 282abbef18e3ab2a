"""How the endpoint describes itself: an OpenAPI document that client generators take."""

from collections.abc import Iterable, Sequence
from typing import Any, Union

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field, create_model

from ...trainables.json_body import JSON, MOST_STRUCTURES
from .shelf import About

ARROW, NPY, TEXT = "application/vnd.apache.arrow.stream", "application/x-npy", "text/plain"
COMPONENTS = "#/components/schemas/{model}"
HEADERS = {
    "X-Model": "NAME@VERSION of the model that answers",
    "X-Size": "of the structures, in the model's unit",
    "X-Room": "how many requests for predictions may be under way; more get 503",
}
BINARY = {"schema": {"type": "string", "format": "binary"}}


class Problem(BaseModel):
    """Every error of every route."""

    detail: str = Field(description="one line: what is wrong, and what to do")
    request_id: str | None = Field(default=None, description="the X-Request-ID of the request, also in the logs")


class Health(BaseModel):
    """That the endpoint answers."""

    status: str = Field(description="ok")


class Index(BaseModel):
    """What there is at this endpoint: where it is."""

    service: str
    version: str
    predict: str
    model: str
    models: str
    docs: str
    openapi: str
    health: str
    metrics: str


class Served(BaseModel):
    """A model of this endpoint."""

    name: str
    version: str = Field(description="which answers; another one is asked by NAME@VERSION")
    versions: list[str]
    kind: str
    about: str
    loaded: bool = Field(description="in the memory of the replica that says so")
    problem: str | None = Field(description="why a newer version does not answer")


class Models(BaseModel):
    """The models of this endpoint; the first answers `/v1/predict`."""

    models: list[Served]


class Limits(BaseModel):
    """What is refused."""

    size: int = Field(description="largest size of all structures of a request together")
    size_unit: str = Field(description="of it")
    structures: int = Field(description="of one request")
    body: int = Field(description="[bytes]")
    time_limit: float = Field(description="[s], waiting included")


class Refused(BaseModel):
    """A structure of several that cannot be predicted, in its place."""

    detail: str = Field(description="one line: what is wrong, and what to do")
    status: int = Field(description="the HTTP status that it would have had alone")


def details_model(kinds: Iterable[About]) -> type[BaseModel]:
    """The answer of `/v1/models/{name}`."""
    cards: Any = Union[tuple({one.kind.card_model for one in kinds})]  # noqa: UP007
    return create_model("Model", __base__=Served, card=(cards, ...), limits=(Limits, ...))


def batch_model(answer: type[BaseModel]) -> type[BaseModel]:
    """The answer to several structures."""
    return create_model(
        f"{answer.__name__}s",
        __doc__="What is predicted of several structures, in their order.",
        predictions=(list[answer | Refused], ...),  # type: ignore[valid-type]
    )


PROBLEMS = {
    400: "the body is not in the format that it is said to be in",
    401: "no token, or another one than the endpoint asks for",
    404: "no model or version of this name",
    406: "a quantity without the header that accepts it, or the other way round",
    408: "the body came too slowly",
    413: "the body or the structure is too large",
    415: "the body is in a format that nobody reads",
    422: "a structure that cannot be predicted, or something unknown, missing or out of range",
    500: "a fault of the endpoint",
    503: "the endpoint is busy or starts again",
    504: "not done within the time limit",
}


def problems(*codes: int, with_token: bool) -> dict[int | str, dict[str, Any]]:
    """Errors of a route, for its description."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in sorted({*codes, *([401] if with_token else []), 500, 503}):
        found[code] = {"model": Problem, "description": PROBLEMS[code]}
    wait = {"description": "seconds until it is worth asking again", "schema": {"type": "integer"}}
    found[503]["headers"] = {"Retry-After": wait}
    return found


def answers(about: Sequence[About]) -> dict[str, Any]:
    """The good answers of a prediction, for its description."""
    plain = tuple({one.surrogate.answer for one in about})
    models = (*plain, *map(batch_model, plain))
    content = {TEXT: {"schema": {"type": "string"}}}
    if any(one.surrogate.quantities for one in about):
        content |= {ARROW: BINARY, NPY: BINARY}
    header = {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()}
    return {"model": Union[models], "content": content, "headers": header}  # noqa: UP007


def predict_operation(about: Sequence[About]) -> dict[str, Any]:
    """Body and query of a request for a prediction; its JSON is a component of the document."""
    names = dict.fromkeys(f"{one.surrogate.request.__name__}{s}" for one in about for s in ("", "s"))
    schemas = [{"$ref": COMPONENTS.format(model=name)} for name in names]
    content: dict[str, Any] = {JSON: {"schema": {"anyOf": schemas}, "example": about[0].example}}
    parameters: dict[str, dict[str, Any]] = {}
    if quantities := list(dict.fromkeys(name for one in about for name in one.surrogate.quantities)):
        parameters["quantity"] = _parameter("quantity", {"type": "string", "enum": quantities})
        parameters["quantity"]["description"] = f"an array instead of numbers, with 'Accept: {ARROW}' or {NPY}"
    formats = dict(item for one in about for item in one.surrogate.formats.items())
    if formats:
        short = [short_name(name) for name in (JSON, *formats)]
        parameters["format"] = _parameter("format", {"type": "string", "enum": short})
        parameters["format"]["description"] = "of the body, instead of its content type"
    for name, text in formats.items():
        content[name] = {"schema": {"type": "string", "description": text}}
    for one in about:
        schema = one.surrogate.request.model_json_schema(ref_template=COMPONENTS)["properties"]
        for name in wishes(one):
            parameters.setdefault(name, _parameter(name, schema[name]))
    return {"requestBody": {"required": True, "content": content}, "parameters": list(parameters.values())}


def short_name(media_type: str) -> str:
    """xyz of chemical/x-xyz."""
    return media_type.rpartition("/")[2].removeprefix("x-")


def wishes(about: About) -> list[str]:
    """What can be asked besides the structure; of a body that is a structure alone, in the query."""
    return [name for name in about.surrogate.request.model_fields if name != "structure"]


def _components(about: About) -> dict[str, dict[str, Any]]:
    """Schemas of a body with one structure and with several, and of what is in them, by their names."""
    request = about.surrogate.request
    schema = request.model_json_schema(ref_template=COMPONENTS)
    inner = schema.pop("$defs", {})
    properties = dict(schema["properties"])
    one = properties.pop("structure")
    structures = {"type": "array", "minItems": 1, "maxItems": MOST_STRUCTURES, "items": one}
    several = {
        **schema,
        "title": f"{request.__name__}s",
        "description": "Several structures, and what is asked of all of them.",
        "properties": {"structures": structures, **properties},
        "required": ["structures"],
    }
    return {**inner, request.__name__: schema, f"{request.__name__}s": several}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    about = schema.get("description", "")
    # Without `explode` a generated client would send grid=20&grid=20&grid=20 for grid=20,20,20.
    said = {"name": name, "in": "query", "required": False, "schema": schema, "description": about}
    return said | {"style": "form", "explode": False}


def describe(app: FastAPI, about: Sequence[About]) -> None:
    """Let an application describe itself, with the bodies of requests among its components."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            known = document.setdefault("components", {}).setdefault("schemas", {})
            for one in about:
                known |= _components(one)
            app.openapi_schema = _without_tuples(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _without_tuples(value: Any) -> Any:
    """A schema whose tuples are lists of a fixed length: few generators know ``prefixItems``."""
    if isinstance(value, list):
        return [_without_tuples(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: _without_tuples(one) for name, one in value.items()}
    parts = found.get("prefixItems")
    if isinstance(parts, list) and all(part == parts[0] for part in parts):
        del found["prefixItems"]
        found["items"] = parts[0]
    return found
