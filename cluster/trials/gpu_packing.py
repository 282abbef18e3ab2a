"""Where trials run: on CPUs, or how many of them on each GPU, from what a training takes in memory.  Bytes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ...trainables.kind import TrainingMemory
from ..resources import CONTEXT, GB, USABLE, alive_nodes, fraction_of

MOST = 8  # trials on one GPU, which they use in turns: a guess that nobody has measured yet
PROBE_SECONDS = 120.0


@dataclass(frozen=True)
class NodeGpus:
    """The GPUs of a node: how many, beside how many CPUs; the name of the smallest and its bytes.

    ``problem`` says why torch cannot use them; then there is no name, and no bytes.
    """

    count: int
    cpus: float
    name: str = ""
    bytes: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Placement:
    """Where the trials of a study run, and why.

    gpus: share of a GPU that each trial has; 0 on CPUs alone.
    explanation: for people, in one paragraph.
    """

    gpus: float
    explanation: str


def place_trials(
    gpus: float | Literal["auto"], cpus: int, memory: float | None, wanted: int, need: TrainingMemory, network: str
) -> Placement:
    """What ``gpus`` of [resources] comes to on the nodes that are alive.

    Args:
        gpus: share of a GPU of each trial, or "auto".
        cpus: of each trial.
        memory: GB that its data may take at most; None for all there is.
        wanted: most trials that will run at once.
        need: of the largest network that may be trained.
        network: that network, in words.
    """
    if gpus == 0:
        return Placement(0.0, "trials run on CPUs, as [resources] gpus = 0 says")
    found = gpus_of_nodes()
    if gpus == "auto":
        return pack(found, cpus, memory, wanted, need, network)
    count = sum(node.count for node in found)
    text = f"each trial has {gpus:g} of one of {count} GPUs, as [resources] gpus says"
    usable = [node for node in found if not node.problem]
    if usable:
        smallest = min(usable, key=lambda node: node.bytes)
        takes = CONTEXT + need.network + _points(need, memory)
        text += (
            f"; {_amounts(need, memory, network)}, {takes / GB:.2f} GB in all, of {gpus * smallest.bytes / GB:.2f} GB: "
            f"its share of {smallest.name}"
        )
    return Placement(gpus, text + _problems(found, "trials there train on the CPUs"))


def pack(
    found: Sequence[NodeGpus], cpus: int, memory: float | None, wanted: int, need: TrainingMemory, network: str
) -> Placement:
    """The share of a GPU with which most trials run at once, each with all its data on the GPU.

    As many share a GPU as fit into its memory, as have CPUs of their own, as there are trials, and as MOST says.  Where
    not even one holds its data, one has the GPU to itself and streams them.

    Args:
        found: the nodes with GPUs.
        cpus, memory, wanted, need, network: as ``place_trials``.
    """
    usable = [node for node in found if not node.problem]
    if not usable:
        why = "no node has a GPU" if not found else "no node has a GPU that torch can use"
        return Placement(0.0, f"trials run on CPUs: {why}" + _problems(found, ""))
    smallest = min(usable, key=lambda node: node.bytes)
    room = USABLE * smallest.bytes
    takes = CONTEXT + need.network + _points(need, memory)
    by_memory, by_cpus = int(room // takes), int(max(node.cpus // (cpus * node.count) for node in usable))
    count = sum(node.count for node in usable)
    # Ray fills one GPU before it takes the next: fractions finer than needed would leave some without a trial.
    by_trials = math.ceil(wanted / count)
    n = max(1, min(by_memory, by_cpus, by_trials, MOST))
    text = (
        f"{n} on each of {count} GPUs: {_amounts(need, memory, network)}, {takes / GB:.2f} GB in all; {USABLE:.0%} of "
        f"the {smallest.bytes / GB:.1f} GB of {smallest.name} hold {by_memory} such trials, its node has CPUs for "
        f"{by_cpus}, {wanted} trials make {by_trials} for each GPU, and more than {MOST} would wait for each other"
    )
    if by_memory == 0:
        streams = CONTEXT + need.network < room
        text += "; data that do not fit are streamed" if streams else "; so large a network will fail"
    return Placement(fraction_of(n), text + _problems(found, "trials there train on the CPUs"))


def gpus_of_nodes() -> list[NodeGpus]:
    """The nodes with GPUs, and what torch finds there."""
    nodes = [node for node in alive_nodes() if int(node["Resources"].get("GPU", 0))]
    probes = [
        _probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    found = []
    for node, probe in zip(nodes, probes, strict=True):
        try:
            name, size, problem = ray.get(probe, timeout=2 * PROBE_SECONDS)
        except ray.exceptions.RayError as error:  # the node may be gone already
            name, size, problem = "", 0, f"nothing could be asked ({type(error).__name__})"
        resources = node["Resources"]
        found.append(NodeGpus(int(resources["GPU"]), resources.get("CPU", 0), name, size, problem))
    return found


# No share of a GPU is asked for, which another study may have reserved for hours; so Ray hides the GPUs from the task,
# and a process of its own looks.
@ray.remote(num_cpus=0)
def _probe() -> tuple[str, int, str]:
    code = (
        "import json, torch; found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())];"
        "print(json.dumps([torch.__version__, [[p.name, p.total_memory] for p in found]]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        out = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=True,
        )
        version, gpus = json.loads(out.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return "", 0, f"torch did not come to say: {type(error).__name__}"
    if not gpus:
        return "", 0, f"torch {version} finds none"
    name, size = min(gpus, key=lambda gpu: gpu[1])
    return name, size, ""


def _points(need: TrainingMemory, memory: float | None) -> float:
    return need.points if memory is None else min(need.points, GB * memory)


def _amounts(need: TrainingMemory, memory: float | None, network: str) -> str:
    return (
        f"the largest network ({network}) takes {need.weights / GB:.3f} GB for weights and optimizer, "
        f"{need.activations / GB:.2f} for activations, {_points(need, memory) / GB:.2f} for data, and CUDA "
        f"{CONTEXT / GB:g} (assumed)"
    )


def _problems(found: Sequence[NodeGpus], consequence: str) -> str:
    """What is wrong with the GPUs of some nodes."""
    problems = [node for node in found if node.problem]
    if not problems:
        return ""
    causes = ", ".join(sorted({node.problem for node in problems}))
    count = sum(node.count for node in problems)
    return f"; Ray counts {count} GPUs where {causes}{consequence and f': {consequence}'}"
