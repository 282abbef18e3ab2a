"""Configs that choose their own descriptors."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dftune.tests.small_model import as_test
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import InputError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos import described
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.training_data import Scaling, SnapshotData

KIND = KINDS["ldos"]
BASE = BispectrumSettings(cutoff=3.0, two_j_max=4)
WITHOUT_TRAINING = {"training": "none", "width": 16, "penalty": 1.0}
OWN = {"cutoff": 3.2, "inner_share": 0.75, "two_j_max": 2}
SETTINGS = BispectrumSettings(cutoff=3.2, inner=[2.4], two_j_max=2)


def trained(data, **values):
    config = SurrogateConfig.of(WITHOUT_TRAINING | values)
    return KIND.train(config, data, seeds=[1], device="cpu", memory=math.inf, report=lambda epoch: None)


@pytest.fixture(scope="module")
def small(data):
    """One snapshot to train on, one to validate with."""
    return replace(data, train=data.train[1:2], scaling=Scaling.fit(data.train[1:2]))


def test_a_config_with_its_own_cutoffs_learns_and_is_judged_as_on_data_described_so(small, al4):
    def again(d):
        s = d.snapshot
        values = bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS)
        return SnapshotData(s, np.split(values, [5000]), d.ldos)

    train, validation = ([again(d) for d in part] for part in (small.train, small.validation))
    by_hand = replace(small, train=train, validation=validation, scaling=Scaling.fit(train), descriptors=SETTINGS)
    ours, theirs = trained(small, **OWN), trained(by_hand)
    for name, weights in theirs.network.arrays().items():
        np.testing.assert_array_equal(ours.network.arrays()[name], weights)
    accuracies = [
        KIND.judge(ours, small, as_test(small.validation)).accuracy,
        KIND.judge(theirs, by_hand, as_test(validation)).accuracy,
    ]
    assert accuracies[0].to_dict() == accuracies[1].to_dict()
    assert accuracies[0].splits["test"]["forces_mae"] > 0
    assert KIND.card("s", al4, BASE, SurrogateConfig.of(OWN), [1], accuracies[0]).descriptors == SETTINGS


def test_descriptors_are_computed_once_for_all_configs_that_want_them(small, monkeypatch):
    described.described(small, SETTINGS)
    monkeypatch.setattr(described, "bispectrum", None)
    assert described.described(small, SETTINGS).train[0].descriptors[0].shape == (5000, SETTINGS.n_components)
    with pytest.raises(TypeError):
        described.described(small, BASE.model_copy(update={"cutoff": 2.9}))


@pytest.mark.parametrize("own, n", [({}, 14), (OWN, 10), ({"two_j_max": 8}, 55), ({"inner_share": 0.5}, 28)], ids=str)
def test_forecasts_know_how_many_numbers_a_config_asks_for(al4, own, n):
    config = SurrogateConfig.of(own)
    assert config.n_in(KIND.sizes(al4, BASE)) == n == config.descriptors(BASE).n_components


def test_without_an_own_share_the_cutoffs_of_the_study_stay():
    both = BispectrumSettings(cutoff=4.0, two_j_max=4, inner=[3.0])
    assert SurrogateConfig.of({}).descriptors(both) == both
    assert SurrogateConfig.of({"inner_share": 0}).descriptors(both).inner == ()
    with pytest.raises(InputError, match=r"inner cutoffs must be above 0 and below the cutoff of 2 Å"):
        SurrogateConfig.of({"cutoff": 2.0}).descriptors(both)
