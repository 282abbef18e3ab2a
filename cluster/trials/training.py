"""Training on the cluster: the function every trial runs, and the retraining of the chosen config."""

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from ...trainables.ldos.accuracy import Accuracy, SnapshotError
from ...trainables.ldos.config import SurrogateConfig
from ...trainables.ldos.training_data import TrainingData
from ..resources import MemoryShare
from .study_data import StudyData


def train_trial(task: dict[str, Any], data: StudyData, memory: MemoryShare) -> None:
    """Ray Tune trainable: train one config with one initialisation, report every epoch, say why it failed.

    Reports are those of ``EpochReport``, with ``n_parameters`` of the network and its ``inference_time`` [µs a grid
    point], measured where the trial runs.

    Args:
        task: ``config`` (all hyperparameters), ``seed``, ``cpus``; ``complete_key`` and ``failure_key`` mark the last
            report; ``pauses`` are the epochs after which the trial may be paused, so that they report a checkpoint.
        data: of the study.
        memory: for its grid points.
    """
    from ...trainables.kind import TrainingFailed
    from ...trainables.ldos.inference import inference_time
    from ...trainables.ldos.network import n_parameters
    from ...trainables.ldos.training import EpochReport, train

    _use_cpus(task["cpus"])
    device = _device()
    try:
        config, training_data = SurrogateConfig.of(task["config"]), data.worker_data()
        sizes = len(data.scaling.descriptor_mean), len(data.scaling.ldos_mean)
        network = {
            "n_parameters": n_parameters(config, *sizes),
            "inference_time": inference_time(config, *sizes, device=device),
        }
        with tempfile.TemporaryDirectory(prefix="dftune-trial-") as folder:
            if (paused := tune.get_checkpoint()) is not None:
                paused.to_directory(folder)

            def report(epoch: EpochReport) -> None:
                saved = tune.Checkpoint.from_directory(folder) if epoch.epoch in task["pauses"] else None
                tune.report(asdict(epoch) | network, checkpoint=saved)

            # The search keeps values, not weights: only the chosen config is trained to be used.
            trained = train(
                config,
                training_data,
                seeds=[task["seed"]],
                device=device,
                memory=memory.bytes(device, _beside(config, training_data, 1)),
                tf32=True,  # ranks configs as float32 does: benchmarks/precision.py
                report=report,
                checkpoint=Path(folder) / "training.safetensors",
                checkpoint_epochs=task["pauses"],
            )
    except TrainingFailed as error:
        tune.report({task["failure_key"]: str(error)})
    except Exception as error:  # out of memory has many types; whatever it was, the ledger shall say it
        tune.report({task["failure_key"]: f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
    else:
        tune.report(asdict(trained.last) | network | {task["complete_key"]: True})


@dataclass(frozen=True, eq=False)
class Retrained:
    """The chosen config, trained with T initialisations and judged on the test snapshots.

    ``weights`` holds arrays by the names of ``Network``'s state; ``dos`` a pair (predicted (T, n_energy), true) for
    each snapshot.
    """

    weights: dict[str, Any]
    accuracy: Accuracy
    errors: list[SnapshotError]
    dos: list[tuple[Any, Any]]
    seeds: tuple[int, ...]


@ray.remote(max_concurrency=2)
class Retrainer:
    """Trains T initialisations at once while it can be asked how far it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoch: tuple[int, float] = (0, float("nan"))

    def progress(self) -> tuple[int, float]:
        """Epochs done, and the mean validation loss of the last."""
        with self._lock:
            return self._epoch

    def run(
        self, config: dict[str, Any], data: StudyData, seeds: Sequence[int], cpus: int, memory: MemoryShare
    ) -> Retrained:
        """Train and judge; errors as ``training.train``."""
        from ...trainables.ldos.judgement import judge
        from ...trainables.ldos.training import EpochReport, train

        def report(epoch: EpochReport) -> None:
            with self._lock:
                self._epoch = (epoch.epoch, epoch.validation_loss)

        _use_cpus(cpus)
        device = _device()
        chosen, training_data = SurrogateConfig.of(config), data.training_data()
        trained = train(
            chosen,
            training_data,
            seeds=seeds,
            device=device,
            memory=memory.bytes(device, _beside(chosen, training_data, len(seeds))),
            report=report,
        )
        judgement = judge(trained.network, trained.scaling, data.energy_grid, data.test())
        return Retrained(trained.network.arrays(), judgement.accuracy, judgement.errors, judgement.dos, trained.seeds)


def _use_cpus(cpus: float) -> None:
    import torch

    torch.set_num_threads(max(1, int(cpus)))


def _beside(config: SurrogateConfig, data: TrainingData, n_initializations: int) -> int:
    """Bytes that a training takes besides grid points."""
    from ...trainables.ldos.training_memory import training_memory

    n_train, n_validation = (
        sum(len(shard) for d in part for shard in d.ldos) for part in (data.train, data.validation)
    )
    return training_memory(
        config,
        len(data.scaling.descriptor_mean),
        len(data.scaling.ldos_mean),
        n_train=n_train,
        n_validation=n_validation,
        n_initializations=n_initializations,
    ).network


def _device() -> str:
    import torch

    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
