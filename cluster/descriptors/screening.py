"""The descriptor screen on the cluster: one Ray task a setting, small results back as they come."""

from collections.abc import Iterator, Sequence

import ray

from ...trainables.data.dataset import Dataset
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.ldos.config import SurrogateConfig
from ...trainables.ldos.descriptor_screen import Sample, SettingScores, score_setting
from ..resources import MemoryShare, slots
from ..tasks import as_done


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
    for number, scores in as_done(score_setting, dearest_first, shared, name=_name):
        yield dearest_first[number], scores


def train_settings(
    dataset: Dataset, settings: Sequence[BispectrumSettings], config: SurrogateConfig, seeds: Sequence[int]
) -> Iterator[tuple[BispectrumSettings, list[float] | str]]:
    """Best validation loss of each initialisation, or why all failed, for each setting as it is done.

    The descriptors must be in the dataset.  Errors as ``score_settings``.
    """
    share = MemoryShare.of_trials(None, 1, 0, slots(1))
    for number, losses in as_done(_train, settings, dataset.location, config, list(seeds), share, name=_name):
        yield settings[number], losses


def _name(settings: BispectrumSettings) -> str:
    return f"descriptors with {settings}"


def _train(
    settings: BispectrumSettings, dataset: str, config: SurrogateConfig, seeds: list[int], share: MemoryShare
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
