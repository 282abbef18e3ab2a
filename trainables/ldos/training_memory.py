"""How much memory a training takes on its device, from sizes alone.  Bytes; numbers are float32."""

from itertools import pairwise

from ..kind import TrainingMemory
from .config import SurrogateConfig
from .inference import CHUNK
from .network import n_parameters
from .readout.features import CHUNK as FEATURES_CHUNK

NUMBER = 4  # bytes


def training_memory(
    config: SurrogateConfig,
    n_in: int,
    n_out: int,
    *,
    n_train: int,
    n_validation: int,
    n_initializations: int = 1,
) -> TrainingMemory:
    """What ``train`` takes on its device; without training, what the readout takes there.

    ``weights`` and ``points`` are exact, ``activations`` are what torch's allocator was seen to take on a CPU, to 2 %.

    Args:
        config: the network, its mini-batch and optimizer.
        n_in, n_out: number of descriptor components and of energies.
        n_train, n_validation: grid points.
        n_initializations: T, trained at once.
    """
    hidden, n_weights = config.hidden, n_initializations * n_parameters(config, n_in, n_out)
    if config.training == "none":
        return _of_readout(config, n_in, n_out, n_initializations)
    # Momentum; or two moments, and of each tensor the number of steps.
    moments, counters = (1, 0) if config.optimizer == "sgd" else (2, 2 * (len(hidden) + 1))
    # The way back needs what each hidden layer gave, and of some activations what it received as well.  Where it comes
    # to a layer, those up to there are left, beside the gradients of what it gave and of what it or the next received.
    kept = 1 if config.activation in ("relu", "tanh", "sigmoid") else 2
    back = max(
        max(kept * sum(hidden[: i + 1]) + width + following, kept * sum(hidden[:i]) + 3 * width)
        for i, (width, following) in enumerate(pairwise((*hidden, n_out)))
    )
    # Of the output there are prediction, residual and square, and two gradients.
    step = n_initializations * max(back, kept * sum(hidden) + 5 * n_out) + n_in + n_out
    # Forth alone, what all hidden layers give is kept until the last, beside what the first and the last receive; the
    # output's squares are summed in float64.
    forth = max(hidden[0] * (i > 0) + sum(hidden[: i + 1]) + width for i, width in enumerate(hidden))
    validation = n_initializations * max(forth, 4 * n_out)
    return TrainingMemory(
        weights=NUMBER * (n_weights * (3 + moments) + counters),
        activations=NUMBER * max(min(config.batch_size, n_train) * step, CHUNK * validation),
        points=NUMBER * (2 * n_train + n_validation) * (n_in + n_out),
    )


def _of_readout(config: SurrogateConfig, n_in: int, n_out: int, n: int) -> TrainingMemory:
    """Grid points stay in their shards, some at a time; there are no gradients and no optimizer.

    The sums are in float64: they, and those of a chunk before they are added.
    """
    hidden, features = config.hidden, config.hidden[-1] + 1
    sums = 2 * n * features * (features + n_out)
    chunk = FEATURES_CHUNK * (n * (sum(hidden) + 2 * features) + 2 * n_in + n_out)
    wide = FEATURES_CHUNK * (n * features + n_out)
    return TrainingMemory(
        weights=NUMBER * n * n_parameters(config, n_in, n_out), activations=NUMBER * chunk + 2 * NUMBER * (sums + wide)
    )
