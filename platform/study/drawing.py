"""The figures of a study, in its folder or elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..figures.draw import Drawn, Form, draw
from .defaults import result_lines
from .errors import StudyError
from .words import failures

if TYPE_CHECKING:
    from .study import Study


def draw_study(study: "Study", output: Path | None, form: Form) -> Drawn:
    """Draw the figures of its trials so far; arguments and errors as ``Study.plot``."""
    trials = study.trials()
    if output is None and not study.folder.is_dir():
        raise StudyError(f"{study.folder}: the folder of the study is not here; say where to draw with --output")
    folder = study.folder / "figures" if output is None else output
    drawn = draw(trials, study.spec, folder, form, result=result_lines(study.spec, study.conclusion()))
    if not drawn.paths:
        raise StudyError(f"study '{study.spec.name}' has nothing to draw: no trial has a value yet {failures(trials)}")
    return drawn
