"""Candidates by molecular dynamics with the newest surrogate.  Å, fs, K."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import ase.io

from ...trainables.data.generating.structures import Planned
from ...trainables.errors import InputError
from ...trainables.files import atomic
from ...trainables.progress import Progress, Within
from ...trainables.structures import check_distances, read_structures
from ..md.dynamics import resume_md, run_md
from ..md.folder import TRAJECTORY
from ..model.model import Model

PICKED = "picked.xyz"
FRAMES = 20  # of a run


@dataclass(frozen=True)
class Dynamics:
    """A run at a temperature of the atoms [K], of so many steps of 1 fs, which gives 20 candidates."""

    temperature: float
    steps: int = 200


def moved(model: Model, start: Planned, place: Path, number: int, asked: Dynamics, progress: Progress) -> list[Planned]:
    """Structures that a surrogate moves to from one of the training, for a round.

    A run that a surrogate of few snapshots cannot go on with is no error: what it came to is worth knowing.

    Args:
        model: the surrogate.
        start: where it begins.
        place: folder of the round.
        number: of the round, and seed of the velocities.
        asked: temperature and length.
        progress: how far it is.

    Raises:
        InputError: the run cannot begin.
    """
    run, told = place / "md", Within(progress)
    try:
        if run.exists():
            resume_md(run, model=model, progress=told)
        else:
            progress.say(f"molecular dynamics at {asked.temperature:g} K from {start.id}")
            every = max(1, asked.steps // FRAMES)
            temperatures = {"temperature": asked.temperature, "electronic_temperature": start.temperature}
            how: dict[str, Any] = {**temperatures, "steps": asked.steps, "interval": every, "seed": number}
            run_md(model, start.atoms, run, progress=told, **how)
    except InputError as error:
        if not (run / TRAJECTORY).is_file():
            raise
        progress.say(f"molecular dynamics ended early: {error}")
    found = []
    for frame, atoms in enumerate(read_structures(run / TRAJECTORY, ":")):
        bare = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        try:
            check_distances(bare)
        except InputError:
            continue  # no DFT would help
        if frame > 0:  # the first one is the start, which is known
            found.append(replace(start, id=f"md-{number:03d}-{frame:03d}", atoms=bare))
    return found


def write_picked(place: Path, some: Sequence[Planned]) -> None:
    """Keep structures that no specification has, before their DFT.  Raises InputError."""
    if not some:
        return
    with atomic(place / PICKED) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for one in some:
            atoms = one.atoms.copy()
            atoms.info = {"id": one.id, "group": one.group, "ideal": one.ideal, "temperature": one.temperature}
            ase.io.write(stream, atoms, format="extxyz")


def read_picked(place: Path) -> list[Planned]:
    """What was kept of a round.  Raises InputError: the file is damaged."""
    if not (place / PICKED).exists():
        return []
    found = []
    for atoms in read_structures(place / PICKED, ":"):
        about, bare = atoms.info, ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        numbers = float(about["ideal"]), float(about["temperature"])
        found.append(Planned(str(about["id"]), "train", str(about["group"]), bare, *numbers))
    return found
