"""Training of an LDOS network: T initialisations at once, early stopping, best weights, one report an epoch."""

import hashlib
import math
import resource
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import restore, write_checkpoint
from ..kind import TrainingFailed
from ..optimizers import ADAM, ADAMW, SGD
from .accuracy import SnapshotError, snapshot_error
from .config import SurrogateConfig
from .epoch_report import EpochReport
from .grid_points import Batch, Points, place
from .inference import CHUNK
from .neighbours import Neighbours
from .network import Network
from .training_data import Scaling, SnapshotData, TrainingData

if TYPE_CHECKING:
    from ..descriptors.settings import BispectrumSettings
    from .readout.posterior import Posterior

DIVERGED = 1e3  # validation loss of a network that predicts the mean is 1


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks with their best weights, one for each of ``seeds``; initialisations that failed are left out."""

    network: Network
    scaling: Scaling
    seeds: tuple[int, ...]
    best_loss: tuple[float, ...]
    best_epoch: tuple[int, ...]
    last: EpochReport
    neighbours: Neighbours | None = None
    fitted: str | None = None  # to what the last layer was, where it was solved
    posterior: "Posterior | None" = None  # how well that is known
    penalty: float | None = None  # of the last layer, where it was solved
    descriptors: "BispectrumSettings | None" = None  # where they are not those of the data

    @property
    def last_report(self) -> dict[str, Any]:
        """The last epoch's, as plain values."""
        return asdict(self.last)


def train(
    config: SurrogateConfig,
    data: TrainingData,
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    memory: float = math.inf,
    tf32: bool = False,
    report: Callable[[EpochReport], None] = lambda epoch: None,
    checkpoint: Path | None = None,
    checkpoint_epochs: Collection[int] | None = None,
) -> Trained:
    """Train one network per seed on the training snapshots, all at once.

    The initialisations share the order of mini-batches and nothing else: each keeps its own best weights and stops
    learning at its own early stop, so each ends as it would alone.

    Args:
        config: architecture and training hyperparameters.
        data: scaled with ``data.scaling``, fitted on the training split.
        seeds: one per initialisation.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        memory: that scaled grid points may take on the device [bytes].  Where all do not fit they are streamed from
            their shards, in another random order.
        tf32: a GPU may round the factors of the training's products to TF32 (11 significant bits; sums, weights and
            validation stay float32).
        report: called after each epoch.
        checkpoint: file that holds the state after an epoch, written before that epoch is reported.  Where it exists
            already the training goes on from it, and on the same machine, with the same ``memory``, ends bit for bit
            as without a break.
        checkpoint_epochs: those after which it is written; by default each.

    Raises:
        TrainingFailed: every initialisation ended in NaN or diverged.
        CheckpointError: the file is damaged, or belongs to another training.
        InputError: the memory does not hold two mini-batches.

    Source: Fiedler et al. (2022), Sec. II; loss of Eq. 10 on the scaled LDOS.
    """
    started = time.perf_counter()
    scaling = data.scaling
    points, unseen = place(data, config.batch_size, device, memory)
    judges = [_Judge(d, p, data) for d, p in zip(data.validation, unseen, strict=True)]
    state = _State(config, data, seeds, device)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
        assert state.last is not None
        started -= state.last.seconds
    n, n_batches = len(points), math.ceil(len(points) / config.batch_size)

    causes: list[str] = []
    for epoch in range(1 if state.last is None else state.last.epoch + 1, config.epochs + 1):
        if not state.alive.any():
            break
        epoch_started = time.perf_counter()
        # A function of the epoch alone: nothing to save, and the same for every seed, so that T at once equal T alone.
        batches, steps = points.shuffled(epoch, config.batch_size), range((epoch - 1) * n_batches, epoch * n_batches)
        rates = (config.learning_rate * _schedule(config, step / (config.epochs * n_batches)) for step in steps)
        with _multiplied(tf32):
            total = _steps(state.network, state.optimizer, batches, rates)
        # All is handed to the device before the first number is asked back.
        sums = _validation_sums(state.network, judges)
        train_loss = (total / n).cpu().numpy().astype(float)
        validation_loss, band, rmse = _validation(sums.cpu().numpy(), judges, scaling)
        failed = state.alive & ~(np.isfinite(train_loss) & (validation_loss < DIVERGED))
        for t in np.flatnonzero(failed):
            what = (
                "NaN or infinite"
                if not np.isfinite(train_loss[t] + validation_loss[t])
                else f"{validation_loss[t]:.3g}"
            )
            causes.append(f"the loss was {what} after epoch {epoch} at learning rate {config.learning_rate:g}")
        state.judged(epoch, failed, validation_loss, band)
        usable = state.usable
        if not usable.any():
            raise TrainingFailed(causes[-1])
        now = time.perf_counter()
        state.last = EpochReport(
            epoch=epoch,
            train_loss=float(train_loss[usable].mean()),
            validation_loss=float(validation_loss[usable].mean()),
            band_energy_mae=float(band[usable].mean()),
            dos_rmse=float(rmse[usable].mean()),
            best_loss=float(state.best_loss[usable].mean()),
            best_band_energy_mae=float(state.best_band[usable].mean()),
            grid_points=epoch * n,
            seconds=now - started,
            points_per_second=n / (now - epoch_started),
            memory_mb=memory_mb(device),
            share_in_memory=points.share,
        )
        if checkpoint is not None and (checkpoint_epochs is None or epoch in checkpoint_epochs):
            state.save(checkpoint)
        report(state.last)
    return state.trained(scaling)


def _steps(
    network: Network, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], rates: Iterable[float]
) -> Tensor:
    """Take a step a mini-batch; the loss of each initialisation, summed over the grid points, (T,).

    Nothing here asks the device for a number: it would run dry at every step while Python prepares the next one.
    """
    total = torch.zeros(network.n_initializations, device=network.weights[0].device)
    for (x, y), rate in zip(batches, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = (network(x) - y).square().mean(dim=(1, 2))
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimizer.step()
        total += loss.detach() * len(x)
    return total


@contextmanager
def _multiplied(tf32: bool) -> Iterator[None]:
    """Inside, products on a GPU are in TF32, or in float32 as outside."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


class _State:
    """What changes from epoch to epoch, all of which a checkpoint holds.

    Weights and best weights: lists of (T, ...) tensors.  best_loss, best_band [meV/atom], best_epoch, alive: (T,);
    ``alive`` is True while an initialisation still learns, ``best_loss`` infinite for one that failed.
    """

    def __init__(self, config: SurrogateConfig, data: TrainingData, seeds: Sequence[int], device: str) -> None:
        self._config, self._seeds, self._data = config, tuple(seeds), data
        n_in, n_out = len(data.scaling.descriptor_mean), len(data.scaling.ldos_mean)
        self.network = Network(config, n_in, n_out, seeds).to(device)
        self._parameters = list(self.network.parameters())
        self.optimizer = _optimizer(config, self._parameters)
        self._best = [p.detach().clone() for p in self._parameters]
        n = len(seeds)
        self.best_loss, self.best_band = np.full(n, np.inf), np.full(n, np.nan)
        self.best_epoch, self.alive = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
        self.last: EpochReport | None = None

    @property
    def usable(self) -> np.ndarray:
        """Which initialisations have not failed, (T,)."""
        return np.isfinite(self.best_loss)

    def judged(self, epoch: int, failed: np.ndarray, loss: np.ndarray, band: np.ndarray) -> None:
        """Keep the weights of those initialisations that were never better; end those that failed or stand still."""
        self.best_loss[failed] = np.inf
        self.alive &= ~failed
        better = self.alive & (loss < self.best_loss)
        if better.any():
            rows = torch.from_numpy(np.flatnonzero(better)).to(self._best[0].device)
            for kept, p in zip(self._best, self._parameters, strict=True):
                kept.index_copy_(0, rows, p.detach().index_select(0, rows))
            self.best_loss[better], self.best_band[better], self.best_epoch[better] = loss[better], band[better], epoch
        self.alive &= epoch - self.best_epoch < self._config.patience

    def trained(self, scaling: Scaling) -> Trained:
        """The usable initialisations with their best weights."""
        usable = self.usable
        assert self.last is not None
        with torch.no_grad():
            for p, kept in zip(self._parameters, self._best, strict=True):
                p.copy_(kept)
        return Trained(
            _select(self.network, self._config, np.flatnonzero(usable).tolist()),
            scaling,
            tuple(np.array(self._seeds)[usable].tolist()),
            tuple(self.best_loss[usable].tolist()),
            tuple(self.best_epoch[usable].tolist()),
            self.last,
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint; errors as ``files.atomic``."""
        assert self.last is not None
        write_checkpoint(path, self._tensors(), {**self._identity(), "last": asdict(self.last)})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: damaged, or of another training.
        """
        self.last = restore(path, self._identity(), self.optimizer, self._parameters, self._tensors, EpochReport)

    def _identity(self) -> dict[str, Any]:
        """What a training must share with the one that wrote a checkpoint."""
        scaling = self._data.scaling
        digest = hashlib.sha256(np.float64(scaling.ldos_scale).tobytes())
        for array in (scaling.descriptor_mean, scaling.descriptor_std, scaling.ldos_mean):
            digest.update(array.tobytes())  # any change of the training data shows in its means
        snapshots = [
            [(d.snapshot.id, sum(map(len, d.ldos))) for d in s] for s in (self._data.train, self._data.validation)
        ]
        digest.update(repr(snapshots).encode())
        return {
            "hyperparameters": self._config.model_dump(mode="json"),
            "seeds": list(self._seeds),
            "data": digest.hexdigest(),
        }

    def _tensors(self) -> dict[str, Tensor]:
        """All of it by name; the tensors are the state's own, not copies."""
        found = {f"weights.{i}": p.detach() for i, p in enumerate(self._parameters)}
        found |= {f"best.{i}": kept for i, kept in enumerate(self._best)}
        for i, p in enumerate(self._parameters):
            found |= {f"optimizer.{i}.{name}": value for name, value in self.optimizer.state[p].items()}
        for name in ("best_loss", "best_band", "best_epoch", "alive"):
            found[name] = torch.from_numpy(getattr(self, name))
        return found


class _Judge:
    """A validation snapshot, ready to be predicted every epoch."""

    def __init__(self, data: SnapshotData, points: Points, training: TrainingData) -> None:
        self.points, self.snapshot, self.grid = points, data.snapshot, training.energy_grid
        self.true_dos, self.level = data.dos(), data.level

    def sums(self, network: Network) -> Tensor:
        """Over all grid points, (T, n_energy + 1) on the device: the prediction, and last its squared error, scaled."""
        total, squares = 0.0, 0.0
        for x, y in self.points.chunks(CHUNK):
            predicted = network(x)
            total = total + predicted.sum(dim=1, dtype=torch.float64)
            squares = squares + (predicted - y).square().sum(dim=(1, 2), dtype=torch.float64)
        assert isinstance(total, Tensor)
        assert isinstance(squares, Tensor)
        return torch.cat([total, squares[:, None]], dim=1)

    def error(self, sums: np.ndarray, scaling: Scaling) -> SnapshotError:
        """From the ``sums``."""
        mean = (sums[:, :-1] / len(self.points)) * scaling.ldos_scale + scaling.ldos_mean
        return snapshot_error(
            self.snapshot,
            self.grid,
            predicted_dos=mean * self.snapshot.volume,
            true_dos=self.true_dos,
            squared_error=sums[:, -1] * scaling.ldos_scale**2,
            levels=self.level,
        )


def _validation_sums(network: Network, judges: Sequence[_Judge]) -> Tensor:
    """The sums of each validation snapshot, (snapshot, T, n_energy + 1), on the device."""
    with torch.no_grad():
        return torch.stack([judge.sums(network) for judge in judges])


def _validation(
    sums: np.ndarray, judges: Sequence[_Judge], scaling: Scaling
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validation loss, |band-energy error| [meV/atom] and DOS RMSE [1/(eV atom)] of each initialisation."""
    errors = [judge.error(some, scaling) for judge, some in zip(judges, sums, strict=True)]
    count = sum(len(judge.points) for judge in judges) * len(scaling.ldos_mean)
    loss = np.sum([e.squared_error for e in errors], axis=0) / scaling.ldos_scale**2 / count
    band = np.abs([e.band_energy for e in errors]).mean(axis=0)
    return loss, band, np.mean([e.dos_rmse for e in errors], axis=0)


def _optimizer(config: SurrogateConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)
    kind = ADAM if config.optimizer == "adam" else ADAMW
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)


def _schedule(config: SurrogateConfig, done: float) -> float:
    """Factor of the learning rate when a share ``done`` of all steps has been taken."""
    return 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1.0


def _select(network: Network, config: SurrogateConfig, keep: list[int]) -> Network:
    """A network of the given initialisations only."""
    chosen = Network(config, network.sizes[0], network.sizes[-1], seeds=[0] * len(keep))
    with torch.no_grad():
        for new, old in zip(chosen.parameters(), network.parameters(), strict=True):
            new.copy_(old[keep].cpu())
    return chosen


def memory_mb(device: str) -> float:
    """The most memory that this process has used so far [MB], on its GPU if that is the device."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
