"""The order of a submitted study, and the mark that divides its output.  This needs nothing but Python itself."""

import json
from dataclasses import asdict, dataclass
from typing import Any

MARK = "\x1e"  # ASCII's record separator


@dataclass(frozen=True)
class Order:
    """A study to run, as plain values in a JSON file.

    spec: of the study, its dataset a URL or an absolute path on the cluster.
    studies: folder of the studies there, absolute.
    requirements: distributions that dftune needs.
    as_json: the form of the result.
    """

    spec: dict[str, Any]
    studies: str
    requirements: list[str]
    as_json: bool

    def to_json(self) -> str:
        """As the file holds it; equal orders are equal texts."""
        return json.dumps(asdict(self), sort_keys=True)
