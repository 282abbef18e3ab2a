"""What a training is foretold to take in memory, against what torch allocates."""

from collections.abc import Callable
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.grid_points import Resident, place
from dftune.trainables.ldos.inference import CHUNK
from dftune.trainables.ldos.readout.features import chunks, random_network
from dftune.trainables.ldos.training import _Judge, _State, _steps, _validation_sums
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData
from dftune.trainables.ldos.training_memory import training_memory

N_IN, N_OUT, N_TRAIN, N_VALIDATION = 30, 37, 20_000, CHUNK + 5


@pytest.fixture(scope="module")
def data():
    """A snapshot to train on, and one of more than a chunk of grid points to validate with."""
    rng = np.random.default_rng(0)

    def snapshot(n):
        arrays = [rng.normal(size=(n, width)).astype(np.float32) for width in (N_IN, N_OUT)]
        return SnapshotData(SimpleNamespace(volume=1.0), *([array] for array in arrays))

    train = [snapshot(N_TRAIN)]
    return TrainingData(train, [snapshot(N_VALIDATION)], None, Scaling.fit(train))


def foretold(config, n_initializations=1):
    sizes = {"n_train": N_TRAIN, "n_validation": N_VALIDATION}
    return training_memory(config, N_IN, N_OUT, **sizes, n_initializations=n_initializations)


def size(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def peak(act: Callable[[], object]) -> int:
    """The most bytes that torch held at once of what it allocated meanwhile."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        act()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max())


def a_step(state, points, batch_size):
    x, y = next(points.chunks(N_TRAIN))
    rows = torch.arange(batch_size)
    copies = ((x.index_select(0, rows), y.index_select(0, rows)) for _ in "1")  # as of a buffer with streamed points
    _steps(state.network, state.optimizer, copies, [1e-3])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("n_initializations", [1, 2])
def test_weights_and_all_that_goes_with_them_take_what_is_foretold_to_the_byte(data, optimizer, n_initializations):
    config = SurrogateConfig.of({"widths": (20, 7), "optimizer": optimizer})
    state = _State(config, data, range(n_initializations), "cpu")
    a_step(state, Resident(data.train, data.scaling, "cpu"), 64)
    weights = list(state.network.parameters())
    kept = [value for of_one in state.optimizer.state.values() for value in of_one.values()]
    held = size(weights) + size(p.grad for p in weights) + size(kept) + size(state._best)
    assert foretold(config, n_initializations).weights == held


def test_grid_points_take_what_is_foretold_to_the_byte_and_what_decides_whether_they_are_streamed(data):
    memory = foretold(SurrogateConfig())
    points, unseen = place(data, 128, "cpu", memory.points)
    next(points.shuffled(1, 128))
    assert memory.points == sum(size(p._all) for p in (points, *unseen)) + size(points._shuffled)
    assert not isinstance(place(data, 128, "cpu", memory.points - 1)[0], Resident)


@pytest.mark.parametrize(
    "values",
    [
        {"widths": (64, 64), "activation": "gelu", "batch_size": 128},
        {"widths": (16,), "activation": "silu", "batch_size": 20_000},
        {"widths": (200,), "activation": "relu", "batch_size": 20_000},
        {"widths": (64,) * 5, "activation": "tanh", "batch_size": 20_000},
        {"widths": (256, 32), "activation": "silu", "batch_size": 20_000},
        {"widths": (32, 200, 16), "activation": "sigmoid", "batch_size": 18_000},
        {"widths": (100, 50, 20), "activation": "leaky_relu", "batch_size": 100_000, "optimizer": "sgd"},
    ],
)
@pytest.mark.parametrize("n_initializations", [1, 2])
def test_activations_take_what_is_foretold(data, values, n_initializations):
    config = SurrogateConfig.of(values)
    state = _State(config, data, range(n_initializations), "cpu")
    points, unseen = place(data, config.batch_size, "cpu", float("inf"))
    judge = _Judge(data.validation[0], unseen[0], data)
    a_step(state, points, min(config.batch_size, N_TRAIN))  # what the optimizer keeps is there from now on
    forth_and_back = peak(lambda: a_step(state, points, min(config.batch_size, N_TRAIN)))
    forth = peak(lambda: _validation_sums(state.network, [judge]))
    assert foretold(config, n_initializations).activations == pytest.approx(max(forth_and_back, forth), rel=0.02)


@pytest.mark.parametrize("n_initializations", [1, 2])
def test_without_training_the_sums_take_what_is_foretold_and_points_nothing(data, n_initializations):
    config = SurrogateConfig.of({"training": "none", "width": 600})
    memory = foretold(config, n_initializations)
    network = random_network(config, N_IN, N_OUT, list(range(n_initializations)))
    assert memory.weights == size(network.parameters())
    assert memory.points == 0

    def by_torch():
        """As ``gram`` on a GPU, where all is torch's."""
        found = []
        for _, phi, ldos in islice(chunks(network, data.scaling, data.train[0]), 3):  # all later ones are as these
            wide, y = phi.double(), torch.from_numpy(data.scaling.ldos(ldos)).double()
            parts = [wide.mT @ wide, wide.mT @ y.expand(n_initializations, *y.shape)]
            found = [a + b for a, b in zip(found, parts, strict=True)] if found else parts

    found = peak(by_torch)
    assert found <= memory.activations < 3 * found
    assert foretold(SurrogateConfig(width=600), n_initializations).points > 0
