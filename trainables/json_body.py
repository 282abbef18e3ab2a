"""A request for a prediction as JSON, checked against the model of its body."""

import codecs
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import InputError, Malformed, one_line

JSON = "application/json"
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
