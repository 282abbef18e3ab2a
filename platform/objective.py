"""What a study minimises: a value of its kind, or a weighted sum of several, as one text."""

import math
import re

from ..trainables.errors import did_you_mean
from ..trainables.kind import Kind, Measure

WEIGHTED = "weighted_value"  # in a trial's report, where several values are minimised
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


def measure_of(minimize: str, kind: Kind) -> Measure:
    """What is minimised, as trials report it."""
    if minimize in kind.values:
        return kind.values[minimize]
    return Measure(WEIGHTED, minimize)


def report_weights(minimize: str, kind: Kind) -> dict[str, float]:
    """Names in a trial's report, and their weights in what it minimises; none where that is a value by itself."""
    if minimize in kind.values:
        return {}
    return {kind.values[name].report: weight for name, weight in weights_of(minimize, kind).items()}
