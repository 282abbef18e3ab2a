"""What can be said without a GPU of how one is used: nothing waits for it within an epoch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.grid_points import place
from dftune.trainables.ldos.training import _Judge, _State, _steps, _validation_sums
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData


@pytest.fixture(scope="module")
def data():
    """Two snapshots of random numbers."""
    rng = np.random.default_rng(0)
    train, validation = (
        SnapshotData(SimpleNamespace(volume=1.0), *([rng.normal(size=(300, n)).astype(np.float32)] for n in (6, 4)))
        for _ in "12"
    )
    return TrainingData([train], [validation], None, Scaling.fit([train]))


IN_MEMORY, STREAMED = float("inf"), 4 * 10 * 200  # bytes: of all points, of two buffers of 100


def an_epoch(data, device, memory=IN_MEMORY, **values):
    """What an epoch hands to the device before the first number is asked back: loss and validation sums."""
    config = SurrogateConfig.of({"widths": (8, 8), "batch_size": 64, **values})
    state = _State(config, data, (1, 2), device)
    points, unseen = place(data, 64, device, memory)
    assert points.share == (1 if memory == IN_MEMORY else 1 / 3)
    judge = _Judge(data.validation[0], unseen[0], data)
    total = _steps(state.network, state.optimizer, points.shuffled(1, 64), [1e-3] * 5)
    return total, _validation_sums(state.network, [judge])


class Unwaited(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: to read a number, or to learn how many there are."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name.startswith("index") and isinstance(args[1], (list, tuple)) else ()
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2") or any(
            i is not None and i.dtype == torch.bool for i in indices
        ):
            raise AssertionError(f"{name} waits for the device")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"])
def test_an_epoch_asks_for_no_number(data, optimizer, activation):
    with Unwaited():
        total, sums = an_epoch(data, "cpu", optimizer=optimizer, activation=activation, weight_decay=0.1)
    assert torch.isfinite(total).all()
    assert torch.isfinite(sums).all()


@pytest.mark.parametrize(
    "wait", [lambda t: t.sum().item(), lambda t: float(t[0]), lambda t: t[t > 0], lambda t: bool((t > 0).any())]
)
def test_a_number_asked_for_would_be_seen(wait):
    with pytest.raises(AssertionError, match="waits for the device"), Unwaited():
        wait(torch.arange(3.0))


@pytest.mark.parametrize("memory", [IN_MEMORY, STREAMED])
def test_an_epoch_copies_nothing_back_to_the_host(data, memory):
    # Tensors on torch's "meta" device have shapes and no numbers, so that a copy to the host is an error.
    total, sums = an_epoch(data, "meta", memory, optimizer="sgd")
    assert (total.device.type, sums.device.type) == ("meta", "meta")
    assert (total.shape, sums.shape) == ((2,), (1, 2, 5))
    with pytest.raises(NotImplementedError, match="meta"):
        total.cpu()
