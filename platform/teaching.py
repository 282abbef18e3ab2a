"""What to compute next: structures whose reference would teach a model most."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..trainables.errors import InputError, ModelError
from ..trainables.surrogate import Lessons
from .model.model import Model
from .progress import Progress, default_progress


def lessons_of(
    model: Model | str | Path, structures: Sequence[Any], number: int, *, progress: Progress | None = None
) -> Lessons:
    """Choose structures to compute, the most telling first.

    Args:
        model: what is to learn, or its folder.
        structures: the candidates.
        number: how many to choose.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.

    Raises:
        InputError: no model, or one that these structures are nothing for; no candidate, or too few.
    """
    told = progress or default_progress()
    surrogate = (model if isinstance(model, Model) else Model.open(model)).surrogate
    stages = set[str]()

    def tell(stage: str, done: int, total: int) -> None:
        stages.add(stage)
        told.update(stage, done, total)

    try:
        return surrogate.lessons(structures, number, tell)
    except InputError as error:
        raise ModelError(f"the model cannot choose: {error}") from error
    finally:
        for stage in stages:
            told.end(stage)


def said(lessons: Lessons, names: Sequence[object]) -> list[str]:
    """What was chosen and why, a line each, and what it is worth; ``names`` of the candidates."""
    chosen = [f"{names[one.number]}, {one.n_atoms} atoms: {one.reason}" for one in lessons.chosen]
    return [*chosen, f"{len(chosen)} of {lessons.n} candidates; {lessons.expected}"]
