"""The files of a study's figures: a PNG file each, and one page with all of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..ledger.trial import LedgerTrial
from ..spec import StudySpec
from .slots import slots
from .trials import NotDrawn, compute, curves, history, importance, parallel, scores, valued
from .values import pareto, values

Form = Literal["png", "html", "both"]


@dataclass(frozen=True)
class Described:
    """A figure that a study can have.

    Args:
        prepare: turns trials into the numbers to draw.  Raises NotDrawn.
        title: its heading.
        caption: what to see in it.
    """

    prepare: Callable[[Sequence[LedgerTrial], StudySpec], Any]
    title: str
    caption: str


FIGURES: dict[str, Described] = {
    "history": Described(history, "History", "The value of each trial in the order in which they were proposed."),
    "compute": Described(
        compute,
        "Value against compute",
        "Trials in the order in which they ended.  Only training counts; scores and preparation of the data do not.",
    ),
    "curves": Described(
        curves,
        "Learning curves",
        "The value of each trial by its epochs, as far as it was recorded; the best trial stands out.",
    ),
    "score": Described(
        scores,
        "Score against value",
        "Kendall's τ is 1 where a higher score always meant a lower value; in brackets is its standard error under no "
        "correlation.",
    ),
    "importance": Described(
        importance,
        "Importance of the hyperparameters",
        "How the best trials differ from all (PED-ANOVA), as shares of one; lines: two thirds of resampled trials.",
    ),
    "parallel": Described(
        parallel,
        "Configs side by side",
        "A line is a finished trial, the darker the better.  Drag along axes to select lines, drag names to move axes.",
    ),
    "pareto": Described(
        pareto,
        "What is minimised, or the value against the cost of use",
        "On the Pareto front are the trials that no other trial beats in all of it.",
    ),
    "values": Described(
        values,
        "Values against each other",
        "No trial is better in all values than one of those that stand out: the Pareto front of all values together.",
    ),
    "slots": Described(
        slots,
        "Slots over time",
        "When each trial ran, and how many at once.  A dotted line stands for a time in which the study was stopped.",
    ),
}


@dataclass(frozen=True)
class Drawn:
    """What was drawn: the files, and of each figure left out the reason."""

    paths: list[Path]
    left_out: dict[str, str]


def prepared(
    trials: Sequence[LedgerTrial], spec: StudySpec, names: Iterable[str] = tuple(FIGURES)
) -> tuple[dict[str, Any], dict[str, str]]:
    """The numbers that figures show, by name; and of those that make no sense for these trials the reason."""
    shown: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            if not valued(trials, spec):
                raise NotDrawn("no trial has a value yet")
            shown[name] = FIGURES[name].prepare(trials, spec)
        except NotDrawn as reason:
            left_out[name] = str(reason)
    return shown, left_out


def draw(
    trials: Sequence[LedgerTrial],
    spec: StudySpec,
    folder: Path,
    form: Form = "both",
    names: Iterable[str] = tuple(FIGURES),
    result: Sequence[str] = (),
) -> Drawn:
    """Draw figures of a study: NAME.png each, and ``plots.html`` with all of them.

    Args:
        trials: of the study, in any state.
        spec: of the study.
        folder: to write to, made where missing.
        form: which files.
        names: of the figures, of ``FIGURES``.
        result: what an ended study has come to, in lines for people.

    Raises:
        InputError: the folder cannot be written.
    """
    shown, left_out = prepared(trials, spec, names)
    paths: list[Path] = []
    if form != "html":
        from ...trainables.drawing import save
        from .png import PNG

        for name, numbers in shown.items():
            paths.append(folder / f"{name}.png")
            save(PNG[name](numbers, spec.value_measure.axis), paths[-1])
    if form != "png" and shown:
        from .page import Section, write_page

        sections = [
            Section(name, figure.title, figure.caption, shown.get(name), left_out.get(name, ""))
            for name, figure in FIGURES.items()
            if name in shown or name in left_out
        ]
        paths.append(folder / "plots.html")
        write_page(sections, trials, spec, paths[-1], result)
    return Drawn(paths, left_out)
