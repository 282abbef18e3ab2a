"""Whether every node of a cluster can take part in a study, asked before it starts: one small task a node."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from packaging.requirements import Requirement
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..trainables.errors import one_line

PATIENCE = 300.0  # seconds for a node to answer: its first process loads the package


@dataclass(frozen=True)
class NodeReport:
    """What a node says: what is wrong there in one line, and whether it sees the file it was asked for."""

    node: str
    problem: str | None
    sees_file: bool


def unmet(requirements: Sequence[str]) -> str | None:
    """What this Python environment lacks of requirements like ``ray[tune]>=2.60,<3``, in one line; None if nothing."""
    missing = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"'{requirement.name}{requirement.specifier}' (not there)")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            missing.append(f"'{requirement.name}{requirement.specifier}' ({found} is there)")
    if not missing:
        return None
    return f"the Python environment lacks {', '.join(missing)}; install it there, on all nodes"


def check_dataset(location: str) -> str:
    """The fingerprint of a dataset, opened on this node.  Raises DatasetError where it cannot be."""
    from ..trainables.data.dataset import Dataset

    return Dataset.open(location).fingerprint


def ask_nodes(requirements: Sequence[str], dataset: str, fingerprint: str, file: Path) -> list[NodeReport]:
    """Ask every node that is alive.

    Args:
        requirements: distributions that its Python environment must have.
        dataset: folder or URL that it must be able to open.
        fingerprint: of that dataset.
        file: to be looked for there.
    """
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = _ask.options(scheduling_strategy=there)
            asked[node["NodeManagerAddress"], node["NodeID"]] = task.remote(
                list(requirements), dataset, fingerprint, file
            )
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=PATIENCE)
    reports = []
    for (address, _), ref in asked.items():
        try:
            reports.append(NodeReport(address, *ray.get(ref, timeout=0)))
        except GetTimeoutError:
            ray.cancel(ref, force=True)
            reports.append(NodeReport(address, f"gave no answer within {PATIENCE:.0f} s; look at its logs", False))
        except RayError as error:
            cause = one_line(getattr(error, "cause", None) or error, 300)
            reports.append(NodeReport(address, f"cannot run dftune: {cause}", False))
    return reports


@ray.remote(num_cpus=0, max_retries=0)
def _ask(requirements: list[str], dataset: str, fingerprint: str, file: Path) -> tuple[str | None, bool]:
    from ..trainables.errors import InputError

    problem = unmet(requirements)
    if problem is None:
        try:
            if check_dataset(dataset) != fingerprint:
                problem = f"{dataset}: is another dataset there than on the node of the study; give each the same one"
        except InputError as error:
            problem = str(error)
    return problem, file.exists()
