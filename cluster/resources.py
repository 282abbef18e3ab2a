"""What a task asks for, checked against what the cluster has: Ray would wait for ever for what it never gets."""

import ray

from .connection import ClusterError

GB = 1e9  # bytes


def slots(cpus: float, gpus: float = 0.0, at_most: int | None = None, *, memory: float | None = None) -> int:
    """Number of tasks with ``cpus`` CPUs, ``gpus`` GPUs and ``memory`` [GB] each that fit on the nodes that are alive.

    Raises:
        ClusterError: not even one fits on any node.
    """
    by_cpus = [_fits(r, cpus, gpus) for r in _nodes()]
    count = sum(min(fitting, _rooms(r, memory)) for fitting, r in zip(by_cpus, _nodes(), strict=True))
    if count == 0 and any(by_cpus):
        most = max(r.get("memory", 0) for r in _nodes()) / GB
        raise ClusterError(
            f"a trial asks for {memory:g} GB of memory, but no node has more than {most:.1f} GB beside its CPUs and "
            "GPUs; lower [resources] memory"
        )
    if count == 0:
        nodes = ", ".join(f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in _nodes()) or "nothing"
        raise ClusterError(
            f"a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, but the nodes have {nodes}; lower [resources]"
        )
    return count if at_most is None else min(count, max(at_most, 1))


def most_cpus(cpus: float, gpus: float) -> int:
    """CPUs of the node that has most, among those where ``cpus`` CPUs and ``gpus`` GPUs fit.  Errors as ``slots``."""
    slots(cpus, gpus)
    return max(int(resources.get("CPU", 0)) for resources in _nodes() if _fits(resources, cpus, gpus))


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _rooms(resources: dict[str, float], memory: float | None) -> int:
    return 2**31 if memory is None else int(resources.get("memory", 0) // (memory * GB))


def _fits(resources: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpus = int(resources.get("CPU", 0) // cpus)
    if not gpus:
        return by_cpus
    free = int(resources.get("GPU", 0))
    # A fraction never spans two GPUs; 1 / 0.2 must not come out as 4.
    return min(by_cpus, int(free // gpus) if gpus >= 1 else free * int(1 / gpus + 1e-9))
