import itertools
import json
import re
import tomllib

import numpy as np
import pytest
from pydantic import ValidationError

from dftune.platform.spec import SpecError, StudySpec
from dftune.searchers.grid_search import LevelGrid
from dftune.searchers.oat_search import OatOptions, OatSearch
from dftune.searchers.space import (
    SPACE,
    Choice,
    Float,
    Int,
    active,
    checked,
    complete,
    draw,
    levels_of,
    probes,
    seen_by,
)
from dftune.tests.places import ROOT
from dftune.trainables.ldos.config import SurrogateConfig

RNG = np.random.default_rng(0)
UNIT = RNG.random(4000)


def test_a_linear_float_is_drawn_evenly():
    from scipy.stats import kstest

    values = Float(low=-2, high=6)
    assert kstest([values.from_unit(u) for u in UNIT], "uniform", args=(-2, 8)).pvalue > 0.01


def test_a_logarithmic_float_is_drawn_evenly_over_its_logarithm():
    from scipy.stats import kstest

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


# a -> b -> c: c exists only where b does, which exists only where a is 2 or 3.
CHAIN = {
    "a": Int(low=1, high=3),
    "b": Choice(values=("p", "q"), when={"a": (2, 3)}),
    "x": Float(low=0, high=1, n_levels=3),
    "c": Int(low=0, high=9, levels=(0, 2, 5), when={"b": ("q",), "a": (3,)}),
}


def names_in_chain(config):
    """By hand: the names of a config of CHAIN."""
    b = ["b"] if config["a"] >= 2 else []
    c = ["c"] if b and config["a"] == 3 and config["b"] == "q" else []
    return ["a", *b, "x", *c]


def test_levels_span_the_range_in_order():
    assert Int(low=16, high=256, log=True, n_levels=5).grid_values == [16, 32, 64, 128, 256]
    assert Int(low=1, high=3, n_levels=8).grid_values == [1, 2, 3]
    assert Float(low=0, high=1, n_levels=3).grid_values == [0.0, 0.5, 1.0]
    assert Choice(values=("b", "a")).grid_values == ["b", "a"]
    assert Float(low=0.3, high=0.3, log=True).grid_values == [0.3]


def test_without_a_word_on_levels_there_are_four_with_the_ends_among_them():
    assert Int(low=1, high=10).grid_values == [1, 4, 7, 10]
    assert Float(low=1e-4, high=1e-1, log=True).grid_values == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])


def test_levels_can_be_given_one_by_one():
    space = SPACE.validate_python(
        {
            "n": {"type": "int", "low": 16, "high": 256, "levels": [16, 32, 200]},
            "x": {"type": "float", "low": 0, "high": 1, "log": False, "levels": [0.5]},
        }
    )
    assert levels_of(space) == {"n": [16, 32, 200], "x": [0.5]}
    assert {space["n"].from_unit(u) for u in UNIT} == set(range(16, 257)), "draws are from the whole range"


def test_a_space_is_the_same_after_the_ledger():
    space = {
        "n_layers": Int(low=1, high=3),
        "width": CHAIN["c"].model_copy(update={"low": 1, "levels": (2, 5), "when": {"n_layers": (3,)}}),
    }
    spec = StudySpec.of({"name": "a", "dataset": "b", "kind": "ldos", "method": "random", "space": space})
    again = StudySpec.of(json.loads(spec.model_dump_json()))
    assert again.space == spec.space == space
    assert again == spec


@pytest.mark.parametrize("seed", range(3))
def test_a_config_has_the_names_that_exist_in_the_order_of_the_space(seed):
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(60):
        config = draw(CHAIN, rng)
        assert list(config) == names_in_chain(config)
        seen.add(tuple(config))
    assert seen == {("a", "x"), ("a", "b", "x"), ("a", "b", "x", "c")}


def test_a_draw_takes_one_random_number_a_name_whatever_exists():
    rng, counted = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(20):
        draw(CHAIN, rng)
        counted.random(len(CHAIN))
    assert rng.random() == counted.random()


def test_a_point_of_a_config_has_all_names_and_leads_back_to_it():
    for point in itertools.product((1, 2, 3), "pq", (0.0, 1.0), (0, 2, 5)):
        config = active(CHAIN, dict(zip(CHAIN, point, strict=True)))
        full = complete(CHAIN, config)
        assert list(full) == list(CHAIN)
        assert active(CHAIN, full) == config
        assert all(full[name] == value for name, value in config.items())
    assert complete(CHAIN, {"a": 1, "x": 0.25}) == {"a": 1, "b": "q", "x": 0.25, "c": 2}, "the rest at its middle level"


def test_the_configs_that_check_a_space_try_every_end_under_every_condition():
    tried = list(probes(CHAIN))
    assert all(list(config) == names_in_chain(config) for config in tried)
    assert {config["c"] for config in tried if "c" in config} == {0, 9, 3}
    assert {config["a"] for config in tried if "b" in config} == {2, 3}
    assert {config["b"] for config in tried if "b" in config} == {"p", "q"}


@pytest.mark.parametrize(
    "when, text",
    [
        ({"aa": (1,)}, "when of 'new' names 'aa', which is not in the space; did you mean 'a'?"),
        ({"z": (1,)}, "when of 'new' names 'z', which is not in the space; there are a, b, x, c, new, late"),
        ({"late": (1,)}, "when of 'new' names 'late', which must stand before it; move 'new' down"),
        ({"new": (1,)}, "when of 'new' names 'new', which must stand before it; move 'new' down"),
        ({"x": (0.5,)}, "when of 'new' names 'x', a float; a condition needs an int or a choice"),
        ({"a": (2, 4)}, "when of 'new' names 'a' with the value 4, which it never has; it has 1 to 3"),
        ({"a": (2.0,)}, "with the value 2.0, which it never has"),
        ({"b": ("r",)}, "when of 'new' names 'b' with the value 'r', which it never has; it has p, q"),
        ({"a": (1,), "b": ("p",)}, "'new' never exists: its conditions, and theirs, leave no value for 'a'"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(when, text):
    space = CHAIN | {"new": Int(low=1, high=2, when=when), "late": Int(low=1, high=2)}
    with pytest.raises(ValueError, match=re.escape(text)):
        checked(space)


def test_a_study_file_says_which_condition_cannot_hold():
    space = {"n_layers": {"type": "int", "low": 1, "high": 3}}
    width = {"type": "int", "low": 8, "high": 16, "when": {"n_layer": [2, 3]}}
    text = "[space]: when of 'width_2' names 'n_layer', which is not in the space; did you mean 'n_layers'?"
    with pytest.raises(SpecError, match=re.escape(text)):
        StudySpec.of({"name": "s", "dataset": "d", "space": space | {"width_2": width}})


def layers(when=None, most=3, **config):
    """A study of up to ``most`` layers; ``when``: the numbers of layers for which the third has a width of its own."""
    width = {"type": "int", "low": 8, "high": 16} | ({"when": {"n_layers": when}} if when else {})
    space = {"n_layers": {"type": "int", "low": 1, "high": most}} | ({} if config else {"width_3": width})
    return {"name": "s", "dataset": "d", "space": space, "config": config}


@pytest.mark.parametrize(
    "values, n", [(layers(), 1), (layers([2, 3]), 2), (layers([8, 2], 9), 2), (layers(width_3=8), 1)]
)
def test_a_width_of_a_layer_that_some_networks_have_not_needs_a_condition(values, n):
    assert StudySpec.of(layers([3]))
    text = f"[space] or [config]: 'width_3' is of a layer that a network with n_layers = {n} has not"
    with pytest.raises(SpecError, match=re.escape(text)):
        StudySpec.of(values)


def test_widths_in_the_config_leave_none_to_vary():
    with pytest.raises(SpecError, match=r"widths in \[config\] leaves 'n_layers' in \[space\] without a use"):
        StudySpec.of({"name": "s", "dataset": "d", "config": {"widths": [8, 8]}})


def test_the_documented_space_is_as_its_page_says():
    page = (ROOT / "docs" / "search_space.md").read_text(encoding="utf-8")
    study = tomllib.loads(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    spec = StudySpec.of({"name": "s", "dataset": "d", **study})
    assert f"has {LevelGrid(spec.space).size:,} configs on its levels" in page
    assert f"its orthogonal array has {len(OatSearch(spec.space, 0, OatOptions())._rows)} runs" in page
    rows = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", page.split("## The hyperparameters")[1], re.MULTILINE)
    described = {name for row in rows for name in row} | {"widths"}
    assert set(SurrogateConfig.model_fields) <= described
    assert set(spec.space) | set(spec.config) <= described | {"width_2", "width_3"}
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    assert checked(names["space"])


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
        ({"type": "int", "low": "1", "high": 2}, "should be a valid integer"),
        ({"type": "int", "low": True, "high": 2}, "should be a valid integer"),
        ({"type": "int", "low": 1.0, "high": 2}, "should be a valid integer"),
        ({"type": "int", "low": 1, "high": 10**400}, "should be less than or equal to 9007199254740992"),
        ({"type": "float", "low": "1", "high": 2}, "should be a valid number"),
        ({"type": "float", "low": True, "high": 2}, "should be a valid number"),
        ({"type": "float", "low": 1, "high": 2, "log": 1}, "should be a valid boolean"),
        ({"type": "float", "low": 1, "high": 2, "n_levels": "3"}, "should be a valid integer"),
        ({"type": "choice", "values": [1, True]}, "needs a number or a text"),
        ({"type": "choice", "values": [[1]]}, "needs a number or a text"),
        ({"type": "choice", "values": [float("nan")]}, "must be finite"),
        ({"type": "choice", "values": "ab"}, "needs a list"),
        ({"type": "int", "low": 1, "high": 9, "levels": [1, 2], "n_levels": 2}, "levels or n_levels, not both"),
        ({"type": "int", "low": 1, "high": 9, "levels": [2, 1]}, "levels must rise"),
        ({"type": "int", "low": 1, "high": 9, "levels": [2, 2]}, "levels must rise"),
        ({"type": "int", "low": 1, "high": 9, "levels": [2, 10]}, "levels must lie between low (1) and high (9)"),
        ({"type": "float", "low": 1, "high": 9, "levels": [0.5]}, "levels must lie between low (1) and high (9)"),
        ({"type": "float", "low": 1, "high": 9, "levels": []}, "at least 1 item"),
        ({"type": "float", "low": 1, "high": 9, "levels": [2, "3"]}, "should be a valid number"),
        ({"type": "float", "low": 1, "high": 9, "levels": 3}, "needs a list"),
        ({"type": "int", "low": 1, "high": 2, "when": {"a": 2}}, "needs a list"),
        ({"type": "int", "low": 1, "high": 2, "when": {"a": []}}, "at least 1 item"),
        ({"type": "int", "low": 1, "high": 2, "when": {"a": [True]}}, "needs a number or a text"),
    ],
)
def test_a_wrong_range_is_refused(values, text):
    with pytest.raises(ValidationError, match=re.escape(text)):
        SPACE.validate_python({"x": values})


def test_what_a_function_sees_is_found_by_changing_one_hyperparameter_at_a_time():
    space = {
        "n_layers": Int(low=1, high=3),
        "width_3": Int(low=16, high=256, when={"n_layers": (3,)}),
        "optimizer": Choice(values=("adam", "adamw")),
        "decay": Float(low=0, high=1, when={"optimizer": ("adamw",)}),
        "middle": Int(low=0, high=10),
        "rate": Float(low=0, high=1),
    }
    assert seen_by(space, lambda config: config["n_layers"]) == ["n_layers"]
    assert seen_by(space, lambda config: config.get("width_3")) == ["n_layers", "width_3"]
    assert seen_by(space, lambda config: config.get("decay")) == ["optimizer", "decay"]
    assert seen_by(space, lambda config: config["middle"] in (0, 10)) == ["middle"], "not its ends alone"
    assert seen_by(space, lambda config: config["n_layers"] * (config["optimizer"] == "adamw")) == [
        "n_layers",
        "optimizer",
    ]
    assert seen_by(space, lambda config: 0) == []
    assert seen_by(space, lambda config: tuple(config.items())) == list(space)
