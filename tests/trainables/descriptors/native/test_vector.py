import numba
import numpy as np
import pytest

from dftune.trainables.descriptors.native.vector import (
    WIDTH,
    add,
    below,
    fma,
    fnma,
    load,
    mul,
    splat,
    spread,
    store,
    sub,
)

A, B, C = np.random.default_rng(0).normal(size=(3, 2 * WIDTH))


def lanes(function, *arrays, begin=3):
    """``function`` of the vectors that begin at an odd place of the arrays: nothing may ask for alignment."""
    out = np.zeros(2 * WIDTH)
    numba.njit(function)(out, begin, *arrays)
    assert not out[:begin].any()
    assert not out[begin + WIDTH :].any()
    return out[begin : begin + WIDTH]


def _add(out, i, a, b):
    store(out, i, add(load(a, i), load(b, i)))


def _sub(out, i, a, b):
    store(out, i, sub(load(a, i), load(b, i)))


def _mul(out, i, a, b):
    store(out, i, mul(load(a, i), load(b, i)))


def _fma(out, i, a, b, c):
    store(out, i, fma(load(a, i), load(b, i), load(c, i)))


def _fnma(out, i, a, b, c):
    store(out, i, fnma(load(a, i), load(b, i), load(c, i)))


def _below(out, i, a, b, c):
    store(out, i, below(load(a, i), load(b, i), load(c, i)))


def _splat(out, i, a):
    store(out, i, splat(a[i]))


def _spread(out, i, a):
    store(out, i, spread(a.reshape(2, -1), i))


@pytest.mark.parametrize(
    "function, expected",
    [
        (_add, A + B),
        (_sub, A - B),
        (_mul, A * B),
        (_fma, A * B + C),
        (_fnma, C - A * B),
        (_below, np.where(A < B, C, 0.0)),
        (_splat, np.full(2 * WIDTH, A[3])),
        (_spread, np.full(2 * WIDTH, A[3])),
    ],
)
def test_each_lane_is_a_number_of_its_own(function, expected):
    arrays = (A, B, C)[: function.__code__.co_argcount - 2]
    np.testing.assert_allclose(lanes(function, *arrays), expected[3 : 3 + WIDTH], rtol=1e-15, atol=1e-15)


def test_fma_rounds_once():
    tiny = 2.0**-30
    a = np.full(2 * WIDTH, 1 + tiny)
    assert lanes(_fma, a, a, np.full(2 * WIDTH, -1 - 2 * tiny))[0] == tiny**2  # 0 if the product were rounded
