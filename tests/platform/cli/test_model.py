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


def test_a_table_of_predictions_says_what_the_spread_is(files, model):
    shown = predict((*files, files[1]))
    stated = model.card.accuracy.stated_error
    assert f"the spread of 2 trainings is no error bar; test error: {stated}" in shown.stderr
