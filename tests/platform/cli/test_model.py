"""`dftune model predict` with a model that no study had to find."""

import json

import ase.build
import ase.io
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli


@pytest.fixture
def files(model, tmp_path):
    """A model folder and a structure."""
    model.save(tmp_path / "al.model")
    atoms = ase.build.bulk("Al", cubic=True, a=4.05)
    atoms.rattle(0.05, seed=1)
    ase.io.write(tmp_path / "al.xyz", atoms, format="extxyz")
    return tmp_path / "al.model", tmp_path / "al.xyz"


def predict(files, *options, code=0):
    arguments = ["model", "predict", *map(str, files), *map(str, options)]
    result = CliRunner().invoke(cli, arguments, prog_name="dftune")
    assert result.exit_code == code, result.output
    return result


def test_a_grid_can_be_given(files):
    (found,) = json.loads(predict(files, "--grid", 24, 20, 20, "--json").stdout)["predictions"]
    assert found["grid"] == [24, 20, 20]
    assert "a grid of 10 x 20 x 20 points cannot hold" in predict(files, "--grid", 10, 20, 20, code=1).stderr


def test_temperatures_give_a_table_and_all_digits_as_json(files):
    shown = predict((*files, files[1]), "--temperatures", "1000,5000").stdout
    assert shown.count("electrons at other temperatures, spread of 2 trainings of the heat capacity") == 2
    head = next(line for line in shown.splitlines() if "heat_capacity" in line)
    assert head.split()[:2] == ["temperature", "[K]"]
    assert "heat_capacity [k_B/atom]" in head
    given = json.loads(predict(files, "--temperatures", "1000,5000", "--json").stdout)
    found = given["predictions"][0]["heated"]
    assert [one["temperature"] for one in found] == [1000, 5000]
    assert given["units"]["heat_capacity"] == "eV/K"
    capacity = found[1]["heat_capacity"] / 8.617333262e-5 / 4
    assert f"{capacity:.5g}" in shown


@pytest.mark.parametrize(
    "given, said",
    [
        ("300;1000", "'300;1000' is not a list of temperatures as in 300,1000,5000"),
        ("1000,2", "2 K is below the 58 K that the energy grid of this model resolves"),
        ("1000,nan", "a temperature of nan K is none"),
        ("1000,30000", "at 30000 K the occupation is"),
    ],
)
def test_temperatures_that_cannot_be_are_refused(files, given, said):
    result = predict(files, "--temperatures", given, code=2 if ";" in given else 1)
    assert said in result.stderr


def test_a_table_of_predictions_says_what_the_spread_is(files, model):
    shown = predict((*files, files[1]))
    stated = model.card.accuracy.stated_error
    assert f"the spread of 2 trainings is no error bar; test error: {stated}" in shown.stderr
