"""What a task asks for, checked against what the cluster has: Ray would wait for ever for what it never gets."""

from dataclasses import dataclass

import ray

from .connection import ClusterError


@dataclass(frozen=True)
class Slots:
    """How many tasks of one kind run at once, and what each may use."""

    count: int
    cpus: float
    gpus: float


def slots(cpus: float, gpus: float = 0.0, at_most: int | None = None) -> Slots:
    """Number of tasks with ``cpus`` CPUs and ``gpus`` GPUs each that fit on the nodes that are alive.

    Raises:
        ClusterError: not even one fits on any node.
    """
    count = 0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for resources in nodes:
        fits = [int(resources.get("CPU", 0) // cpus)] if cpus else []
        if gpus:
            free = resources.get("GPU", 0)
            fits.append(int(free // gpus) if gpus >= 1 else int(free) * int(1 // gpus))
        count += min(fits) if fits else 0
    if count == 0:
        largest = ", ".join(f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in nodes) or "nothing"
        raise ClusterError(
            f"a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, but the nodes have {largest}; lower [resources]"
        )
    return Slots(count if at_most is None else min(count, max(at_most, 1)), cpus, gpus)


def largest_node_cpus() -> int:
    """CPUs of the node that has most."""
    return max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
