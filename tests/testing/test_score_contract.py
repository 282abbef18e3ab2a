"""What every training-free score promises, and that the check of it can fail."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from dftune.testing import check_score
from dftune.tests.toy_kind import Numbers, Points, ToyConfig, ToyKind, rate
from dftune.trainables.kind import Score
from dftune.trainables.ldos.kind import LdosKind
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training_data import MiniBatch

TOY = ToyKind()


class GridPoints:
    """Standardised descriptors of 14 components, and an LDOS of 6 energies that depends on them."""

    def sample(self, n_points, rng):
        x = rng.normal(size=(n_points, 14)).astype(np.float32)
        y = np.sin(x @ np.random.default_rng(99).normal(size=(14, 6)) / 3)
        return MiniBatch(x, y.astype(np.float32))


@pytest.mark.parametrize("name", SCORES)
def test_every_score_of_an_ldos_network_keeps_the_contract(name):
    check_score(SCORES[name], LdosKind(), GridPoints())


@pytest.fixture
def points(numbers) -> Points:
    data = Numbers(str(numbers))
    return Points(data.split("train"), data.split("validation"))


def test_the_score_of_the_toy_kind_keeps_the_contract(points):
    check_score(TOY.scores["rate"], TOY, points)


def test_a_score_without_a_number_for_some_configs_keeps_the_contract(points):
    def of_small_rates(configs, batch, seed):
        return [c.rate if c.rate < 0.6 else float("nan") for c in configs]

    check_score(Score(of_small_rates, 2, "small rates", kind="toy"), TOY, points)


def one_too_few(configs, batch, seed):
    return rate(configs, batch, seed)[1:]


def infinite(configs, batch, seed):
    return [float("inf") for _ in configs]


def nothing(configs, batch, seed):
    return [float("nan") for _ in configs]


def not_plain(configs, batch, seed):
    return [np.float32(c.rate) for c in configs]


def at_random(configs, batch, seed):
    return list(np.random.default_rng().random(len(configs)))


def ranked(configs, batch, seed):
    return [c.rate + 0.1 * place for place, c in enumerate(configs)]


def relative(configs, batch, seed):
    return [c.rate / sum(other.rate for other in configs) for c in configs]


def of_the_epochs(configs, batch, seed):
    return [float(c.epochs) for c in configs]


def scaling(configs, batch, seed):
    batch *= 2
    return rate(configs, batch, seed)


def training(configs, batch, seed):
    for config in configs:
        config.epochs += 1
    return rate(configs, batch, seed)


class Locked:
    """Holds what no other process can have."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, configs, batch, seed):
        return rate(configs, batch, seed)


class ElsewhereOther:
    """Forgets its factor on the way."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __reduce__(self):
        return ElsewhereOther, ()

    def __call__(self, configs, batch, seed):
        return [self.factor * c.rate for c in configs]


@pytest.mark.parametrize(
    "function, text",
    [
        (one_too_few, "2 scores of 3 configs"),
        (infinite, "inf of .*; a score that cannot be formed is NaN"),
        (nothing, "it has a score for no config"),
        (not_plain, "is no plain number; take float"),
        (at_random, "with one seed .* has the scores"),
        (ranked, "with the configs in another order"),
        (relative, "among others, and .* alone"),
        (of_the_epochs, "but scores see the same of both"),
        (scaling, "it changes its mini-batch"),
        (training, "it changes its configs"),
        (Locked(), "it cannot be sent to another process: TypeError: cannot pickle"),
        (ElsewhereOther(2.0), "once it was sent"),
    ],
)
def test_the_contract_sees_each_fault(points, function, text):
    configs = [ToyConfig(rate=0.2), ToyConfig(rate=0.4), ToyConfig(rate=0.2, epochs=4)]
    with pytest.raises(AssertionError, match=text):
        check_score(Score(function, 3, "faulty", kind="toy"), TOY, points, configs)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"direction": "upwards"}, "direction 'upwards' is neither of published, learnt"),
        ({"label": ""}, "it needs a label"),
        ({"n_points": 0}, "a mini-batch of 0 points is none"),
        ({"kind": "ldos"}, "it says kind = 'ldos', and this one is 'toy'"),
    ],
)
def test_what_a_score_says_of_itself_is_checked(points, change, text):
    with pytest.raises(AssertionError, match=text):
        check_score(replace(TOY.scores["rate"], **change), TOY, points)


def test_a_function_alone_is_no_score(points):
    with pytest.raises(AssertionError, match="is no Score of"):
        check_score(rate, TOY, points)
