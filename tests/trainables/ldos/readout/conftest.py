import numpy as np
import pytest

from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

CHEAP = BispectrumSettings(cutoff=3.0, two_j_max=4)


@pytest.fixture(scope="session")
def data(al4):
    """Three snapshots to train on, one to validate with, on their whole grids; not to be changed."""

    def described(name):
        s = al4[name]
        values = bispectrum(s.cell, s.positions, s.numbers, s.grid, CHEAP)
        shards = [values[:5000], values[5000:]], [(ldos := al4.ldos(s).array())[:5000], ldos[5000:]]
        for shard in (*shards[0], *shards[1]):
            shard.flags.writeable = False
        return SnapshotData(s, *shards)

    snapshots = [described(name) for name in ("000", "001", "002", "006")]
    about = (al4.info.energy_grid, Scaling.fit(snapshots[:3]), CHEAP, al4.info.species, al4.info.dft)
    return TrainingData(snapshots[:3], snapshots[3:], *about)


@pytest.fixture
def rng():
    return np.random.default_rng(14)
