"""Snapshots with other descriptors than the dataset's: those of configs that choose their own.  Lengths in Å.

They are computed where they are needed, and kept for the next config of the process that wants the same.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.snapshot import Snapshot
from ..descriptors.bispectrum import bispectrum
from ..descriptors.settings import BispectrumSettings
from .places import Here
from .training_data import Scaling, SnapshotData, TrainingData

KEPT = 2**30  # bytes

_kept: OrderedDict[tuple[object, ...], NDArray[np.float32]] = OrderedDict()
_keeping = Lock()


def described(data: TrainingData, settings: BispectrumSettings) -> TrainingData:
    """Training data with other descriptors, scaled anew.

    All of them are in this process: descriptors of settings that a study holds at one value lie where its nodes are.

    Raises:
        InputError: as ``bispectrum``.
    """
    train, validation = (with_descriptors(part, settings) for part in (data.train, data.validation))
    scaling = Scaling.fit(train)
    return replace(data, train=train, validation=validation, scaling=scaling, descriptors=settings, places=Here())


def with_descriptors(snapshots: Sequence[SnapshotData], settings: BispectrumSettings) -> list[SnapshotData]:
    """Snapshots with other descriptors, in shards of the same points as their LDOS.  Errors as ``described``."""
    found = []
    for d in snapshots:
        values, ends = _of(d.snapshot, settings), accumulate(map(len, d.ldos), initial=0)
        found.append(replace(d, descriptors=[values[start:end] for start, end in pairwise(ends)]))
    return found


def _of(s: Snapshot, settings: BispectrumSettings) -> NDArray[np.float32]:
    key = (s.cell.tobytes(), s.positions.tobytes(), s.numbers.tobytes(), s.grid, settings.key)
    with _keeping:
        if key in _kept:
            _kept.move_to_end(key)  # the last one goes last
            return _kept[key]
    threads = torch.get_num_threads()
    values: NDArray[np.float32] = bispectrum(s.cell, s.positions, s.numbers, s.grid, settings, threads=threads)
    with _keeping:
        _kept[key] = values
        while sum(some.nbytes for some in _kept.values()) > KEPT:
            _kept.popitem(last=False)
    return values
