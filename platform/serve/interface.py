"""How the endpoint describes itself: an OpenAPI document that client generators take."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from ...trainables.json_body import JSON
from ...trainables.kind import Surrogate

ARROW = "application/vnd.apache.arrow.stream"
COMPONENTS = "#/components/schemas/{model}"


class Problem(BaseModel):
    """Every error of every route."""

    detail: str = Field(description="one line: what is wrong, and what to do")


class Health(BaseModel):
    """That the endpoint answers."""

    status: str = Field(description="ok")


class Index(BaseModel):
    """What there is at this endpoint: where it is."""

    service: str
    version: str
    predict: str
    model: str
    docs: str
    openapi: str
    health: str


PROBLEMS = {
    400: "the body is not in the format that it is said to be in",
    401: "no token, or another one than the endpoint asks for",
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


def predict_operation(surrogate: Surrogate) -> dict[str, Any]:
    """Body and query of a request for a prediction; its JSON is a component of the document."""
    content: dict[str, Any] = {JSON: {"schema": {"$ref": COMPONENTS.format(model=surrogate.request.__name__)}}}
    content[JSON]["example"] = surrogate.example()
    for name, about in surrogate.formats.items():
        content[name] = {"schema": {"type": "string", "description": about}}
    quantity = _parameter("quantity", {"type": "string", "enum": list(surrogate.quantities)})
    quantity["description"] = f"an array instead of numbers, with 'Accept: {ARROW}'"
    parameters = [quantity] * bool(surrogate.quantities) + _query(surrogate)
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _query(surrogate: Surrogate) -> list[dict[str, Any]]:
    """What can be asked besides the structure, as parameters in the query of a body that is a structure alone."""
    schema = surrogate.request.model_json_schema(ref_template=COMPONENTS)["properties"]
    return [_parameter(name, schema[name]) for name in surrogate.request.model_fields if name != "structure"]


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    about = schema.get("description", "")
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": about}


def describe(app: FastAPI, surrogate: Surrogate) -> None:
    """Let an application describe itself, with the body of a request among its components."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schema = surrogate.request.model_json_schema(ref_template=COMPONENTS)
            known = document.setdefault("components", {}).setdefault("schemas", {})
            known |= schema.pop("$defs", {}) | {surrogate.request.__name__: schema}
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
