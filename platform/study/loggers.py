"""Where trials are logged besides the ledger: callbacks of Ray Tune, by the table [loggers] of a study file."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from ...trainables.errors import InputError, did_you_mean, one_line
from ...trainables.registry import class_of
from .errors import StudyError


class TensorBoard(tune.Callback):
    """The numbers of each trial, epoch by epoch, as events for TensorBoard; those that are not known are left out.

    Ray Tune's own writes beside its scratch files, which a study removes at its end.

    Args:
        folder: to write to; trial 3 has the folder ``trial-3`` in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._writers, self._last = Path(folder), dict[str, Any](), dict[str, int]()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "epoch" not in result or self._last.get(trial.trial_id) == result["epoch"]:  # the last one comes twice
            return
        self._last[trial.trial_id] = result["epoch"]
        if trial.trial_id not in self._writers:
            from tensorboardX import SummaryWriter

            self._writers[trial.trial_id] = SummaryWriter(str(self._folder / f"trial-{trial.config['trial']}"))
        for name, value in result.items():
            if name not in tune.result.AUTO_RESULT_KEYS and isinstance(value, (int, float)) and math.isfinite(value):
                self._writers[trial.trial_id].add_scalar(name, value, result["epoch"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        if (writer := self._writers.pop(trial.trial_id, None)) is not None:
            writer.close()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()  # Ray Tune pickles it into a folder that nobody reads


# Name in a study file -> the callback.  What its package is, where it is not installed with dftune.
NAMED = {
    "tensorboard": f"{__name__}:TensorBoard",
    "mlflow": "ray.air.integrations.mlflow:MLflowLoggerCallback",
    "wandb": "ray.air.integrations.wandb:WandbLoggerCallback",
}


def callbacks_of(loggers: Mapping[str, Mapping[str, Any]], folder: Path, study: str) -> list[tune.Callback]:
    """The callbacks that a study asks for.

    Args:
        loggers: name, or package:Class of a ``ray.tune.Callback``, -> its options.
        folder: of the study.
        study: its name.

    Raises:
        StudyError: an unknown one, one whose package is missing, or options that it does not take.
    """
    defaults: dict[str, dict[str, Any]] = {
        "tensorboard": {"folder": folder / "tensorboard"},
        "mlflow": {"tracking_uri": (folder / "mlruns").as_uri(), "experiment_name": study},
        "wandb": {"project": study},
    }
    return [_made(name, {**defaults.get(name, {}), **options}) for name, options in loggers.items()]


def _made(name: str, options: dict[str, Any]) -> tune.Callback:
    where, full = f"[loggers] {name}", NAMED.get(name, name)
    if ":" not in full:
        raise StudyError(f"{where}: is unknown; {did_you_mean(name, NAMED)}, or package:Class of a Ray Tune callback")
    try:
        made_of: type[tune.Callback] = class_of(full, tune.Callback)
    except InputError as error:
        raise StudyError(f"{where}: {error}") from error
    try:
        return made_of(**options)
    except (ImportError, RuntimeError) as error:  # Ray's own say so where the package they need is missing
        raise StudyError(f"{where}: cannot be used; `pip install {name}`? ({one_line(error)})") from error
    except (TypeError, ValueError) as error:
        known = ", ".join(inspect.signature(made_of).parameters)
        raise StudyError(f"{where}: {one_line(error)}; it takes {known or 'no options'}") from error
