"""A surrogate without a study: the one that its kind makes without training, in one step."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import ray

from ...cluster.connection import connected
from ...cluster.trials.gpu_packing import place_trials
from ...cluster.trials.publish import published
from ...trainables.data.location import absolute
from ...trainables.errors import one_line
from ...trainables.files import make_room_for
from ...trainables.progress import Within
from ..model.model import Model
from ..progress import Progress, default_progress
from ..spec import UNTRAINED, StudySpec
from .defaults import middle
from .errors import StudyError
from .suited import suited
from .trainer import Trainer, model_of


def fit(
    dataset: str | Path,
    output: str | Path,
    *,
    address: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Model:
    """Make a surrogate of a dataset without training and without a search, judge it, and save it.

    Args:
        dataset: folder or URL.
        output: folder to write the model to.
        address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.
        **settings: further keys of a study file: config, descriptors, initializations, seed, resources.

    Raises:
        SpecError: a setting is unknown or wrong.
        StudyError: the kind has no surrogate without training, or it cannot be made of these data.
        InputError: dataset, cluster or disk do not allow it, or the folder exists.
    """
    output, progress = Path(output).expanduser().absolute(), progress or default_progress()
    make_room_for(output)
    spec = StudySpec.of({"name": "fit", "dataset": absolute(dataset), **settings, "method": UNTRAINED})
    kind, resources = spec.of_kind, spec.resources
    data = kind.open(spec.dataset)
    spec, lines = suited(spec, data)
    config = spec.full(middle(spec))  # the only one of its space
    spec.refuse(data)
    sizes, started = kind.sizes(data, spec.settings), time.perf_counter()
    for line in [f"dataset {data.location}: {config}, without training", *lines]:
        progress.say(line)
    with closing(progress), connected(address, say=progress.say, log=output.with_name(f"{output.name}.ray.log")):
        need = kind.memory(config, sizes, spec.initializations)
        placed = place_trials(resources.gpus, resources.cpus, resources.memory, 1, need, str(config))
        with (
            published(kind, data, spec.settings, Within(progress)) as where,
            Trainer(spec, where, sizes, gpus=1 if placed.gpus else 0, progress=progress) as train,
        ):
            progress.say(f"data are ready after {time.perf_counter() - started:.1f} s")
            try:
                found = train(config, "fit")
            except ray.exceptions.RayError as error:
                raise StudyError(one_line(getattr(error, "cause", None) or error, 300)) from error
            progress.say(f"fitted and judged in {train.seconds['fit']:.1f} s")
    model = model_of(spec, data, config, found)
    model.save(output)
    return model
