"""What a task asks for, checked against what the cluster has: Ray would wait for ever for what it never gets."""

import os
import sys
from dataclasses import dataclass
from typing import Any

import ray

from ..trainables.memory import host_memory
from .connection import ClusterError

GB = 1e9  # bytes
CONTEXT = 0.5 * GB  # that CUDA takes of a GPU for each process, before its first tensor: assumed, not measured
USABLE = 0.9  # share of a GPU's memory that is counted on: torch's allocator leaves gaps
GPU_UNITS = 10_000  # the smallest share of a GPU that Ray knows is one of so many


def slots(
    cpus: float,
    gpus: float = 0.0,
    at_most: int | None = None,
    *,
    memory: float | None = None,
    what: str = "a trial",
    remedy: str = "lower [resources]",
) -> int:
    """Number of tasks with ``cpus`` CPUs, ``gpus`` of a GPU and ``memory`` [GB] each that fit on the nodes alive.

    ``what`` the tasks are, and the ``remedy`` where none fits, are words of the error.

    Raises:
        ClusterError: not even one fits on any node.
    """
    nodes = _nodes()
    by_cpus = [_fits(r, cpus, gpus) for r in nodes]
    count = sum(min(fitting, _rooms(r, memory)) for fitting, r in zip(by_cpus, nodes, strict=True))
    if count == 0 and any(by_cpus):
        most = max(r.get("memory", 0) for r in nodes) / GB
        raise ClusterError(
            f"a trial asks for {memory:g} GB of memory, but no node has more than {most:.1f} GB beside its CPUs and "
            "GPUs; lower [resources] memory"
        )
    if count == 0:
        have = ", ".join(f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in nodes) or "nothing"
        raise ClusterError(f"{what} asks for {cpus:g} CPUs and {gpus:g} GPUs, but the nodes have {have}; {remedy}")
    return count if at_most is None else min(count, max(at_most, 1))


def most_cpus(cpus: float, gpus: float) -> int:
    """CPUs of the node that has most, among those where ``cpus`` CPUs and ``gpus`` GPUs fit.  Errors as ``slots``."""
    slots(cpus, gpus)
    return max(int(resources.get("CPU", 0)) for resources in _nodes() if _fits(resources, cpus, gpus))


def object_store() -> float:
    """Bytes of the smallest object store of a node."""
    return min(resources.get("object_store_memory", 0.0) for resources in _nodes())


@dataclass(frozen=True)
class MemoryShare:
    """Memory for the data of a trial: so much, or its share of half of the node's, or of its GPU's.

    The other half of a node is for Ray's object store (0.3 by default), networks and their activations.  Shares are of
    what the machine has and not of what is free, so that equal studies stream equally.

    gigabytes: given by the user, 10⁹ bytes each.
    of_node, of_gpu: share of a trial.  Of a GPU's share, what else a training takes there is left out.
    """

    gigabytes: float | None = None
    of_node: float = 1.0
    of_gpu: float = 1.0

    @classmethod
    def of_trials(cls, gigabytes: float | None, cpus: float, gpus: float, concurrent: int) -> "MemoryShare":
        """Of a trial with so many CPUs and GPUs, beside all the others that run on its node at the same time."""
        on_node = min(concurrent, max(_fits(resources, cpus, gpus) for resources in _nodes()))
        return cls(gigabytes, 1 / max(on_node, 1), 1 / trials_on_gpu(gpus) if gpus else 1.0)

    def bytes(self, device: str, beside: float = 0.0) -> float:
        """Of this machine or its GPU.

        Args:
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            beside: bytes that the training takes besides its data.
        """
        if self.gigabytes is not None:
            return GB * self.gigabytes
        if device == "cpu":
            return 0.5 * self.of_node * host_memory()
        import torch

        whole = torch.cuda.get_device_properties(device).total_memory
        return max(USABLE * self.of_gpu * whole - CONTEXT - beside, 0.0)


def use_cpus(cpus: float) -> None:
    """Give a worker as many threads as it has CPUs.

    Libraries that are imported later read the variable.  torch, whose import takes two seconds, is left to the kinds
    that need it.
    """
    from threadpoolctl import threadpool_limits  # its import changes the environment

    threads = max(1, int(cpus))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    threadpool_limits(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def device_of_worker() -> str:
    """Where a worker trains: ``cuda`` if Ray has given it a GPU, or ``cpu``."""
    if not ray.get_gpu_ids():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's own description of each node that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def fraction_of(n: int) -> float:
    """What each of ``n`` trials on a GPU asks for of it; Ray rounds it, so that 7 times 1/7 would be more than one."""
    return GPU_UNITS // n / GPU_UNITS


def trials_on_gpu(fraction: float) -> int:
    """How many trials that ask for a ``fraction`` of a GPU fit on one: a fraction never spans two."""
    return GPU_UNITS // round(GPU_UNITS * fraction)


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in alive_nodes()]


def _rooms(resources: dict[str, float], memory: float | None) -> int:
    return 2**31 if memory is None else int(resources.get("memory", 0) // (memory * GB))


def _fits(resources: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpus = int(resources.get("CPU", 0) // cpus)
    if not gpus:
        return by_cpus
    return min(by_cpus, int(resources.get("GPU", 0)) * trials_on_gpu(gpus))
