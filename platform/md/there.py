"""Molecular dynamics on a Ray cluster."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase

from ...cluster.connection import connected
from ...cluster.resources import use_cpus
from ...cluster.tasks import as_done
from ...trainables.errors import InputError
from ...trainables.progress import Progress, Silent
from ..model.model import Model
from ..progress import default_progress
from .dynamics import STAGE, MdResult, first_atoms, resume_md, run_md
from .folder import THERMO, held, new_place
from .settings import MdSettings, OnExtrapolation

TAIL = 2**13  # bytes of the table that have its last row


def run_there(
    model: str | Path,
    structure: Any,
    path: str | Path,
    *,
    address: str,
    repeat: tuple[int, int, int] = (1, 1, 1),
    progress: Progress | None = None,
    **settings: Any,
) -> MdResult:
    """As ``run_md``, as a task of one CPU of a Ray cluster.  If its node is lost, another one goes on.

    Args:
        model: folder, which every node must see, as ``path``.
        structure, path, repeat, settings: as in ``run_md``.
        address: of the cluster.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.

    Raises:
        InputError: as ``run_md``, or the cluster is not there.
    """
    path = new_place(path)
    asked, opened = MdSettings.of(**settings), Model.open(model)
    atoms = first_atoms(opened, structure)
    task = _Run(str(Path(model).expanduser().absolute()), atoms, path, repeat, settings)
    return _there(_run, task, asked.steps, address, progress)


def resume_there(
    path: str | Path,
    *,
    address: str,
    model: str | Path | None = None,
    steps: int | None = None,
    on_extrapolation: OnExtrapolation | None = None,
    progress: Progress | None = None,
) -> MdResult:
    """As ``resume_md``, as a task as above; arguments and errors as there."""
    path = Path(path).expanduser().absolute()
    with held(path) as folder:
        of = steps or folder.run.settings.steps
    place = None if model is None else str(Path(model).expanduser().absolute())
    return _there(_resume, _Resumed(path, place, steps, on_extrapolation), of, address, progress)


def _there(
    work: Callable[[Any], MdResult],
    task: "_Run | _Resumed",
    steps: int,
    address: str,
    progress: Progress | None,
) -> MdResult:
    progress = progress or default_progress()

    def show() -> None:
        try:
            with (task.path / THERMO).open("rb") as table:
                table.seek(max(0, table.seek(0, os.SEEK_END) - TAIL))
                *_, last, _ = table.read().split(b"\n")  # behind it is a row half written, or nothing
        except (OSError, ValueError):
            return  # it has not begun
        if (step := last.split(b",")[0]).isdigit():  # not the names of the columns
            progress.update(STAGE, int(step), steps)

    with closing(progress), connected(address, say=progress.say):
        progress.say(f"the run is on the cluster; its steps are in {task.path}")
        ((_, result),) = as_done(work, [task], meanwhile=show)
        progress.end(STAGE)
    if not task.path.is_dir():
        raise InputError(f"{task.path}: the run is done, but its folder is not here; give one that every node sees")
    return result


@dataclass(frozen=True)
class _Run:
    model: str
    atoms: ase.Atoms
    path: Path
    repeat: tuple[int, int, int]
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Resumed:
    path: Path
    model: str | None
    steps: int | None
    on_extrapolation: OnExtrapolation | None


def _run(task: _Run) -> MdResult:
    """Do the run, or what a lost worker has left of it."""
    use_cpus(1)
    if task.path.exists():
        return resume_md(task.path, progress=Silent())
    return run_md(task.model, task.atoms, task.path, repeat=task.repeat, progress=Silent(), **task.settings)


def _resume(task: _Resumed) -> MdResult:
    use_cpus(1)
    return resume_md(
        task.path,
        model=task.model,
        steps=task.steps,
        on_extrapolation=task.on_extrapolation,
        progress=Silent(),
    )
