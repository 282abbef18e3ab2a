"""What a study minimises: values of its kind and costs of use beside each other, or a weighted sum of values."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..trainables.errors import did_you_mean
from ..trainables.kind import Kind, Measure

WEIGHTED = "weighted_value"  # in a trial's report, where a sum of values is minimised
GONE = {  # keys of earlier study files
    "cost": "name it in a list, as minimize = ['validation_loss', 'n_parameters']",
    "cost_tolerance": "it is called tolerance now",
}
_TERM = re.compile(r"\s*(?:([+-]?[0-9.][0-9.eE+-]*?)\s*\*?\s*)?([A-Za-z]\w*)\s*")


def weights_of(minimize: str, kind: Kind) -> dict[str, float]:
    """The values that are minimised, each with its weight.

    Args:
        minimize: the name of a value, or a sum as ``free_energy_mae + 50 forces_mae``; the weight of a value is in one
            by its unit.
        kind: of the surrogates.

    Raises:
        ValueError: it is no such sum, or names what is no value of the kind.
    """
    found: dict[str, float] = {}
    for part in re.split(r"(?<![\d.][eE])\+", minimize):
        term = _TERM.fullmatch(part)
        if term is None:
            raise ValueError(
                f"minimize = '{minimize}': '{part.strip()}' is not a value with a weight before it, as '50 forces_mae'"
            )
        name = term[2]
        if name not in kind.values:
            raise ValueError(f"minimize = '{name}' is unknown; {did_you_mean(name, kind.values)}")
        if name in found:
            raise ValueError(f"minimize = '{minimize}': '{name}' stands in it twice")
        try:
            found[name] = 1.0 if term[1] is None else float(term[1])
        except ValueError:
            raise ValueError(f"minimize = '{minimize}': '{term[1]}' is no number") from None
        if not (math.isfinite(found[name]) and found[name] > 0):
            raise ValueError(f"minimize = '{minimize}': the weight of '{name}' must be above 0")
    return found


def in_words_of_today(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a study that may have begun when a second number to minimise was its ``cost``."""
    found = {name: value for name, value in values.items() if name not in GONE}
    if values.get("cost") is not None:
        found |= {"minimize": [values["minimize"], values["cost"]], "tolerance": values["cost_tolerance"]}
    return found


def refuse_objectives(minimize: Sequence[str], kind: Kind) -> None:
    """Raises ValueError: the first is no value or sum of them, a further one no value or cost, or is there twice."""
    known, there = {**kind.values, **kind.costs}, set(weights_of(minimize[0], kind))
    for name in minimize[1:]:
        if name not in known:
            raise ValueError(f"minimize = '{name}' is unknown beside '{minimize[0]}'; {did_you_mean(name, known)}")
        if name in there:
            raise ValueError(f"minimize: '{name}' is minimised already; leave it out of one of the two")
        there.add(name)


def measure_of(minimize: str, kind: Kind) -> Measure:
    """What is minimised, a value, a cost or a sum, as trials report it."""
    return {**kind.costs, **kind.values}.get(minimize) or Measure(WEIGHTED, minimize)


def report_weights(minimize: str, kind: Kind) -> dict[str, float]:
    """Names in a trial's report, and their weights in what it minimises; none where that is a value by itself."""
    if minimize in kind.values:
        return {}
    return {kind.values[name].report: weight for name, weight in weights_of(minimize, kind).items()}
