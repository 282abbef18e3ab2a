"""Several numbers of trials against each other, with the trials that no other trial beats in all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ..ledger.trial import LedgerTrial
from ..spec import StudySpec
from .trials import NotDrawn, pareto_front


@dataclass(frozen=True)
class Values:
    """Numbers of the finished trials.

    labels: of each number, with its unit.
    points: (trial, its numbers); front: whether no other trial beats it in all of them, in the same order.
    """

    labels: list[str]
    points: list[tuple[LedgerTrial, tuple[float, ...]]]
    front: list[bool]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The numbers of each panel: across, up."""
        return list(combinations(range(len(self.labels)), 2))


def pareto(trials: Sequence[LedgerTrial], spec: StudySpec) -> Values:
    """All that the study minimises; where that is one value, it and the first cost that its kind has."""
    others = spec.other_measures or list(spec.of_kind.costs.values())[:1]
    if not others:
        raise NotDrawn("surrogates of this kind report no cost of use")
    done = [t for t in trials if t.value is not None]
    known = [t for t in done if all(measure.report in t.result for measure in others)]
    if not known:
        raise NotDrawn(f"no finished trial has its {others[0].report} recorded")
    rows = [(*(float(t.result[measure.report]) for measure in others), float(t.value or 0.0)) for t in known]
    return _values([measure.axis for measure in (*others, spec.value_measure)], known, rows)


def values(trials: Sequence[LedgerTrial], spec: StudySpec) -> Values:
    """The values of the kind but its first, which stands for all of them; without those equal in all trials."""
    measures = list(spec.of_kind.values.values())[1:]
    if {measure.report for measure in measures} == {m.report for m in (spec.value_measure, *spec.other_measures)}:
        raise NotDrawn("they are what the study minimises, and stand in the figure of the Pareto front")
    done = [t for t in trials if t.value is not None]
    labels, columns = [], []
    for measure in measures:
        column = [float(t.result.get(measure.report, math.nan)) for t in done]
        if len(set(column)) > 1 and all(map(math.isfinite, column)):
            labels.append(measure.axis)
            columns.append(column)
    if len(columns) < 2:
        raise NotDrawn("fewer than two values besides the first differ between trials")
    return _values(labels, done, list(zip(*columns, strict=True)))


def _values(labels: list[str], trials: Sequence[LedgerTrial], rows: Sequence[tuple[float, ...]]) -> Values:
    front = set(pareto_front(rows))
    return Values(labels, list(zip(trials, rows, strict=True)), [n in front for n in range(len(rows))])
