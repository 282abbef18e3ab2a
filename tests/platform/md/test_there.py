"""A run on a cluster of ``ray.cluster_utils``, in a process of its own."""

import csv
import subprocess
import sys

import ase.io
import pytest

from dftune.platform.md.dynamics import run_md
from dftune.platform.md.folder import THERMO
from dftune.platform.md.there import run_there
from dftune.tests.places import ROOT
from dftune.trainables.data.structure_distance import atoms_of
from dftune.trainables.errors import InputError
from dftune.trainables.progress import Silent

COMMANDS = """
import os, sys
from dftune.cluster.connection import SETTINGS
from dftune.cluster.embedded import ENVIRONMENT, PATIENCE

os.environ.update(SETTINGS | ENVIRONMENT | {"RAY_AUTH_MODE": "disabled"})  # the nodes listen on loopback
from ray._private import services
from ray.cluster_utils import Cluster
from dftune.cluster.ray_private import _patient
from dftune.platform.cli.main import cli

services.get_node = _patient(services.get_node, PATIENCE, ())
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=1)
folder, structure, output = sys.argv[1:]
begin = [folder, structure, "--ensemble", "nve", "--temperature", "300", "--steps", "2", "--output", output]
for command in (begin, ["resume", output, "--steps", "3"]):
    cli(["md", *command, "--address", cluster.address], standalone_mode=False)
"""
ASKED = {"ensemble": "nve", "temperature": 300.0, "steps": 3}


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_a_cluster_takes_the_steps_of_one_here(model, al4, tmp_path):
    folder, structure, there = tmp_path / "al.model", tmp_path / "POSCAR", tmp_path / "there"
    model.save(folder)
    ase.io.write(structure, atoms_of(al4["000"]), format="vasp")
    words = [sys.executable, "-c", COMMANDS, folder, structure, there]
    ran = subprocess.run(list(map(str, words)), cwd=ROOT.parent, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert f"2 of 2 steps in {there}" in ran.stdout
    assert f"3 of 3 steps in {there}" in ran.stdout
    run_md(folder, structure, tmp_path / "here", progress=Silent(), **ASKED)
    found, expected = (list(csv.reader((tmp_path / name / THERMO).open())) for name in ("there", "here"))
    assert found[0] == expected[0]
    assert len(found) == len(expected) == 5
    for row, same in zip(found[1:], expected[1:], strict=True):
        assert [float(x) for x in row] == pytest.approx([float(x) for x in same], abs=1e-6)


def test_what_cannot_run_is_said_before_the_cluster_is_asked(model, tmp_path):
    model.save(tmp_path / "al.model")
    nowhere = {"address": "127.0.0.1:1", "progress": Silent()}
    with pytest.raises(InputError, match="exists already"):
        run_there(tmp_path / "al.model", "POSCAR", tmp_path, **nowhere)
    with pytest.raises(InputError, match="steps"):
        run_there(tmp_path / "al.model", "POSCAR", tmp_path / "md", steps=-1, **nowhere)
    assert not (tmp_path / "md").exists()
