"""Where order is lost: simulations of what a dataset describes, on a cluster."""

from contextlib import closing
from pathlib import Path
from typing import Any

from ..cluster.connection import connected
from ..cluster.tasks import as_done
from ..trainables.data.location import absolute
from ..trainables.errors import InputError
from ..trainables.kinds import kind_at
from .model.model import Model
from .progress import Progress, default_progress


def transition(
    dataset: str | Path,
    *,
    model: str | Path | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    **asked: Any,
) -> Any:
    """The temperature at which the order of what a dataset describes is lost, with its uncertainty.

    Args:
        dataset: folder.
        model: folder of a model, whose networks give the energies; by default the kind fits a model to the data.
        address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.
        **asked: as the kind of the dataset takes it.

    Returns:
        What the kind finds; it has ``lines``, ``to_dict`` and ``draw``.

    Raises:
        InputError: dataset, model or cluster do not allow it, the kind knows no order, or no transition is found.
    """
    location, progress = absolute(dataset), progress or default_progress()
    kind = kind_at(location)
    find = getattr(kind, "transition", None)  # few kinds have it
    if find is None:
        raise InputError(f"{dataset}: data of this kind have no order that is lost; give configurations on a lattice")
    data, surrogate = kind.open(location), None
    if model is not None:
        opened = Model.open(model)
        if opened.kind.name != kind.name:
            raise InputError(f"{model}: a model of kind '{opened.kind.name}', and the data are of '{kind.name}'")
        surrogate = opened.surrogate

    def execute(work: Any, tasks: Any) -> Any:
        with connected(address, say=progress.say):
            yield from as_done(work, tasks)

    with closing(progress):
        return find(data, asked, execute, progress, surrogate)
