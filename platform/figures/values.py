"""Several values of trials against each other, with the trials that no other trial beats in all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ..ledger.trial import LedgerTrial
from ..spec import StudySpec
from .trials import NotDrawn, pareto_front


@dataclass(frozen=True)
class Values:
    """Values of the finished trials.

    labels: of each value, with its unit.
    points: (trial, its values); front: whether no other trial beats it in all of them, in the same order.
    """

    labels: list[str]
    points: list[tuple[LedgerTrial, tuple[float, ...]]]
    front: list[bool]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The values of each panel: across, up."""
        return list(combinations(range(len(self.labels)), 2))


def values(trials: Sequence[LedgerTrial], spec: StudySpec) -> Values:
    """The values of the kind but its first, which stands for all of them; without those equal in all trials."""
    done = [t for t in trials if t.value is not None]
    labels, columns = [], []
    for measure in list(spec.of_kind.values.values())[1:]:
        column = [float(t.result.get(measure.report, math.nan)) for t in done]
        if len(set(column)) > 1 and all(map(math.isfinite, column)):
            labels.append(measure.axis)
            columns.append(column)
    if len(columns) < 2:
        raise NotDrawn("fewer than two values besides the first differ between trials")
    rows = list(zip(*columns, strict=True))
    front = set(pareto_front(rows))
    return Values(labels, list(zip(done, rows, strict=True)), [n in front for n in range(len(rows))])
