"""`dftune data generate` of configurations on a lattice, by a stand-in for LSMS."""

import json

import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.places import ROOT
from dftune.tests.trainables.alloys.lsms_stand_in import record, stand_in
from dftune.trainables.alloys.data import AlloyData

SPEC = """
kind = "alloys"
symbols = ["Cu", "Au"]
lattice = "sites.xyz"
[configurations]
species = ["{species}"]
[lsms]
command = "{command}"
potentials = {{Cu = "v", Au = "v"}}
zone = 3.969
"""


def generate(*arguments, code=0):
    result = CliRunner().invoke(cli, ["data", "generate", *map(str, arguments)], prog_name="dftune")
    assert result.exit_code == code, result.output
    return result


def test_a_kind_that_is_not_computed_here_is_said(tmp_path):
    (tmp_path / "x.toml").write_text('kind = "clouds"\n')
    assert "there is no kind of surrogates 'clouds'" in generate(tmp_path / "x.toml", tmp_path / "x", code=1).stderr


def test_a_missing_program_is_said_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = AlloyData.open(ROOT / "examples" / "alloys" / "CuAu")
    data.info.lattice.atoms(["Cu"] * 32).write(tmp_path / "sites.xyz", format="extxyz")
    (tmp_path / "v").write_text("given")
    (tmp_path / "x.toml").write_text(SPEC.format(species="01" * 16, command="no-lsms"))
    assert "no-lsms is not found on" in generate(tmp_path / "x.toml", tmp_path / "x", code=1).stderr
    assert not (tmp_path / "x.runs").exists()


@pytest.mark.ray
def test_configurations_are_computed_as_tasks_and_a_second_time_not_at_all(local_ray, tmp_path):
    data = AlloyData.open(ROOT / "examples" / "alloys" / "CuAu")
    record(data, tmp_path / "recorded", range(len(data.all)))
    data.info.lattice.atoms(["Cu"] * 32).write(tmp_path / "sites.xyz", format="extxyz")
    (tmp_path / "v").write_text("given")
    species = "".join(str(kind) for kind in data.all.species[70])
    command = stand_in(tmp_path, "well", tmp_path / "recorded")
    (tmp_path / "x.toml").write_text(SPEC.format(species=species, command=command))
    shown = generate(tmp_path / "x.toml", tmp_path / "x", "--json")
    (made,) = json.loads(shown.stdout)["datasets"]
    assert len(made["snapshots"]) == 3
    assert "lsms: 3 of 3" in shown.stderr
    (tmp_path / "x").rename(tmp_path / "z")
    command.write_text("#!/bin/false\n")
    assert "3 configurations in" in generate(tmp_path / "x.toml", tmp_path / "x").stdout
