"""Training on the cluster: the function every trial runs, and the retraining of the chosen config."""

import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from ...trainables.errors import one_line
from ...trainables.kind import Kind, StudyData, TrainingFailed
from ..resources import MemoryShare


def train_trial(task: dict[str, Any], kind: Kind, data: StudyData, memory: MemoryShare) -> None:
    """Ray Tune trainable: train one config with one initialisation, report every epoch, say why it failed.

    Reports are those of ``Kind.train``, with the numbers of ``Kind.costs_of`` measured where the trial runs.

    Args:
        task: ``config`` (all hyperparameters), ``seed``, ``cpus``, ``sizes`` of the data; ``complete_key`` and
            ``failure_key`` mark the last report; ``pauses`` are the epochs after which the trial may be paused, so that
            they report a checkpoint.
        kind: of the surrogate.
        data: of the study.
        memory: for its data.
    """
    _use_cpus(task["cpus"])
    device = _device()
    try:
        config, training_data = kind.config.of(task["config"]), data.worker_data()
        costs = kind.costs_of(config, task["sizes"], device)
        with tempfile.TemporaryDirectory(prefix="dftune-trial-") as folder:
            if (paused := tune.get_checkpoint()) is not None:
                paused.to_directory(folder)

            def report(epoch: Mapping[str, Any]) -> None:
                saved = tune.Checkpoint.from_directory(folder) if epoch["epoch"] in task["pauses"] else None
                tune.report({**epoch, **costs}, checkpoint=saved)

            # The search keeps values, not weights: only the chosen config is trained to be used.
            trained = kind.train(
                config,
                training_data,
                seeds=[task["seed"]],
                device=device,
                memory=memory.bytes(device, kind.memory(config, task["sizes"]).network),
                report=report,
                checkpoint=Path(folder) / "training.safetensors",
                checkpoint_epochs=task["pauses"],
                for_ranking=True,
            )
    except TrainingFailed as error:
        tune.report({task["failure_key"]: str(error)})
    except Exception as error:  # out of memory has many types; whatever it was, the ledger shall say it
        tune.report({task["failure_key"]: f"{type(error).__name__}: {one_line(error, 300)}"})
    else:
        tune.report({**trained.last_report, **costs, task["complete_key"]: True})


@dataclass(frozen=True, eq=False)
class Retrained:
    """The chosen config, trained with T initialisations and judged on the test data.

    ``tensors`` are all numbers of the surrogate by name, ``seeds`` those of the initialisations that came to their end.
    """

    tensors: dict[str, Any]
    judgement: Any
    seeds: tuple[int, ...]


@ray.remote(max_concurrency=2)
class Retrainer:
    """Trains T initialisations at once while it can be asked how far it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Any] = {"epoch": 0}

    def progress(self) -> dict[str, Any]:
        """The last report."""
        with self._lock:
            return self._last

    def run(
        self,
        kind: Kind,
        config: dict[str, Any],
        sizes: Mapping[str, int],
        data: StudyData,
        seeds: Sequence[int],
        cpus: int,
        memory: MemoryShare,
    ) -> Retrained:
        """Train and judge; errors as ``Kind.train``."""

        def report(epoch: Mapping[str, Any]) -> None:
            with self._lock:
                self._last = dict(epoch)

        _use_cpus(cpus)
        device = _device()
        chosen, training_data = kind.config.of(config), data.training_data()
        trained = kind.train(
            chosen,
            training_data,
            seeds=seeds,
            device=device,
            memory=memory.bytes(device, kind.memory(chosen, sizes, len(seeds)).network),
            report=report,
        )
        judgement = kind.judge(trained, training_data, data.test())
        return Retrained(kind.tensors(trained), judgement, tuple(trained.seeds))


def _use_cpus(cpus: float) -> None:
    import torch

    torch.set_num_threads(max(1, int(cpus)))


def _device() -> str:
    import torch

    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
