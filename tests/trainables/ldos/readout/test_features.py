"""Random hidden layers as a config asks for them."""

import numpy as np
import pytest

from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.readout.features import random_network

ABOUT = {"training": "none", "n_layers": 2, "width": 400}


def drawn(seeds=(3, 4), **values):
    network = random_network(SurrogateConfig.of(ABOUT | values), 50, 7, list(seeds))
    return [w.detach().numpy() for w in network.weights]


def test_by_default_hidden_layers_are_those_of_any_network():
    plain = [w.detach().numpy() for w in Network(SurrogateConfig.of(ABOUT), 50, 7, [3, 4]).weights]
    assert all(np.array_equal(a, b) for a, b in zip(drawn(), plain, strict=True))


def test_a_neuron_sees_a_share_of_what_is_before_it_and_receives_as_much():
    full, sparse = drawn(), drawn(connected=0.3)
    for a, b in zip(full[:-1], sparse[:-1], strict=True):
        kept = b != 0
        assert kept.mean() == pytest.approx(0.3, abs=0.01)
        np.testing.assert_allclose(b[kept], a[kept] / 0.3**0.5, rtol=1e-6)
        assert np.square(b).sum() == pytest.approx(np.square(a).sum(), rel=0.05), "the variance of what it receives"
        assert np.corrcoef(kept.ravel(), np.abs(a).ravel())[0, 1] == pytest.approx(0, abs=0.03), "large or small"
    np.testing.assert_array_equal(sparse[-1], full[-1])


def test_a_seed_decides_alone_who_sees_whom():
    both, alone = drawn(connected=0.3), drawn(seeds=[4], connected=0.3)
    assert all(np.array_equal(a[1:], b) for a, b in zip(both, alone, strict=True))
    assert not np.array_equal(both[0][0] == 0, both[0][1] == 0)
