"""What a study file gets to hear of a wrong value: the key as its author wrote it, and no guess at what was meant."""

import numpy as np
import pytest
from pydantic import BaseModel

from dftune.platform.spec import SpecError, StudySpec
from dftune.platform.tables import WrongType, refuse_text_for_numbers


def refused(**values) -> str:
    with pytest.raises(SpecError) as error:
        StudySpec.of({"name": "keys", "dataset": "/nowhere", **values})
    return str(error.value)


@pytest.mark.parametrize(
    "values, key",
    [
        ({"space": {"n_layers": {"type": "int", "low": 5, "high": 3}}}, "'space.n_layers'"),
        ({"space": {"float": {"type": "float", "low": "a", "high": 3}}}, "'space.float.low'"),
        ({"space": {"n_layers": {"type": "choice", "values": [[1]]}}}, "'space.n_layers.values.0'"),
        ({"space": {"n_layers": {"type": "int", "lows": 5, "high": 3}}}, "'space.n_layers.lows'"),
        ({"loggers": {"tensorboard": 3}}, "'loggers.tensorboard'"),
    ],
)
def test_a_key_is_the_users_without_the_types_that_were_tried(values, key):
    assert f"key {key}" in refused(**values)


@pytest.mark.parametrize(
    "values, key",
    [
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"trials": "50"}, "trials"),
        ({"initializations": True}, "initializations"),
        ({"tolerance": "0.1"}, "tolerance"),
        ({"resources": {"cpus": "2"}}, "resources.cpus"),
        ({"resources": {"memory": True}}, "resources.memory"),
        ({"budget": {"grid_points": "7"}}, "budget.grid_points"),
        ({"compare": {"seeds": [0, "1"]}}, "compare.seeds"),
        ({"compare": {"budget": {"seconds": "7"}}}, "compare.budget.seconds"),
        ({"descriptors": {"cutoff": "4"}}, "descriptors.cutoff"),
        ({"method": "rfr", "options": {"top": "5"}}, "top"),
        ({"scheduler": {"type": "asha", "grace_epochs": "3"}}, "scheduler.grace_epochs"),
    ],
)
def test_a_text_or_true_is_no_number(values, key):
    assert f"key '{key}': needs a number, got " in refused(**values)


def test_numbers_are_numbers_and_texts_that_are_meant_stay():
    refuse_text_for_numbers(StudySpec, {"seed": np.int64(3), "tolerance": 1, "config": {"activation": "relu"}})
    refuse_text_for_numbers(StudySpec, {"resources": {"gpus": "auto"}, "options": {"direction": "auto"}, "name": "7"})


def test_a_foreign_table_is_looked_at_as_well():
    class Inner(BaseModel):
        sizes: tuple[int, ...] | None = None

    class Table(BaseModel):
        inner: Inner = Inner()
        on: bool = True

    refuse_text_for_numbers(Table, {"on": True, "inner": {"sizes": [1, 2]}})
    with pytest.raises(WrongType, match=r"'inner\.sizes'"):
        refuse_text_for_numbers(Table, {"inner": {"sizes": [1, "2"]}})


def test_a_study_file_may_begin_with_a_byte_order_mark(tmp_path):
    text = 'name = "keys"\ndataset = "/nowhere"\n'
    (tmp_path / "plain.toml").write_text(text, encoding="utf-8")
    (tmp_path / "marked.toml").write_text(text, encoding="utf-8-sig")
    assert StudySpec.read(tmp_path / "marked.toml") == StudySpec.read(tmp_path / "plain.toml")


@pytest.mark.parametrize(
    "content", [b"name = \xff", b"[" * 100_000, b"name = 1\nname = 2", b"\0", b"a = " + b"[" * 9999]
)
def test_a_study_file_that_is_none_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "study.toml").write_bytes(content)
    with pytest.raises(SpecError) as error:
        StudySpec.read(tmp_path / "study.toml")
    assert str(error.value).startswith(f"{tmp_path / 'study.toml'}: ")
