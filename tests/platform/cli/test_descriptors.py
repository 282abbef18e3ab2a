"""`dftune descriptors`: what is refused before anything starts, and the engines compared."""

import json
import re

import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.platform.cli.commands import refused, run
from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings


def test_descriptors_that_would_be_blind_are_refused_before_anything_starts(al4):
    assert "below the distance of the nearest atoms" in refused("descriptors", "compute", al4.path, "--cutoff", 2)
    assert "Mg do not know Al" in refused("descriptors", "compute", al4.path, "--weights", "Mg=1")
    assert "hide Al" in refused("descriptors", "compute", al4.path, "--weights", "Al=0", code=2)
    assert "below the distance of the nearest atoms" in refused("descriptors", "check", al4.path, "--cutoff", 2)
    assert "Al=1,Mg=0.7" in refused("descriptors", "check", al4.path, "--radii", "0.5", code=2)
    assert "names a species twice" in refused("descriptors", "check", al4.path, "--weights", "Al=1,Al=2", code=2)


def test_descriptors_of_another_setting_are_refused(fresh_al4):
    here = BispectrumSettings(cutoff=4.0, two_j_max=4)
    other = BispectrumSettings(cutoff=3.0, two_j_max=4)
    s = fresh_al4["000"]
    values = bispectrum(s.cell, s.positions, s.numbers, s.grid, here)
    fresh_al4.write_descriptors(s, here, values)
    descriptor_path(fresh_al4.path, here, "000").parent.rename(fresh_al4.path / "descriptors" / other.key)
    with pytest.raises(ValueError, match=r"descriptors of another setting, .*remove the folder and run `dftune desc"):
        fresh_al4.descriptors(fresh_al4["000"], other)


@pytest.mark.parametrize("options", [(), ("--weights", "Al=0.8", "--radii", "Al=0.45"), ("--chem", "Al")])
def test_descriptors_check_compares_the_engines(al4, options):
    options = ("--cutoff", 4.0, "--two-j-max", 4, *options)
    out = run("descriptors", "check", al4.path, "--snapshot", "003", *options).stdout
    assert re.fullmatch(
        r"snapshot 003, cutoff 4 Å, 2J_max 4.*, 2,000 grid points: native [\d.]+ µs a point, LAMMPS [\d.]+ µs "
        r"\([\d.]+ times\); they differ by \d\.\de-\d\d of the largest value\n",
        out,
    )
    printed = json.loads(run("descriptors", "check", al4.path, "--json", *options).stdout)
    assert printed["snapshot"] == "000"
    assert printed["agrees"]
    assert printed["difference"] < 1e-12
    assert printed["n_points"] == 2000


def test_descriptors_check_fails_where_the_engines_differ(al4, monkeypatch):
    from dftune.trainables.descriptors import lammps_engine

    right = lammps_engine.bispectrum
    monkeypatch.setattr(lammps_engine, "bispectrum", lambda *a, **k: (1 + 1e-9) * right(*a, **k))
    said = CliRunner().invoke(cli, ["descriptors", "check", str(al4.path), "--two-j-max", "2"])
    assert said.exit_code == 1
    assert "the engines do not agree; please report this with the snapshot" in said.output
