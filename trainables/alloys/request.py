"""What is asked of an alloy surrogate over the web: a structure, or the elements on the sites of its lattice."""

from collections.abc import Mapping
from typing import Any

import ase
from pydantic import BaseModel, ConfigDict, Field

from ..errors import Malformed, UnknownFormat
from ..json_body import JSON, read_json
from ..ldos.request import FORMATS as FORMATS
from ..ldos.request import XYZ, Structure
from ..structures import read_extended_xyz


class ConfigurationRequest(BaseModel):
    """A configuration to predict."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    structure: Structure | str = Field(
        description="atoms on the sites of the lattice; or the elements on its sites in their order, as 'Cu Au Au ...' "
        "or as digits, 0 for the first element and 1 for the second: '0110...'"
    )


def parse(content: bytes, content_type: str, query: Mapping[str, Any]) -> ase.Atoms | str:
    """The structure of a request; arguments and errors as ``Surrogate.parse``."""
    if content_type == JSON:
        structure = read_json(ConfigurationRequest, content, query).structure
        return structure if isinstance(structure, str) else structure.atoms()
    if content_type != XYZ:
        raise UnknownFormat(f"content type {content_type or 'missing'}; send {JSON} or {XYZ}")
    try:
        return read_extended_xyz(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Malformed("the extended XYZ is no UTF-8 text") from None
