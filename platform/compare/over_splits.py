"""The best config that a comparison found, and what its kind sets beside it, repeated over many splits of the data."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cluster.tasks import as_done
from ...trainables.errors import InputError
from ...trainables.files import read_text, write_text
from ..methods import method_of
from ..progress import Progress
from ..spec import SpecError, StudySpec
from ..version import __version__
from .outcome import Outcome

STORED = "splits.json"  # results by the hash of their task, and of the version that made them


def refuse_splits(spec: StudySpec) -> None:
    """Raises SpecError: the kind of the study repeats nothing over splits."""
    if spec.compare.splits is not None and not hasattr(spec.of_kind, "over_splits"):  # few kinds have it
        raise SpecError(f"[compare]: surrogates of kind '{spec.kind}' are not repeated over splits; leave splits out")


def planned(spec: StudySpec, data: Any, outcomes: Sequence[Outcome]) -> Any:
    """The kind's tasks; None where no splits are asked for.  Raises InputError: a split is not possible."""
    if spec.compare.splits is None:
        return None
    return spec.of_kind.over_splits(  # type: ignore[attr-defined]
        data, spec.settings, spec.config, _best(spec, outcomes), spec.compare.splits, spec.compare.curve
    )


def over_splits(spec: StudySpec, data: Any, outcomes: Sequence[Outcome], folder: Path, progress: Progress) -> Any:
    """Repeat them, each model a task on the cluster.  What was done before is read from the folder.

    Returns:
        What the kind makes of it, with ``tables`` and ``draw``; None where no splits are asked for.

    Raises:
        InputError: a split or a task is not possible, or a worker died.
    """
    plan = planned(spec, data, outcomes)
    if plan is None:
        return None
    known = _known(folder / STORED)
    keys = [hashlib.sha256(f"{__version__} {data.fingerprint} {task.key}".encode()).hexdigest() for task in plan.tasks]
    missing = [n for n, key in enumerate(keys) if key not in known]
    done = len(keys) - len(missing)
    progress.update("splits", done, len(keys))
    for number, result in as_done(plan.work, [plan.tasks[n] for n in missing]):
        known[keys[missing[number]]] = result
        write_text(folder / STORED, json.dumps(known))
        done += 1
        progress.update("splits", done, len(keys), plan.tasks[missing[number]].name)
    progress.end("splits")
    return plan.found([known[key] for key in keys])


def _best(spec: StudySpec, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The config that is best on the validation data, by the name of the method that found it; none if none ended.

    Of several objectives it is that of a method that minimises all of them, if there is one.
    """
    ended = [(o.value, o) for o in outcomes if o.value is not None and o.failure is None]
    if len(spec.minimize) > 1:
        ended = [one for one in ended if method_of(spec.of_kind, one[1].method).several] or ended
    return {o.method: spec.full(o.config) for _, o in sorted(ended, key=lambda pair: pair[0])[:1]}


def _known(path: Path) -> dict[str, Any]:
    """Results that are stored; none where there is no such file, or it is damaged and is made anew."""
    try:
        found = json.loads(read_text(path))
    except (FileNotFoundError, InputError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
