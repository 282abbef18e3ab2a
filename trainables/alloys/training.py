"""Training of alloy networks: any number at once as stacked matrices, each on a split of its own or all on one."""

import hashlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoint import restore, write_checkpoint
from ..errors import InputError
from ..kind import TrainingFailed
from ..optimizers import ADAM
from .accuracy import Errors, errors_of, joined
from .config import NAMES, AlloyConfig, Task
from .linear_part import fit_linear
from .network import Network
from .training_data import TrainingData

Scaling = dict[Task, NDArray[np.float64]]  # mean and standard deviation of each network's training, (T, 2)
PIECE = 2**24  # numbers of the widest layer that are held at once in a prediction
DIVERGED = 1e3  # error of networks that predict the mean is 1


@dataclass(frozen=True)
class EpochReport:
    """What is known after an epoch; means over the networks, of the weights kept so far where it says best.

    train_loss: of eq. 9, with standardised targets.  Errors are those of ``accuracy.Errors`` on the validation data.
    configurations: trained so far, images and splits counted.
    """

    epoch: int
    train_loss: float
    best_geometric_error: float
    best_energy_mae: float
    best_charge_mae: float
    best_moment_mae: float
    configurations: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks with their best weights, one for each of ``seeds``; those that failed are left out.

    which: the number of each among the seeds given.
    """

    network: Network
    scaling: Scaling
    seeds: tuple[int, ...]
    which: tuple[int, ...]
    last: EpochReport

    @property
    def last_report(self) -> dict[str, Any]:
        """The last epoch's, as plain values."""
        return asdict(self.last)


def train(
    config: AlloyConfig,
    data: Sequence[TrainingData],
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    report: Callable[[EpochReport], None] = lambda epoch: None,
    checkpoint: Path | None = None,
    checkpoint_epochs: Collection[int] | None = None,
    judge_epochs: int = 1,
    all_or_none: bool = False,
) -> Trained:
    """Train one network per seed, all at once; each ends as it would alone.

    Args:
        config: architecture and training hyperparameters.
        data: of each network, of one lattice; sets of unequal size are filled up with further images.
        seeds: of weights, images and their order.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        report: called after each epoch that is judged.
        checkpoint: file that holds the state after an epoch.  Where it exists already the training goes on from it.
        checkpoint_epochs: those after which it is written; by default each.
        judge_epochs: every how many epochs the validation data are predicted; the last one always.
        all_or_none: one that fails fails all, as a mean over the others would be of easier data.

    Raises:
        TrainingFailed: every network ended in NaN or diverged; with ``all_or_none`` any did.
        CheckpointError: the file is damaged, or belongs to another training.
        InputError: a task whose targets do not vary.

    Source: Lupo Pasini et al. (2020), eq. 9: loss Σ_i α_i ‖y_i - ŷ_i‖₂, norms not squared, over a batch and all sites;
    here of standardised targets, over √(batch size), with Σ_i α_i = 1.
    """
    started = time.perf_counter()
    for one in data:
        if flat := [NAMES[task] for task in config.learnt if task not in one.varying]:
            raise InputError(f"the targets of '{flat[0]}' are all the same in this dataset; choose tasks without it")
    state = _State(config, data, seeds, device)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
        assert state.last is not None
        started -= state.last.seconds
    n_epoch = max(len(one.train) for one in data) * config.n_images
    n_splits = len({id(one) for one in data})
    n_batches, cause = math.ceil(n_epoch / config.batch_size), "the loss was not finite"
    for epoch in range(1 if state.last is None else state.last.epoch + 1, config.epochs + 1):
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / config.epochs))
        loss = state.epoch(epoch, n_epoch, rate) / n_batches
        if epoch % judge_epochs and epoch != config.epochs:
            continue
        errors = state.validate()
        failed = ~(np.isfinite(loss) & (errors.error < DIVERGED))
        if failed.any():
            cause = f"the loss was {loss[failed][0]:.3g} after epoch {epoch} at learning rate {config.learning_rate:g}"
        state.keep_better(errors, failed)
        if not state.usable.any() or (all_or_none and failed.any()):
            raise TrainingFailed(cause)
        best = {name: float(getattr(state.best_errors, name)[state.usable].mean()) for name in Errors.NAMES}
        state.last = EpochReport(
            epoch=epoch,
            train_loss=float(loss[state.usable].mean()),
            best_geometric_error=best["error"],
            best_energy_mae=best["energy_mae"],
            best_charge_mae=best["charge_mae"],
            best_moment_mae=best["moment_mae"],
            configurations=epoch * n_epoch * n_splits,
            seconds=time.perf_counter() - started,
        )
        if checkpoint is not None and (checkpoint_epochs is None or epoch in checkpoint_epochs):
            state.save(checkpoint)
        report(state.last)
    return state.trained()


class _State:
    """What changes from epoch to epoch, and the data on the device.

    Of T networks: ``alive`` while none of its losses was infinite; ``best_errors`` infinite before the first judgement.
    """

    def __init__(self, config: AlloyConfig, data: Sequence[TrainingData], seeds: Sequence[int], device: str) -> None:
        self._config, self._seeds, self._data, self._device = config, tuple(seeds), data, device
        lattice = data[0].lattice
        self.network = Network(config, lattice, seeds).to(device)
        self.scaling: Scaling = {t: np.array([one.scaling[t] for one in data]) for t in config.learnt}
        if config.architecture == "equivariant":
            fit_linear(self.network, data)
        self.network.neighbours = self.network.neighbours.to(device)
        self._parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = ADAM(self._parameters, lr=config.learning_rate, fused=True)
        self._best = [p.detach().clone() for p in self._parameters]
        n = len(seeds)
        self.best_errors = Errors(**{name: np.full(n, np.inf) for name in Errors.NAMES})
        self.alive = np.ones(n, dtype=bool)
        self.last: EpochReport | None = None
        self._permutations = torch.from_numpy(lattice.permutations)
        self._sizes = np.array([len(one.train) for one in data])
        most = int(self._sizes.max())

        def stacked(arrays: Sequence[NDArray[Any]]) -> Tensor:
            filled = [np.concatenate([a, a[:1].repeat(most - len(a), axis=0)]) for a in arrays]
            return torch.from_numpy(np.stack(filled).astype(np.float32))

        self._sigma = stacked([one.train.sigma for one in data])
        self._targets = {
            task: stacked([(one.train.values[task] - one.scaling[task][0]) / one.scaling[task][1] for one in data])
            for task in config.learnt
        }

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which networks have not failed, (T,)."""
        return self.alive & np.isfinite(self.best_errors.error)

    def epoch(self, epoch: int, n_epoch: int, rate: float) -> NDArray[np.float64]:
        """Take all steps of an epoch.  The loss of each network, summed over the batches, (T,)."""
        if self._config.training == "none":
            return np.zeros(len(self._seeds))
        rows, operations = self._drawn(epoch, n_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total, size = torch.zeros(len(self._seeds), device=self._device), self._config.batch_size
        for start in range(0, n_epoch, size):
            sigma, targets = self._batch(rows[:, start : start + size], operations[:, start : start + size])
            predicted = self.network(sigma)
            loss = torch.zeros_like(total)
            for task, alpha in self._config.weights.items():
                squares = (predicted[task] - targets[task]).square().sum(dim=(1, 2)) / sigma.shape[1]
                loss = loss + alpha * (squares + 1e-12).sqrt()  # the norm has no gradient at zero
            self.optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            self.optimizer.step()
            total += loss.detach()
        return total.cpu().numpy().astype(float)

    def _drawn(self, epoch: int, n_epoch: int) -> tuple[Tensor, Tensor]:
        """Rows of the data and symmetry operations of an epoch, (T, n_epoch); a function of seed and epoch alone."""
        rows, operations = [], []
        for seed, size in zip(self._seeds, self._sizes, strict=True):
            rng = np.random.default_rng([seed % 2**63, epoch])
            order = rng.permutation(int(size) * self._config.n_images) % size
            rows.append(np.concatenate([order, rng.integers(size, size=n_epoch - len(order))]))
            still = self._config.images == 0 or self._config.architecture == "equivariant"
            operations.append(
                np.zeros(n_epoch, dtype=np.int64) if still else rng.integers(len(self._permutations), size=n_epoch)
            )
        return torch.from_numpy(np.stack(rows)), torch.from_numpy(np.stack(operations))

    def _batch(self, rows: Tensor, operations: Tensor) -> tuple[Tensor, dict[Task, Tensor]]:
        """Images of configurations and their targets, on the device."""
        network, moved = torch.arange(len(rows))[:, None], self._permutations[operations]
        sigma = torch.gather(self._sigma[network, rows], 2, moved)
        targets: dict[Task, Tensor] = {}
        for task, values in self._targets.items():
            some = values[network, rows]
            targets[task] = (some if task == "E" else torch.gather(some, 2, moved)).to(self._device)
        return sigma.to(self._device), targets

    def validate(self) -> Errors:
        """Errors of each network on its validation data."""
        if all(one is self._data[0] for one in self._data):
            predicted = predict(self.network, self.scaling, self._data[0].validation.sigma)
            return errors_of(predicted, self._data[0].validation, self._data[0])
        most = max(len(one.validation) for one in self._data)
        sigma = np.stack([np.resize(one.validation.sigma, (most, self._sigma.shape[2])) for one in self._data])
        predicted = predict(self.network, self.scaling, sigma)
        return joined(
            errors_of({task: v[t : t + 1, : len(one.validation)] for task, v in predicted.items()}, one.validation, one)
            for t, one in enumerate(self._data)
        )

    def keep_better(self, errors: Errors, failed: NDArray[np.bool_]) -> None:
        """Keep the weights of those networks that were never better, and give up those that failed."""
        self.alive &= ~failed
        better = self.alive & (errors.error < self.best_errors.error)
        if better.any():
            rows = torch.from_numpy(np.flatnonzero(better)).to(self._device)
            for kept, p in zip(self._best, self._parameters, strict=True):
                kept.index_copy_(0, rows, p.detach().index_select(0, rows))
            for name in Errors.NAMES:
                getattr(self.best_errors, name)[better] = getattr(errors, name)[better]

    def trained(self) -> Trained:
        """The usable networks with their best weights."""
        assert self.last is not None
        with torch.no_grad():
            for p, kept in zip(self._parameters, self._best, strict=True):
                p.copy_(kept)
        keep = np.flatnonzero(self.usable)
        chosen = Network(self._config, self._data[0].lattice, seeds=[0] * len(keep))
        chosen.load({name: values[keep] for name, values in self.network.arrays().items()})
        scaling: Scaling = {task: values[keep] for task, values in self.scaling.items()}
        return Trained(
            chosen.to(self._device), scaling, tuple(self._seeds[t] for t in keep), tuple(keep.tolist()), self.last
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint; errors as ``files.atomic``."""
        assert self.last is not None
        write_checkpoint(path, self._tensors(), {**self._identity(), "last": asdict(self.last)})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.  Raises CheckpointError: damaged, or of another training."""
        self.last = restore(path, self._identity(), self.optimizer, self._parameters, self._tensors, EpochReport)

    def _identity(self) -> dict[str, Any]:
        """What a training must share with the one that wrote a checkpoint."""
        digest = hashlib.sha256()
        for tensor in (self._sigma, *self._targets.values()):
            digest.update(tensor.numpy().tobytes())
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
        found |= {f"best_errors.{name}": torch.from_numpy(getattr(self.best_errors, name)) for name in Errors.NAMES}
        found["alive"] = torch.from_numpy(self.alive)
        return found


def predict(
    network: Network, scaling: Mapping[Task, NDArray[np.float64]], sigma: NDArray[np.float32]
) -> dict[Task, NDArray[np.float64]]:
    """What T networks predict in units: formation energy (T, n, 1) [eV/atom], charges and moments (T, n, n_sites).

    Args:
        network: T networks.
        scaling: mean and standard deviation of each task and network.
        sigma: (n, n_sites) for the same in each network, or (T, n, n_sites).
    """
    device, found = next(network.parameters()).device, dict[Task, list[NDArray[np.float64]]]()
    x = torch.from_numpy(np.ascontiguousarray(sigma))
    x = x.expand(network.n_networks, *x.shape[-2:])
    wide = network.config.width * (sigma.shape[-1] if network.config.architecture == "equivariant" else 1)
    with torch.no_grad():
        for piece in x.split(max(1, PIECE // (network.n_networks * wide)), dim=1):
            for task, values in network(piece.to(device)).items():
                mean, std = (scaling[task][:, k][:, None, None] for k in (0, 1))
                found.setdefault(task, []).append(values.cpu().numpy().astype(np.float64) * std + mean)
    return {task: np.concatenate(pieces, axis=1) for task, pieces in found.items()}
