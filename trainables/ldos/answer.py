"""The JSON of a prediction, as a model: what the endpoint says of its answers."""

from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model

from ..surrogate import Answer
from .prediction import LEFT_OUT, UNITS, Prediction

# Arrays of these names are lists of lists; all others are lists of numbers.
MATRICES = {"forces", "forces_std", "stress", "stress_std"}


def _plain(name: str, hint: Any) -> Any:
    """The type that a field has in JSON."""
    if hint == NDArray[np.float64]:
        return list[float]
    if hint == NDArray[np.float64] | None:
        return list[list[float]] | None if name in MATRICES else list[float] | None
    return hint


def _description(name: str) -> str:
    """What a field is, and its unit."""
    what = "spread of the model's trainings, no error bar " if name == "std" or name.endswith("_std") else ""
    return what + (f"[{UNITS[name]}]" if name in UNITS else "")


def _answer() -> type[Answer]:
    hints = get_type_hints(Prediction)
    found: dict[str, Any] = {
        f.name: (_plain(f.name, hints[f.name]), Field(description=_description(f.name)))
        for f in fields(Prediction)
        if f.name not in LEFT_OUT
    }
    found["spread_of"] = (str, Field(description="what std and all *_std are, such as: spread of 5 trainings"))
    estimated = (
        "energy -> its estimated error, calibrated on validation snapshots [eV]; {}: not known. If expected_errors is "
        "unknown, errors may be far larger"
    )
    found["estimated_errors"] = (dict[str, float], Field(description=estimated))
    of_forces = "estimated errors of the forces [eV/Å]; null: not known, or their spread not asked for"
    found["forces_error"] = (list[list[float]] | None, Field(description=of_forces))
    found["dos_error"] = (list[float] | None, Field(description="estimated errors of the DOS [1/eV]; null: not known"))
    found["expected_errors"] = (str, Field(description="what is known of the training says of the errors"))
    found["warnings"] = (list[str], Field(description="reasons to trust the numbers less"))
    return create_model("PredictAnswer", __base__=Answer, __doc__="What is predicted of a structure.", **found)


PredictAnswer = _answer()
