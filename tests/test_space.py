import re

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import kstest

from dftune.searchers.space import SPACE, Choice, Float, Int, draw

RNG = np.random.default_rng(0)
UNIT = RNG.random(4000)


def test_a_linear_float_is_drawn_evenly():
    values = Float(low=-2, high=6)
    assert kstest([values.from_unit(u) for u in UNIT], "uniform", args=(-2, 8)).pvalue > 0.01


def test_a_logarithmic_float_is_drawn_evenly_over_its_logarithm():
    # Linear sampling of a learning rate puts 90 % of the draws into the top decade.
    values = Float(low=1e-5, high=1e-1, log=True)
    assert kstest([np.log10(values.from_unit(u)) for u in UNIT], "uniform", args=(-5, 4)).pvalue > 0.01


@pytest.mark.parametrize("log", [False, True])
def test_an_int_reaches_both_ends_and_nothing_beyond(log):
    values = Int(low=1, high=5, log=log)
    assert {values.from_unit(u) for u in [*UNIT, 0.0, np.nextafter(1.0, 0.0)]} == {1, 2, 3, 4, 5}


def test_a_linear_int_is_drawn_evenly():
    counts = np.bincount([Int(low=0, high=7).from_unit(u) for u in UNIT], minlength=8)
    assert counts.min() > 0.8 * len(UNIT) / 8


def test_levels_span_the_range_in_order():
    assert Int(low=16, high=256, log=True, n_levels=5).grid_values == [16, 32, 64, 128, 256]
    assert Int(low=1, high=3, n_levels=8).grid_values == [1, 2, 3]
    assert Float(low=0, high=1, n_levels=3).grid_values == [0.0, 0.5, 1.0]
    assert Choice(values=("b", "a")).grid_values == ["b", "a"]
    assert Float(low=0.3, high=0.3, log=True).grid_values == [0.3]


def test_a_drawn_config_lies_in_the_space():
    space = {"n": Int(low=1, high=9), "x": Float(low=1e-3, high=1.0, log=True), "c": Choice(values=("p", "q"))}
    for seed in range(50):
        config = draw(space, np.random.default_rng(seed))
        assert list(config) == list(space)
        assert all(space[name].holds(value) for name, value in config.items())


@pytest.mark.parametrize(
    "values, text",
    [
        ({"type": "int", "low": 5, "high": 1}, "low (5) is above high (1)"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "needs low above 0"),
        ({"type": "float", "low": 0, "high": float("inf")}, "must be finite"),
        ({"type": "choice", "values": ["a", "a"]}, "must differ"),
        ({"type": "choice", "values": []}, "at least 1 item"),
        ({"type": "int", "low": 1, "high": 2, "lgo": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_range_is_refused(values, text):
    with pytest.raises(ValidationError, match=re.escape(text)):
        SPACE.validate_python({"x": values})
