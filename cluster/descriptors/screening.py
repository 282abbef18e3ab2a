"""The descriptor screen on the cluster: one Ray task a setting, small results back as they come."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ...trainables.data.dataset import Dataset
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.errors import InputError, one_line
from ...trainables.ldos.config import SurrogateConfig
from ...trainables.ldos.descriptor_screen import Sample, SettingScores, score_setting
from ..resources import MemoryShare, slots


def score_settings(
    settings: Sequence[BispectrumSettings], sampled: Sample
) -> Iterator[tuple[BispectrumSettings, SettingScores]]:
    """Scores of each setting as it is done, the dearest started first; a worker has one setting at a time.

    Raises:
        InputError: the first setting that cannot be scored, and why.
        ClusterError: no node has a CPU.
    """
    shared = ray.put(sampled)
    dearest_first = sorted(settings, key=lambda s: (s.two_j_max, s.cutoff), reverse=True)
    yield from _as_done(_score, [(s, (s, shared)) for s in dearest_first])


def train_settings(
    dataset: Dataset, settings: Sequence[BispectrumSettings], config: SurrogateConfig, seeds: Sequence[int]
) -> Iterator[tuple[BispectrumSettings, list[float] | str]]:
    """Best validation loss of each initialisation, or why all failed, for each setting as it is done.

    The descriptors must be in the dataset.  Errors as ``score_settings``.
    """
    share = MemoryShare.of_trials(None, 1, 0, slots(1))
    yield from _as_done(_train, [(s, (dataset.location, s, config, list(seeds), share)) for s in settings])


@ray.remote(num_cpus=1)
def _score(settings: BispectrumSettings, sampled: Sample) -> SettingScores:
    return score_setting(settings, sampled)


@ray.remote(num_cpus=1)
def _train(
    dataset: str, settings: BispectrumSettings, config: SurrogateConfig, seeds: list[int], share: MemoryShare
) -> list[float] | str:
    import torch

    from ...trainables.kind import TrainingFailed
    from ...trainables.ldos.training import train
    from ...trainables.ldos.training_data import read_training_data

    torch.set_num_threads(1)  # of the one CPU
    try:
        data = read_training_data(Dataset.open(dataset), settings)
        trained = train(config, data, seeds=seeds, memory=share.bytes("cpu"))
    except TrainingFailed as error:
        return str(error)
    return list(trained.best_loss)


def _as_done(task: Any, work: Sequence[tuple[BispectrumSettings, tuple[Any, ...]]]) -> Iterator[tuple[Any, Any]]:
    """Run ``task`` on the arguments of each setting, as many at once as there are CPUs, and yield what is done."""
    at_once = slots(1)
    waiting, running = list(work), dict[ray.ObjectRef, BispectrumSettings]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                settings, arguments = waiting.pop(0)
                running[task.remote(*arguments)] = settings
            (done,), _ = ray.wait(list(running), num_returns=1)
            settings = running.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as error:
                raise InputError(f"descriptors with {settings}: {one_line(error.cause)}") from error
            except RayError as error:  # a lost node or a worker killed for memory, after Ray's own retries
                raise InputError(
                    f"descriptors with {settings}: the worker died ({one_line(error)[:200]}); run it again"
                ) from error
            yield settings, result
    finally:
        for ref in running:
            ray.cancel(ref, force=True)
