"""`dftune study` on real data: what it prints, how it refuses, and what becomes of its model and dataset."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dftune.tests.platform.cli.commands import SPEC, refused, run
from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.descriptors.settings import BispectrumSettings

LAYERS = """\
n_layers = { type = "int", low = 1, high = 2 }
width = { type = "int", low = 4, high = 16 }
width_2 = { type = "int", low = 4, high = 16, when = { n_layers = [2] } }"""


@pytest.fixture(scope="module")
def workplace(described, tmp_path_factory, local_ray):
    """A folder with a dataset, a study file, and an ended study with its model."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(described.path, folder / "al4")
    text = SPEC.replace("trials = 2", "trials = 4").replace("n_layers = 1\n", "")
    (folder / "quick.toml").write_text(re.sub(r"(?<=\[space\]\n).*", LAYERS, text))
    shown = run("study", "run", folder / "quick.toml", "--studies", folder / "studies")
    (folder / "shown.txt").write_text(shown.stdout)
    run("study", "export", "quick", folder / "quick.model", "--studies", folder / "studies")
    return folder


def test_a_study_from_the_command_line_says_what_it_found(workplace):
    text = (workplace / "shown.txt").read_text()
    assert re.search(r"chosen: trial [0-3] \(validation_loss \d+\.\d+\)", text)
    assert re.search(r"band-energy error +\d+\.\d meV/atom", text)
    assert text.count("displacement 0.") == 3 * 2 * 3, "two energies of the chosen config, without training, by default"
    folder = workplace / "studies" / "quick"
    assert "the one without training is better" in text, "than networks of at most 16 neurons"
    assert f"\nmodel:   {folder}/untrained/model\nfigures: {folder}/untrained/figures, {folder}/figures\n" in text


def test_study_show_list_and_resume_agree(workplace):
    options = ("--studies", workplace / "studies")
    shown = json.loads(run("study", "show", "quick", "--json", *options).stdout)
    (listed,) = json.loads(run("study", "list", "--json", *options).stdout)["studies"]
    resumed = json.loads(run("study", "resume", "quick", "--json", *options).stdout)
    assert resumed | shown["conclusion"] == resumed
    assert listed["best"] == resumed["value"] == min(t["value"] for t in shown["trials"])
    assert listed["state"] == "ended"
    assert "no study in" in run("study", "list", "--studies", workplace / "elsewhere").stdout


def test_a_study_shows_of_conditional_hyperparameters_what_each_trial_has(workplace):
    options = ("--studies", workplace / "studies")
    result = json.loads(run("study", "resume", "quick", "--json", *options).stdout)
    trials = json.loads(run("study", "show", "quick", "--json", *options).stdout)["trials"]
    assert {"width_2" in t["config"] for t in trials} == {True, False}
    assert all(("width_2" in t["config"]) == (t["config"]["n_layers"] == 2) for t in trials)
    best = trials[result["trial"]]["config"]
    assert result["config"]["widths"] in (None, [best["width"], best.get("width_2")])
    table = run("study", "show", "quick", *options).stdout
    assert re.search(r"^trial +state +validation_loss +seconds +n_layers +width +width_2 +first_width", table)
    assert "  " + ", ".join(f"{name} {value}" for name, value in best.items()) + "\n" in table


def test_model_show_predict_and_check(workplace):
    model = workplace / "quick.model"
    assert "surrogate for Al from study quick, dataset al4" in run("model", "show", model).stdout
    assert json.loads(run("model", "show", model, "--json").stdout)["config"]["n_layers"] in (1, 2)
    assert "the stated accuracy is confirmed" in run("model", "check", model, workplace / "al4").stdout


def test_descriptors_compute_goes_on_where_it_was(workplace):
    settings = BispectrumSettings(cutoff=4.0, two_j_max=4)
    descriptor_path(workplace / "al4", settings, "002").unlink()
    options = ("--cutoff", 4.0, "--two-j-max", 4)
    assert "1 computed, 11 there already" in run("descriptors", "compute", workplace / "al4", *options).stdout
    assert "0 computed, 12 there already" in run("descriptors", "compute", workplace / "al4", *options).stdout


def test_a_folder_that_cannot_be_written_is_refused(workplace, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = refused("study", "run", workplace / "quick.toml", "--studies", tmp_path / "file" / "studies")
    assert "cannot be made (Not a directory); choose another --studies folder" in line
    line = refused("study", "export", "quick", tmp_path / "file" / "m", "--studies", workplace / "studies")
    assert f"{tmp_path / 'file' / 'm'}: cannot be written" in line


def test_a_truncated_ldos_is_refused_when_the_study_starts(workplace, tmp_path):
    shutil.copytree(workplace / "al4", tmp_path / "al4")
    path = tmp_path / "al4" / "ldos" / "004.arrow"
    path.write_bytes(path.read_bytes()[:5000])
    (tmp_path / "quick.toml").write_text(SPEC)
    line = refused("study", "run", tmp_path / "quick.toml", "--studies", tmp_path / "studies")
    assert f"{path}: not a whole Arrow file (truncated or damaged); import the dataset again" in line
    assert f"{path}" in refused("data", "check", tmp_path / "al4")


def test_study_names_complete(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    environment = {"_DFTUNE_COMPLETE": "bash_complete", "COMP_WORDS": "dftune study show q", "COMP_CWORD": "3"}
    out = subprocess.run(
        [str(Path(sys.executable).parent / "dftune")],
        env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.split() == ["plain,quick"]
