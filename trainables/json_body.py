"""A request for a prediction as JSON, checked against the model of its body."""

import codecs
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from .errors import InputError, Malformed, TooLarge, one_line

JSON = "application/json"
MOST_STRUCTURES = 1000  # of one request
B = TypeVar("B", bound=BaseModel)


def read_json(body: type[B], content: bytes, query: Mapping[str, Any]) -> B:
    """The body of a request, which says all that is asked.

    Args:
        body: its model.
        content: JSON.
        query: what the request asks for besides its body; nothing may be there.

    Raises:
        Malformed: no JSON.
        InputError: something unknown, missing or out of range, or a query.
    """
    if query:
        raise InputError(f"{', '.join(query)}: belongs into the JSON, not into the query")
    try:
        return body.model_validate_json(content.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise Malformed(one_line(error)) from None
        raise InputError(one_line(error)) from None


def one_each(content: bytes) -> Iterator[bytes] | None:
    """The bodies of single structures, of a body with `structures` in place of `structure`; None: it is of one.

    What is asked besides stands in all of them, so that all at once could be a thousand times as large as the body.
    What is no JSON is left to ``read_json``.

    Raises:
        InputError: no structure, too many, or one beside them.
    """
    if b'"structures"' not in content:
        return None
    try:
        body = from_json(content.removeprefix(codecs.BOM_UTF8))
    except ValueError:
        return None
    if not isinstance(body, dict) or "structures" not in body:
        return None
    structures = body.pop("structures")
    structures = rows_of(structures) or structures
    if "structure" in body:
        raise InputError("structures: there is a structure, too; give one of them")
    check_number(len(structures) if isinstance(structures, list) else 0)
    return (json.dumps(body | {"structure": one}).encode() for one in structures)


def rows_of(file: Any) -> list[Any] | None:
    """The structures of a file that ASE writes as JSON, a row each; None: it is no such file."""
    if not isinstance(file, dict) or "nextid" not in file or not isinstance(ids := file.get("ids"), list):
        return None
    return [file.get(str(one)) for one in ids]


def check_number(n: int) -> None:
    """Raise InputError if a request has no structure, or too many."""
    if not n:
        raise InputError("structures: give a list of one structure or more")
    if n > MOST_STRUCTURES:
        raise TooLarge(f"structures: {n:,} of them, more than {MOST_STRUCTURES:,}; send them in parts")
