"""Data that are computed here: a specification, handed to what its kind computes with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cluster.connection import connected, given_address
from ..cluster.tasks import as_done
from ..trainables.data.generating.spec import GenerateError, GenerateSpec, read_values
from ..trainables.data.generating.structures import Planned
from ..trainables.errors import InputError
from ..trainables.kinds import FIRST, KINDS
from .model.calculator import mover
from .model.model import Model
from .progress import Progress, default_progress
from .teaching import lessons_of, said


@dataclass(frozen=True)
class Made:
    """A dataset that was made; ``what`` is in it, and the ids of these."""

    path: Path
    what: str
    ids: tuple[str, ...]


def generate(
    spec: Path,
    destination: Path,
    *,
    select: Model | str | Path | None = None,
    number: int | None = None,
    address: str | None = None,
    without_failed: bool = False,
    progress: Progress | None = None,
) -> list[Made]:
    """Compute what a specification describes, and make datasets of it.

    What is finished is in the folder DESTINATION.runs, and is never computed again; what has failed is.

    Args:
        spec: TOML file; its ``kind`` says of which kind the data are.
        destination: folder of the dataset.
        select: a model; of the training snapshots only those are computed that teach it most.
        number: how many these are.
        address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
        without_failed: make the dataset of what is finished, although some runs have failed.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.

    Raises:
        InputError: the specification cannot be computed, the model cannot select, a program is missing, or runs have
            failed.
    """
    if (select is None) != (number is None):
        raise InputError("give both, a model to select by and a number of snapshots to select")
    progress = progress or default_progress()
    name = read_values(spec).get("kind", FIRST)
    kind = KINDS[name if isinstance(name, str) else str(name)]
    plan = getattr(kind, "generation", None)  # few kinds have it
    with closing(progress):
        if name == FIRST:
            from ..cluster.dft.generate import generate as by_dft

            sets = by_dft(
                GenerateSpec.read(spec),
                destination,
                choose=None if select is None or number is None else _choice(select, number, progress),
                surrogate=mover(progress.say),
                address=address,
                without_failed=without_failed,
                progress=progress,
            )
            return [Made(one.path, "snapshots", tuple(snapshot.id for snapshot in one)) for one in sets]
        if plan is None:
            raise GenerateError(f"{spec}: data of kind '{name}' are not computed here; import them")
        if select is not None:
            raise GenerateError(
                f"{spec}: data of kind '{name}' are selected by their specification; leave out --select"
            )
        generation = plan(spec)
        if given_address(address) is None:
            generation.refuse_missing()
        with ExitStack() as cluster:
            joined = False

            def execute(work: Any, tasks: Any) -> Iterator[tuple[int, Any]]:
                nonlocal joined
                if not joined:
                    cluster.enter_context(connected(address, say=progress.say, remedy="the same command goes on"))
                    joined = True
                yield from as_done(work, tasks, cpus=generation.cpus)

            sets = generation.run(destination, execute, without_failed=without_failed, progress=progress)
        return [Made(one.path, "configurations", one.all.ids) for one in sets]


def _choice(
    select: Model | str | Path, number: int, progress: Progress
) -> Callable[[Sequence[Planned]], Sequence[int]]:
    """Chooses the candidates that teach a model most, and says why."""
    model = select if isinstance(select, Model) else Model.open(select)

    def choose(candidates: Sequence[Planned]) -> list[int]:
        found = lessons_of(model, [one.atoms for one in candidates], number, progress=progress)
        for line in said(found, [f"snapshot {one.id}" for one in candidates]):
            progress.say(line)
        return [one.number for one in found.chosen]

    return choose
