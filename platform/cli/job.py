"""What a submitted study runs on the cluster, as ``python -m dftune.platform.cli.job ORDER``: checks, then the study.

``submit/submission.py`` follows its output, which consists of parts with MARK between them: what Ray says, the checks,
the study's progress, its result.
"""

import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..submit.order import MARK, Order

if TYPE_CHECKING:
    from ..study.study import Study


def main(path: str) -> int:
    """Check the cluster, and run or resume the study that is ordered in the file ``path``.  Returns the exit code."""
    order = Order(**json.loads(Path(path).read_text(encoding="utf-8")))
    print(MARK, end="", flush=True)
    if sys.version_info < (3, 11):  # noqa: UP036  (the cluster's Python, not the one that dftune is installed in)
        return _failed(f"Python {sys.version.split()[0]} runs on the cluster; dftune needs 3.11 or later")
    try:
        from ...cluster.node_check import unmet
    except ImportError as error:
        return _failed(f"the Python environment of the cluster cannot run dftune: {error}; install its dependencies")
    if (problem := unmet(order.requirements)) is not None:
        return _failed(f"on the cluster, {problem}")
    from ..bugs import last_words

    try:
        _run(order)
    except Exception as error:
        return _failed(last_words(error, Path(order.studies) / str(order.spec["name"])))
    return 0


def _run(order: Order) -> None:
    from ...cluster.connection import connected
    from ..progress import for_terminal
    from ..spec import StudySpec
    from ..study.study import Study
    from .show_study import show_conclusion

    ledger = os.environ.get("DFTUNE_LEDGER")
    study = Study.from_spec(StudySpec.of(order.spec), order.studies, ledger)
    progress = for_terminal()
    with connected():
        for note in _check(study, ledger, order.requirements):
            progress.say(note)
        print(MARK, end="", flush=True)
        conclusion = study.resume(progress=progress) if study.begun else study.run(progress=progress)
    print(MARK, end="", flush=True)
    show_conclusion(study, conclusion, order.as_json)


def _check(study: "Study", ledger: str | None, requirements: list[str]) -> list[str]:
    """Check all that would make the study fail on this cluster.  Returns notes on what may surprise."""
    from ...cluster.node_check import ask_nodes, check_dataset
    from ...cluster.resources import slots
    from ...trainables.errors import DatasetError, InputError
    from ..spec import SpecError
    from ..study.errors import StudyError
    from ..study.study import Study

    spec, resources = study.spec, study.spec.resources
    remedy = "if it lies elsewhere on the cluster, submit with --dataset PATH_OR_URL"
    try:
        fingerprint = check_dataset(spec.dataset)
    except DatasetError as error:
        raise DatasetError(f"on the cluster, {error}; {remedy}") from error
    gpus = 0.0 if resources.gpus == "auto" else resources.gpus
    slots(resources.cpus, gpus, resources.concurrent, memory=resources.memory)
    if study.begun:
        begun = Study.open(spec.name, study.folder.parent, ledger)
        before, now = (s.model_dump(mode="json") for s in (begun.spec, spec))
        if changed := [key for key in now if now[key] != before[key]]:
            raise SpecError(
                f"study '{spec.name}' has begun there with {changed[0]} = {before[changed[0]]}, and not "
                f"{now[changed[0]]}; submit it as it was, or under another name"
            )
    probe = study.folder.parent / f".seen-{secrets.token_hex(4)}"
    try:
        study.folder.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise StudyError(
            f"on the cluster, {study.folder.parent} cannot be written ({error.strerror}); submit with --studies "
            "FOLDER, a folder there"
        ) from error
    try:
        reports = ask_nodes(requirements, spec.dataset, fingerprint, probe)
    finally:
        probe.unlink(missing_ok=True)
    wrong = [r for r in reports if r.problem is not None]
    if wrong:
        others = f" (and {len(wrong) - 1} more nodes)" if len(wrong) > 1 else ""
        raise InputError(f"node {wrong[0].node}{others}: {wrong[0].problem}; {remedy}")
    blind = sum(not r.sees_file for r in reports)
    notes = [f"checked {len(reports)} node{'s' * (len(reports) > 1)}: environment, dataset, resources, studies folder"]
    if blind:
        if spec.scheduler is not None and spec.scheduler.type == "hyperband":
            raise StudyError(
                f"{blind} of {len(reports)} nodes do not see {study.folder.parent}, where hyperband keeps checkpoints; "
                "submit with --studies on storage that all share, or take another scheduler"
            )
        notes.append(
            f"{blind} of {len(reports)} nodes do not see {study.folder.parent}: what the study writes stays on the "
            "node that it runs on, and is lost with it"
        )
    return notes


def _failed(text: str) -> int:
    print(f"Error: {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
