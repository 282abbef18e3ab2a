"""What is asked of an alloy surrogate over the web: a structure, or the elements on the sites of its lattice."""

from collections.abc import Mapping
from typing import Any

import ase
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from ..json_body import JSON, read_json
from ..ldos.request import FORMATS as FORMATS
from ..ldos.request import XYZ as XYZ
from ..ldos.request import Structure
from ..ldos.request import parse as parse_text


class ConfigurationRequest(BaseModel):
    """A configuration to predict."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    structure: Structure | str = Field(
        description="atoms on the sites of the lattice; or the elements on its sites in their order, as 'Cu Au Au ...' "
        "or as digits, 0 for the first element and 1 for the second: '0110...'"
    )


def parse(content: bytes, content_type: str, query: Mapping[str, Any]) -> ase.Atoms | str:
    """The structure of a request; arguments and errors as ``Surrogate.parse``."""
    if content_type != JSON:
        if query:
            raise InputError(f"{', '.join(query)}: this model can be asked for nothing but a structure")
        return parse_text(content, content_type, query)[0]
    structure = read_json(ConfigurationRequest, content, query).structure
    return structure if isinstance(structure, str) else structure.atoms()
