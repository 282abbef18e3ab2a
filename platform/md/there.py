"""Molecular dynamics on a Ray cluster."""

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
from ...trainables.structures import as_atoms
from ..model.model import Model
from ..progress import default_progress
from .dynamics import STAGE, MdResult, resume_md, run_md
from .folder import THERMO, held
from .settings import MdSettings, OnExtrapolation


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
    path = Path(path).expanduser().absolute()
    if path.exists():
        raise InputError(f"{path}: exists already; go on with `dftune md resume`, or choose another name")
    asked, opened = MdSettings.of(**settings), Model.open(model)
    atoms = opened.read(Path(structure))[0] if isinstance(structure, str | Path) else as_atoms(structure)
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
            rows = (task.path / THERMO).read_bytes().count(b"\n") - 1  # below the names of the columns
        except OSError:
            return  # it has not begun
        progress.update(STAGE, max(0, rows - 1), steps)  # the first row is that of step 0

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
