"""A weighted sum of what networks report, beside its parts."""

import math
from collections.abc import Mapping
from typing import Any


def with_weighted(report: Mapping[str, Any], name: str, weights: Mapping[str, float]) -> dict[str, Any]:
    """A report with a weighted sum of its numbers under a name; NaN where a part of it is missing, none of nothing."""
    if not weights:
        return dict(report)
    return {**report, name: sum(weight * float(report.get(part, math.nan)) for part, weight in weights.items())}
