"""How much memory a training takes on its device, foretold from sizes alone.  Bytes; numbers are float32."""

from dataclasses import dataclass

from .network import n_parameters
from .surrogate import CHUNK
from .surrogate_config import SurrogateConfig

NUMBER = 4  # bytes


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training.

    weights: with gradients, what the optimizer keeps, and the best weights so far.
    activations: of a mini-batch forth and back, or of a chunk of a validation snapshot, whichever is more.
    points: all scaled grid points, those of the training twice, since they are shuffled out of place.
    """

    weights: int
    activations: int
    points: int

    @property
    def network(self) -> int:
        """All but the grid points, which can be streamed through less."""
        return self.weights + self.activations


def training_memory(
    config: SurrogateConfig,
    n_in: int,
    n_out: int,
    *,
    n_train: int = 0,
    n_validation: int = 0,
    n_initializations: int = 1,
) -> TrainingMemory:
    """What ``train`` takes on its device.

    ``weights`` and ``points`` are exact; ``activations`` is an upper bound, up to a third above what was measured.

    Args:
        config: the network, its mini-batch and optimizer.
        n_in, n_out: number of descriptor components and of energies.
        n_train, n_validation: grid points.
        n_initializations: T, trained at once.
    """
    hidden, n_weights = config.hidden, n_initializations * n_parameters(config, n_in, n_out)
    # Momentum; or two moments, and of each tensor the number of steps.
    moments, counters = (1, 0) if config.optimizer == "sgd" else (2, 2 * (len(hidden) + 1))
    # What each hidden layer receives and what it gives are kept for the way back, which adds gradients of two layers;
    # of the output there are prediction, residual and square, and the gradients of these.
    step = config.batch_size * (n_in + n_out + 2 * sum(hidden) + 2 * max(hidden) + 3 * n_out)
    # The output's squares are summed in float64.
    validation = CHUNK * (sum(hidden) + max(hidden) + 4 * n_out)
    rows = 2 * n_train + n_validation
    return TrainingMemory(
        weights=NUMBER * (n_weights * (3 + moments) + counters),
        activations=NUMBER * n_initializations * max(step, validation),
        points=rows * (n_in + n_out) * NUMBER,
    )
