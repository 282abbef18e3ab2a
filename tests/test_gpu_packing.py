"""How many trials share a GPU, and where they run on nodes of several kinds."""


import pytest

from dftune.cluster.gpu_packing import MOST, NodeGpus, pack
from dftune.cluster.resources import GB, fraction_of, trials_on_gpu
from dftune.trainables.training_memory import TrainingMemory

NEED = TrainingMemory(weights=int(0.1 * GB), activations=int(0.4 * GB), points=int(1 * GB))  # with CUDA: 2 GB
A_LOT = 1e6


def node(gigabytes, *, count=1, cpus=A_LOT, name="X100"):
    return NodeGpus(count, cpus, name, int(gigabytes * GB))


@pytest.mark.parametrize(
    "nodes, cpus, memory, n",
    [
        ([node(2.3)], 1, None, 1),
        ([node(6.7)], 1, None, 3),
        ([node(6.6)], 1, None, 2),  # 0.9 of it are less than 6 GB
        ([node(80)], 1, None, MOST),
        ([node(80, cpus=5)], 1, None, 5),
        ([node(80, cpus=16, count=4)], 1, None, 4),
        ([node(80, cpus=16, count=4)], 2, None, 2),
        ([node(80, cpus=2, count=4)], 1, None, 1),  # more GPUs than CPUs: each has one trial, or none
        ([node(80, cpus=2, count=4), node(80, cpus=12, count=4)], 1, None, 3),
        ([node(80), node(4.5)], 1, None, 2),  # it must fit on each
        ([node(6.7)], 1, 0.5, 4),  # of the grid points only so many are kept
        ([node(6.7)], 1, 50.0, 3),
        ([node(1.2)], 1, None, 1),  # the points do not fit, and are streamed
        ([node(0.8)], 1, None, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_have_memory_and_cpus_and_no_more_than_make_sense(nodes, cpus, memory, n):
    placement = pack(nodes, cpus, memory, NEED, "64 x 64 gelu")
    assert trials_on_gpu(placement.gpus) == n
    assert f"{n} on each of {sum(node.count for node in nodes)} GPUs: " in placement.explanation


def test_the_choice_says_what_it_rests_on():
    found = pack([node(10, count=2, cpus=16), node(40, name="Y200")], 1, None, NEED, "64 x 64 gelu, batch_size 128")
    assert found.explanation == (
        "4 on each of 3 GPUs: the largest network (64 x 64 gelu, batch_size 128) takes 0.100 GB for weights and "
        "optimizer, 0.40 for activations, 1.00 for grid points, and CUDA 0.5 (assumed), 2.00 GB in all; 90% of the "
        "10.0 GB of X100 hold 4 such trials, its node has CPUs for 1000000, and more than 8 would wait for each other"
    )
    assert pack([node(1.2)], 1, None, NEED, "").explanation.endswith("; grid points that do not fit are streamed")
    assert pack([node(0.8)], 1, None, NEED, "").explanation.endswith("; so large a network will fail")


def test_gpus_that_torch_cannot_use_are_left_alone_and_said():
    blind = NodeGpus(4, 16, problem="torch 2.13.0+cpu finds none")
    assert pack([], 1, None, NEED, "").gpus == 0
    assert pack([], 1, None, NEED, "").explanation == "trials run on CPUs: no node has a GPU"
    alone = pack([blind], 1, None, NEED, "")
    assert alone.gpus == 0
    assert alone.explanation == (
        "trials run on CPUs: no node has a GPU that torch can use; Ray counts 4 GPUs where torch 2.13.0+cpu finds none"
    )
    beside = pack([blind, node(6.7)], 1, None, NEED, "")
    assert trials_on_gpu(beside.gpus) == 3
    assert beside.explanation.endswith(
        "; Ray counts 4 GPUs where torch 2.13.0+cpu finds none: trials there train on the CPUs"
    )


@pytest.mark.parametrize("n", range(1, 101))
def test_so_many_fractions_of_a_gpu_fit_on_it_as_ray_counts_them(n):
    units = round(10_000 * fraction_of(n))  # Ray's fixed point has four decimals
    assert trials_on_gpu(fraction_of(n)) == 10_000 // units
    assert n * units <= 10_000
    assert n > 50 or trials_on_gpu(fraction_of(n)) == n
