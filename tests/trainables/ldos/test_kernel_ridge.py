"""Closed-form kernel ridge against its formula written out pair by pair, and its limits."""

from functools import cache

import numpy as np
import pytest

from dftune.trainables.errors import InputError
from dftune.trainables.ldos.kernel_ridge import fit
from dftune.trainables.ldos.training_data import MiniBatch


def batch(n: int, seed: int, noise: float = 0.0) -> MiniBatch:
    """A smooth function of three numbers, standardised, at two energies."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = np.stack([np.sin(x[:, 0]) * x[:, 1], np.cos(x @ [0.5, 1.0, -0.5])], axis=1) + noise * rng.normal(size=(n, 2))
    return MiniBatch(x.astype(np.float32), y.astype(np.float32))


TRAIN, UNSEEN = batch(200, 0), batch(80, 1)


@cache
def kernels(width):
    """Of the unseen points, and of the training points, with the training points."""
    x = TRAIN.descriptors.astype(float)
    return [
        np.array([[np.exp(-np.sum((p - q) ** 2) / (2 * 3 * width**2)) for q in x] for p in some])
        for some in (UNSEEN.descriptors.astype(float), x)
    ]


@pytest.mark.parametrize("width", [0.5, 2.0])
@pytest.mark.parametrize("penalty", [1e-6, 1e-1])
def test_the_fit_is_the_closed_form_written_out_pair_by_pair(width, penalty):
    unseen, own = kernels(width)
    expected = unseen @ np.linalg.inv(own + penalty * np.eye(len(own))) @ TRAIN.ldos.astype(float)
    ridge = fit(TRAIN, UNSEEN, widths=(width,), penalties=(penalty,))
    np.testing.assert_allclose(ridge.predict(UNSEEN.descriptors), expected, atol=1e-7)
    true = UNSEEN.ldos.astype(float)
    r_squared = 1 - np.sum((expected - true) ** 2) / np.sum((true - true.mean(axis=0)) ** 2)
    assert ridge.error == pytest.approx(1 - r_squared, rel=1e-5)


def test_without_penalty_it_goes_through_the_training_points_and_with_much_it_predicts_zero():
    tight, loose = (fit(TRAIN, UNSEEN, widths=(1.0,), penalties=(p,)) for p in (1e-10, 1e8))
    np.testing.assert_allclose(tight.predict(TRAIN.descriptors), TRAIN.ldos, atol=1e-4)
    assert np.abs(loose.predict(TRAIN.descriptors)).max() < 1e-5


def test_the_validation_points_choose_width_and_penalty():
    chosen = fit(TRAIN, UNSEEN)
    alone = [fit(TRAIN, UNSEEN, widths=(w,), penalties=(p,)) for w in (2.0, 8.0) for p in (1e-7, 1e-5, 1e-3)]
    best = min(alone, key=lambda ridge: ridge.error)
    assert (chosen.width, chosen.penalty, chosen.error) == (best.width, best.penalty, best.error)
    assert chosen.error < 1e-3 < max(ridge.error for ridge in alone)


def test_noise_asks_for_a_larger_penalty():
    options = {"widths": (1.0,), "penalties": (1e-7, 1e-5, 1e-3, 1e-1)}
    assert fit(batch(200, 2, noise=0.3), UNSEEN, **options).penalty > fit(TRAIN, UNSEEN, **options).penalty


def test_a_constant_ldos_is_refused():
    same = MiniBatch(UNSEEN.descriptors, np.ones_like(UNSEEN.ldos))
    with pytest.raises(InputError, match="the LDOS is the same at all validation points"):
        fit(TRAIN, same)
