"""What a study's result is quoted beside: surrogates of default hyperparameters, judged as the chosen one is."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...searchers.space import Choice, Config, active
from ..ledger.ledger import LedgerTrial
from ..spec import StudySpec
from .conclusion import Conclusion
from .words import reached


def default_config(spec: StudySpec, defaults: Mapping[str, Any]) -> Config:
    """The default of each hyperparameter of the space.

    One without a default of its own follows from the others and is left out; if none has a default, all are in the
    middle of their ranges.

    Args:
        spec: of the study.
        defaults: of all hyperparameters, ``all`` of ``defaults_of`` when the study began.
    """
    there = {n: v for n, v in defaults.items() if v is not None}
    space = {n: values for n, values in spec.space.items() if n in there}
    return active(space, there) or active(spec.space, middle(spec))


def middle(spec: StudySpec) -> Config:
    """The middle of each range, and the first of each choice."""
    return {n: v.values[0] if isinstance(v, Choice) else v.from_unit(0.5) for n, v in spec.space.items()}


def too_costly(spec: StudySpec, trials: Sequence[LedgerTrial], best: LedgerTrial) -> str | None:
    """Why the defaults are not trained, or None: it may not take longer than the search, nor more than its budget.

    Args:
        spec: of the study.
        trials: all of it.
        best: the one chosen; the defaults take as much, times the number of initialisations.
    """
    names = {spec.of_kind.compute.report: "work", "seconds": "seconds"}
    spent = {name: sum(t.result.get(name, 0.0) for t in trials) for name in names}
    needed = {name: spec.initializations * best.result.get(name, 0.0) for name in names}
    for name, limit in names.items() if spec.budget is not None else ():
        most = getattr(spec.budget, limit)
        if most is not None and spent[name] + needed[name] > most:
            return "the budget of the study does not allow it"
    work = spec.of_kind.compute.report
    return "it would take longer than the search" if needed[work] > spent[work] else None


def without_search(spec: StudySpec, conclusion: Conclusion) -> list[list[str]]:
    """What a study says of the surrogates that come without a search, for people: one without training, one with.

    And which one it hands over.
    """
    found = (
        untrained_lines(spec, conclusion.untrained),
        lines(spec, conclusion.defaults),
        handed_over(spec, conclusion),
    )
    return [said for said in found if said]


def result_lines(spec: StudySpec, conclusion: Conclusion | None) -> list[str]:
    """What a study has come to, for people: its accuracy, and what comes without a search; nothing before its end."""
    if conclusion is None:
        return []
    beside = [line for found in without_search(spec, conclusion) for line in ("", *found)]
    return [*spec.of_kind.accuracy(conclusion.accuracy).lines(), *beside]


def handed_over(spec: StudySpec, conclusion: Conclusion) -> list[str]:
    """Which surrogate the study hands over, and why; nothing where there is one only, or where costs count, too."""
    final, value = conclusion.final_value, (conclusion.untrained or {}).get("value")
    if final is None or value is None or len(spec.minimize) > 1:
        return []
    trained, untrained = reached(spec, final), reached(spec, value)
    if conclusion.surrogate == "untrained":
        return [
            f"on the validation data the one without training is better: {untrained}, trial {conclusion.trial}",
            f"{trained} after its final training; so it is the surrogate of this study",
        ]
    return [
        f"on the validation data trial {conclusion.trial} is better after its final training: {trained},",
        f"without training {untrained}; so it is the surrogate of this study",
    ]


def untrained_lines(spec: StudySpec, found: dict[str, Any] | None) -> list[str]:
    """What a study says of ``Conclusion.untrained``, for people."""
    return _lines(spec, found, "no surrogate without training", "without training ({}), judged in the same way:")


def lines(spec: StudySpec, found: dict[str, Any] | None) -> list[str]:
    """What a study says of ``Conclusion.defaults``, for people."""
    about = "without a search, the defaults ({}), trained and judged in the same way:"
    return _lines(spec, found, "the defaults without a search were not trained", about)


def _lines(spec: StudySpec, found: dict[str, Any] | None, left_out: str, about: str) -> list[str]:
    if found is None:
        return []
    if "left_out" in found:
        return [f"{left_out}: {found['left_out']}"]
    return [about.format(found["network"]), *spec.of_kind.accuracy(found["accuracy"]).lines()]
