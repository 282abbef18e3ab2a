"""Data that are computed here: a specification, handed to what its kind computes with."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cluster.connection import connected, given_address
from ..cluster.tasks import as_done
from ..trainables.data.generating.spec import GenerateError, GenerateSpec, read_values
from ..trainables.kinds import FIRST, KINDS
from .progress import Progress, default_progress


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
    address: str | None = None,
    without_failed: bool = False,
    progress: Progress | None = None,
) -> list[Made]:
    """Compute what a specification describes, and make datasets of it.

    What is finished is in the folder DESTINATION.runs, and is never computed again; what has failed is.

    Args:
        spec: TOML file; its ``kind`` says of which kind the data are.
        destination: folder of the dataset.
        address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
        without_failed: make the dataset of what is finished, although some runs have failed.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.

    Raises:
        InputError: the specification cannot be computed, a program is missing, or runs have failed.
    """
    progress = progress or default_progress()
    name = read_values(spec).get("kind", FIRST)
    kind = KINDS[name if isinstance(name, str) else str(name)]
    plan = getattr(kind, "generation", None)  # few kinds have it
    with closing(progress):
        if name == FIRST:
            from ..cluster.dft.generate import generate as by_dft

            sets = by_dft(
                GenerateSpec.read(spec), destination, address=address, without_failed=without_failed, progress=progress
            )
            return [Made(one.path, "snapshots", tuple(snapshot.id for snapshot in one)) for one in sets]
        if plan is None:
            raise GenerateError(f"{spec}: data of kind '{name}' are not computed here; import them")
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
