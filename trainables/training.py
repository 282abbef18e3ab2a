"""Training of an LDOS network: T initialisations at once, early stopping, best weights, one report an epoch."""

import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .accuracy import SnapshotError, snapshot_error
from .network import Network
from .physics.local import dos
from .surrogate import CHUNK
from .surrogate_config import SurrogateConfig
from .training_data import Scaling, SnapshotData, TrainingData

DIVERGED = 1e3  # validation loss of a network that predicts the mean is 1


class TrainingFailed(RuntimeError):
    """No initialisation gave a usable network; the message says when and why."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch reached; losses are the mean squared error of the scaled LDOS, averaged over initialisations.

    ``band_energy_mae`` [meV/atom] and ``dos_rmse`` [1/(eV atom)] are over the validation snapshots, NaN where the
    predicted DOS cannot hold the electrons.  ``best_loss`` and ``best_band_energy_mae`` belong to the weights kept.
    ``memory_mb`` is the most that the process has used so far.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    band_energy_mae: float
    dos_rmse: float
    best_loss: float
    best_band_energy_mae: float
    seconds: float
    points_per_second: float
    memory_mb: float


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks with their best weights, one for each of ``seeds``; initialisations that failed are left out."""

    network: Network
    scaling: Scaling
    seeds: tuple[int, ...]
    best_loss: tuple[float, ...]
    best_epoch: tuple[int, ...]
    epochs: int
    seconds: float


def train(
    config: SurrogateConfig,
    data: TrainingData,
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    report: Callable[[EpochReport], None] = lambda epoch: None,
) -> Trained:
    """Train one network per seed on the training snapshots, all at once.

    The initialisations share the order of mini-batches and nothing else: each keeps its own best weights and stops
    learning at its own early stop, so each ends as it would alone.

    Args:
        config: architecture and training hyperparameters.
        data: scaled with ``data.scaling``, fitted on the training split.
        seeds: one per initialisation.
        device: ``cpu``, ``cuda`` or ``cuda:N``; data stay on it as tensors.
        report: called after each epoch.

    Raises:
        TrainingFailed: every initialisation ended in NaN or diverged.

    Source: Fiedler et al. (2022), Sec. II; loss of Eq. 10 on the scaled LDOS.
    """
    started = time.perf_counter()
    scaling = data.scaling
    x = torch.cat([torch.from_numpy(scaling.descriptors(s)) for d in data.train for s in d.descriptors]).to(device)
    y = torch.cat([torch.from_numpy(scaling.ldos(s)) for d in data.train for s in d.ldos]).to(device)
    judges = [_Judge(d, data, device) for d in data.validation]
    network = Network(config, x.shape[1], y.shape[1], seeds).to(device)
    parameters = list(network.parameters())
    optimizer = _optimizer(config, parameters)
    n, n_batches = len(x), math.ceil(len(x) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        (lambda step: 0.5 * (1 + math.cos(math.pi * step / (config.epochs * n_batches))))
        if config.schedule == "cosine"
        else (lambda step: 1.0),
    )
    shuffle = torch.Generator().manual_seed(0x5F5)  # the same order for every seed: T at once equal T alone

    n_inits = len(seeds)
    best = [p.detach().clone() for p in parameters]
    best_loss, best_band = np.full(n_inits, np.inf), np.full(n_inits, np.nan)
    best_epoch, alive = np.zeros(n_inits, dtype=int), np.ones(n_inits, dtype=bool)
    causes: list[str] = []
    epoch = 0
    for epoch in range(1, config.epochs + 1):
        epoch_started = time.perf_counter()
        order = torch.randperm(n, generator=shuffle).to(device)
        x, y = x[order], y[order]
        total = torch.zeros(n_inits, device=device)
        for start in range(0, n, config.batch_size):
            batch_x, batch_y = x[start : start + config.batch_size], y[start : start + config.batch_size]
            loss = (network(batch_x) - batch_y).square().mean(dim=(1, 2))
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch_x)
        train_loss = (total / n).cpu().numpy().astype(float)
        validation_loss, band, rmse = _validate(network, judges, scaling)
        failed = alive & ~(np.isfinite(train_loss) & (validation_loss < DIVERGED))
        for t in np.flatnonzero(failed):
            what = (
                "NaN or infinite"
                if not np.isfinite(train_loss[t] + validation_loss[t])
                else f"{validation_loss[t]:.3g}"
            )
            causes.append(f"the loss was {what} after epoch {epoch} at learning rate {config.learning_rate:g}")
            best_loss[t] = np.inf
        alive &= ~failed
        better = alive & (validation_loss < best_loss)
        if better.any():
            mask = torch.from_numpy(better).to(device)
            for kept, p in zip(best, parameters, strict=True):
                kept[mask] = p.detach()[mask]
            best_loss[better], best_band[better], best_epoch[better] = validation_loss[better], band[better], epoch
        alive &= epoch - best_epoch < config.patience
        usable = np.isfinite(best_loss)
        if not usable.any():
            raise TrainingFailed(causes[-1])
        now = time.perf_counter()
        report(
            EpochReport(
                epoch=epoch,
                train_loss=float(train_loss[usable].mean()),
                validation_loss=float(validation_loss[usable].mean()),
                band_energy_mae=float(band[usable].mean()),
                dos_rmse=float(rmse[usable].mean()),
                best_loss=float(best_loss[usable].mean()),
                best_band_energy_mae=float(best_band[usable].mean()),
                seconds=now - started,
                points_per_second=n / (now - epoch_started),
                memory_mb=_memory_mb(device),
            )
        )
        if not alive.any():
            break
    usable = np.isfinite(best_loss)
    with torch.no_grad():
        for p, kept in zip(parameters, best, strict=True):
            p.copy_(kept)
    return Trained(
        _select(network, config, np.flatnonzero(usable).tolist()),
        scaling,
        tuple(np.array(seeds)[usable].tolist()),
        tuple(best_loss[usable].tolist()),
        tuple(best_epoch[usable].tolist()),
        epoch,
        time.perf_counter() - started,
    )


class _Judge:
    """A validation snapshot on the device, ready to be predicted every epoch."""

    def __init__(self, data: SnapshotData, training: TrainingData, device: str) -> None:
        scaling = training.scaling
        self.x = torch.cat([torch.from_numpy(scaling.descriptors(s)) for s in data.descriptors]).to(device)
        self.y = torch.cat([torch.from_numpy(scaling.ldos(s)) for s in data.ldos]).to(device)
        self.snapshot, self.grid = data.snapshot, training.energy_grid
        self.true_dos = dos(np.concatenate(data.ldos), volume=self.snapshot.volume)

    def error(self, network: Network, scaling: Scaling) -> SnapshotError:
        total, squares = 0.0, 0.0
        for x, y in zip(self.x.split(CHUNK), self.y.split(CHUNK), strict=True):
            predicted = network(x)
            total = total + predicted.sum(dim=1, dtype=torch.float64)
            squares = squares + (predicted - y).square().sum(dim=(1, 2), dtype=torch.float64)
        assert isinstance(total, Tensor)
        assert isinstance(squares, Tensor)
        mean = (total / len(self.x)).cpu().numpy() * scaling.ldos_scale + scaling.ldos_mean
        return snapshot_error(
            self.snapshot,
            self.grid,
            predicted_dos=mean * self.snapshot.volume,
            true_dos=self.true_dos,
            squared_error=squares.cpu().numpy() * scaling.ldos_scale**2,
        )


def _validate(
    network: Network, judges: Sequence[_Judge], scaling: Scaling
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validation loss, |band-energy error| [meV/atom] and DOS RMSE [1/(eV atom)] of each initialisation."""
    with torch.no_grad():
        errors = [judge.error(network, scaling) for judge in judges]
    count = sum(judge.y.numel() for judge in judges)
    loss = np.sum([e.squared_error for e in errors], axis=0) / scaling.ldos_scale**2 / count
    band = np.abs([e.band_energy for e in errors]).mean(axis=0)
    return loss, band, np.mean([e.dos_rmse for e in errors], axis=0)


def _optimizer(config: SurrogateConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)


def _select(network: Network, config: SurrogateConfig, keep: list[int]) -> Network:
    """A network of the given initialisations only."""
    chosen = Network(config, network.sizes[0], network.sizes[-1], seeds=[0] * len(keep))
    with torch.no_grad():
        for new, old in zip(chosen.parameters(), network.parameters(), strict=True):
            new.copy_(old[keep].cpu())
    return chosen


def _memory_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
