"""`dftune transition`, on a cluster and from the command line."""

import json
import time

import pytest
from click.testing import CliRunner

from dftune.cluster.tasks import as_done
from dftune.platform.cli.main import cli
from dftune.tests.places import ROOT
from dftune.trainables.errors import InputError


def transition(*arguments, code=0):
    result = CliRunner().invoke(cli, ["transition", *map(str, arguments)], prog_name="dftune")
    assert result.exit_code == code, result.output
    return result


def test_data_without_order_are_refused():
    assert "data of this kind have no order that is lost" in transition(ROOT / "examples" / "al4", code=1).stderr


@pytest.mark.ray
def test_a_table_becomes_a_temperature_with_an_interval_and_a_figure(local_ray, tmp_path):
    quick = ("--copies", 1, 1, 1, "--draws", 3, "--rounds", 100, "--configurations", 60, "--json")
    shown = transition(ROOT / "examples" / "alloys" / "CuAu", *quick, "--figure", tmp_path / "CuAu.png")
    found = json.loads(shown.stdout)
    low, high = found["interval"]
    assert 1000 < low <= high < 6000
    assert (found["n_configurations"], len(found["drawn"]), found["symbols"]) == (60, 3, ["Cu", "Au"])
    assert found["units"]["interval"] == "K"
    assert "simulate: 8 of 8" in shown.stderr
    assert (tmp_path / "CuAu.png").exists()


def _half(number):
    if number == 7:
        raise InputError("seven is odd")
    time.sleep(0.01 * number)
    return number / 2


@pytest.mark.ray
def test_tasks_come_back_as_they_are_done_and_an_error_ends_them(local_ray):
    assert sorted(as_done(_half, [4, 2, 6])) == [(0, 2.0), (1, 1.0), (2, 3.0)]
    waited = []
    assert list(as_done(_half, [150], meanwhile=lambda: waited.append(1))) == [(0, 75.0)]  # 1.5 s
    assert waited
    with pytest.raises(InputError, match=r"^seven is odd$"):
        list(as_done(_half, [2, 7, 4]))
