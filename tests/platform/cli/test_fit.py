"""`dftune fit`: what it takes."""

import pytest
from click.testing import CliRunner

from dftune.platform.cli.fit import tables_of
from dftune.platform.cli.main import cli


def test_settings_are_keys_of_a_study_file():
    asked = ["descriptors.cutoff=3.0", "config.width = 512", "config.activation=silu", "method=none", "a.b=[1, 2]"]
    assert tables_of(asked) == {
        "descriptors": {"cutoff": 3.0},
        "config": {"width": 512, "activation": "silu"},
        "method": "none",
        "a": {"b": [1, 2]},
    }


@pytest.mark.parametrize(
    "setting, text",
    [
        ("cutoff", "'cutoff' is not KEY=VALUE"),
        ("=3", "'=3' is not KEY=VALUE"),
        ("config.=3", "'config.=3' is not KEY=VALUE"),
        ("descriptors.cutof=3.0", "unknown key 'descriptors.cutof'; did you mean 'cutoff'?"),
        ("config.with=3", "unknown hyperparameter 'with'; did you mean 'width'?"),
        ("descriptors.cutoff=near", "key 'descriptors.cutoff'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(setting, text, tmp_path, al4):
    found = CliRunner().invoke(cli, ["fit", str(al4), str(tmp_path / "m"), "--set", setting], prog_name="dftune")
    assert found.exit_code != 0
    assert text in found.output
    assert "Traceback" not in found.output
    assert list(tmp_path.iterdir()) == []


def test_a_value_is_no_table():
    found = CliRunner().invoke(cli, ["fit", ".", "m", "--set", "a=1", "--set", "a.b=2"], prog_name="dftune")
    assert "'a.b=2': a has a value already" in found.output
