"""The public table of benchmarks/table: what is in the file, and that its script makes it."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.scores import SCORES

FOLDER = Path(__file__).parents[1] / "benchmarks" / "table"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_table", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(make):
    return pq.read_table(make.TABLE)


def test_the_table_has_the_columns_that_its_script_declares(make, table):
    assert table.schema.equals(make.SCHEMA, check_metadata=True)
    assert all(field.metadata[b"about"] for field in table.schema)
    assert make.TABLE.stat().st_size < 1_000_000
    words = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in words for name in [*make.SETS, *SCORES])


def test_every_config_of_the_list_stands_in_every_set_with_finite_values(make, table):
    rows = table.to_pylist()
    configs = make.configs()
    assert [(row["set"], row["config"]) for row in rows] == [(s, k) for s in make.SETS for k in range(len(configs))]
    for row in rows:
        assert {name: row[name] for name in make.SPACE} == pytest.approx(configs[row["config"]])
        for name, value in row.items():
            if isinstance(value, float):
                assert math.isfinite(value), name
            assert value is not None or name.endswith("_energy_mae"), name
        assert min(row[f"{way}_ldos_error"] for way in make.WAYS) > 0
        assert row["trained_readout_ldos_error"] < 1


def test_a_portfolio_is_chosen_without_the_material_that_it_is_judged_on(make, table):
    rows, name = table.to_pylist(), "trained_ldos_error"
    turned = [{**row, name: 1 / row[name]} if row["set"].startswith("al") else row for row in rows]
    before, after = (
        {one["left_out"]: one for one in make.portfolios(some) if one["value"] == name} for some in (rows, turned)
    )
    assert before["al4"]["first"] == after["al4"]["first"] != before["be4"]["first"]
    assert 1 <= before["al4"]["portfolio_1"] < 1.01 < 2 < after["al4"]["portfolio_1"]
    own = [row[name] for row in rows if row["set"] == "be4"]
    assert before["be4"]["portfolio_1"] == own[before["be4"]["first"][0]] / min(own)
    assert before["be4"]["random_1"] == pytest.approx(sum(own) / len(own) / min(own), rel=0.02)


@pytest.mark.slow
def test_the_script_makes_a_row_of_the_table_again(make, table):
    done = {("al4-example", k) for k in range(make.N_CONFIGS)} - {("al4-example", 1)}
    (row,) = make.rows(["al4-example"], done)
    for name, value in table.to_pylist()[1].items():
        if isinstance(value, float) and not name.endswith("_cpu_s"):
            assert row[name] == pytest.approx(value, rel=0.02), name
        elif not name.endswith("_cpu_s"):
            assert row[name] == value, name


@pytest.fixture
def tiny(make, described, monkeypatch, tmp_path):
    """A set with cheap descriptors, one epoch, and a table of its own."""
    one = replace(make.SETS["al4-example"], folder=described.path, settings=BispectrumSettings(cutoff=4.0, two_j_max=4))
    monkeypatch.setattr(make, "SETS", {"al4-example": one})
    monkeypatch.setattr(make, "FIXED", {"batch_size": 64, "epochs": 1})
    monkeypatch.setattr(make, "TABLE", tmp_path / "table.parquet")
    monkeypatch.setattr(make, "N_TEST", 1)
    return {"n_configs": 2, "n_train": 300, "n_validation": 60}


def test_a_killed_run_goes_on_and_a_row_is_the_same_again(make, tiny):
    first = next(make.rows(["al4-example"], set(), **tiny))
    make.write([first])
    found = make.read()
    rest = list(make.rows(["al4-example"], {(row["set"], row["config"]) for row in found}, **tiny))
    assert [row["config"] for row in rest] == [1]
    make.write([*rest, *found])
    assert [row["config"] for row in make.read()] == [0, 1]
    again = next(make.rows(["al4-example"], {("al4-example", 1)}, **tiny))
    same = {name: value for name, value in again.items() if not name.endswith("_cpu_s")}
    assert same == {name: first[name] for name in same}
    assert set(first) == set(make.SCHEMA.names)
    json.dumps(list(make.taus(make.read())))
