"""Training on the cluster: the function every trial runs."""

from collections.abc import Mapping
from typing import Any

from ray import tune

from ...trainables.errors import one_line
from ...trainables.kind import Kind, StudyData, TrainingFailed
from ...trainables.temporary import temporary_folder
from ...trainables.weighted import with_weighted
from ..resources import MemoryShare, device_of_worker, use_cpus

NOT_WEIGHTED: tuple[str, Mapping[str, float]] = ("", {})


def train_trial(task: dict[str, Any], kind: Kind, data: StudyData, memory: MemoryShare) -> None:
    """Ray Tune trainable: train one config with one initialisation, report every epoch, say why it failed.

    Reports are those of ``Kind.train``, with the numbers of ``Kind.costs_of`` measured where the trial runs.

    Args:
        task: ``config`` (all hyperparameters), ``seed``, ``cpus``, ``sizes`` of the data; ``complete_key`` and
            ``failure_key`` mark the last report; ``pauses`` are the epochs after which the trial may be paused, so that
            they report a checkpoint; ``weighted`` are the name of a weighted sum to report, and the weights of the
            reported numbers in it, if any.
        kind: of the surrogate.
        data: of the study.
        memory: for its data.
    """
    use_cpus(task["cpus"])
    device = device_of_worker()
    try:
        config, training_data = kind.config.of(task["config"]), data.worker_data()
        costs = kind.costs_of(config, task["sizes"], device)
        with temporary_folder("trial") as folder:
            if (paused := tune.get_checkpoint()) is not None:
                paused.to_directory(folder)

            def report(epoch: Mapping[str, Any]) -> None:
                saved = tune.Checkpoint.from_directory(folder) if epoch["epoch"] in task["pauses"] else None
                tune.report(with_weighted({**epoch, **costs}, *task.get("weighted", NOT_WEIGHTED)), checkpoint=saved)

            # The search keeps values, not weights: only the chosen config is trained to be used.
            trained = kind.train(
                config,
                training_data,
                seeds=[task["seed"]],
                device=device,
                memory=memory.bytes(device, kind.memory(config, task["sizes"]).network),
                report=report,
                checkpoint=folder / "training.safetensors",
                checkpoint_epochs=task["pauses"],
                for_ranking=True,
            )
    except TrainingFailed as error:
        tune.report({task["failure_key"]: str(error)})
    except Exception as error:  # out of memory has many types; whatever it was, the ledger shall say it
        tune.report({task["failure_key"]: f"{type(error).__name__}: {one_line(error, 300)}"})
    else:
        last = with_weighted({**trained.last_report, **costs}, *task.get("weighted", NOT_WEIGHTED))
        tune.report({**last, task["complete_key"]: True})
