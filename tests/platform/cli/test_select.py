"""`dftune data select --model` and `dftune data generate --select`: what teaches a model most."""

import json

import ase.build
import ase.io
import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.structure_distance import atoms_of

SPEC = """
[structure]
lattice = "fcc"
symbols = "{symbol}"
a = 4.05
[[snapshots]]
train = 3
validation = 1
displacement = [0.05, 0.4]
[dft]
pseudopotentials = {{ {symbol} = "x.UPF" }}
cutoff_ry = 8
k_points = [2, 2, 2]
temperature = 6000
[ldos]
spacing = 0.8
width = 0.8
"""


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "al.model"
    model.save(folder)
    return folder


@pytest.fixture
def trajectory(al4, tmp_path):
    """Frame 2 is far from the training, which the others are of."""
    frames = [atoms_of(s) for s in al4.split("train")][:4]
    frames[2].positions += np.random.default_rng(0).normal(0, 0.4, (4, 3))
    ase.io.write(tmp_path / "md.traj", frames)
    return tmp_path / "md.traj"


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, ["data", *map(str, arguments)], prog_name="dftune")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def test_frames_that_teach_most_are_written_and_it_says_why(saved, trajectory, tmp_path):
    shown = run("select", trajectory, tmp_path / "chosen.xyz", "-n", 1, "--model", saved).stdout
    assert "frame 2, 4 atoms: " in shown
    assert "times as far from all that is known" in shown
    assert "1 of 4 candidates" in shown
    assert "errors to expect of them" in shown
    (atoms,) = ase.io.read(tmp_path / "chosen.xyz", ":")
    assert atoms.info["frame"] == 2


def test_the_same_for_programs(saved, trajectory, tmp_path):
    found = json.loads(run("select", trajectory, tmp_path / "c.xyz", "-n", 2, "--model", saved, "--json").stdout)
    assert (found["chosen"][0]["number"], len(found["chosen"]), found["n"]) == (2, 2, 4)
    assert found["before"] > found["after"]
    assert found["units"] == dict.fromkeys(("before", "after", "worth"), "usual distance")


def test_snapshots_of_a_dataset_that_teach_most_become_one(saved, al4, tmp_path):
    shown = run("select", al4.path, tmp_path / "few", "-n", 2, "--model", saved).stdout
    kept = Dataset.open(tmp_path / "few")
    assert len(kept) == 2
    assert all(f"{s.id}, 4 atoms: " in shown for s in kept)


def test_a_selection_by_a_model_that_cannot_be_is_refused(saved, trajectory, tmp_path, al4):
    to = tmp_path / "chosen.xyz"
    for arguments, text in (
        ((trajectory, to, "-n", 9, "--model", saved), "9 structures cannot be chosen of 4"),
        ((trajectory, to, "-n", 1, "--model", saved, "--by", "farthest"), "--model chooses by itself"),
        ((al4.path, to, "--snapshots", "000", "--model", saved), "--model chooses by itself"),
        ((trajectory, to, "-n", 1, "--model", tmp_path / "none"), "none"),
        ((trajectory, trajectory, "-n", 1, "--model", saved), "exists already"),
    ):
        assert text in run("select", *arguments, code=1).stderr
        assert not to.exists()
    magnesium = ase.build.bulk("Mg", "fcc", a=4.5)
    magnesium.write(tmp_path / "mg.xyz")
    other = run("select", tmp_path / "mg.xyz", to, "-n", 1, "--model", saved, code=1).stderr
    assert "the model cannot choose: structure 0: " in other
    assert "Mg" in other


def test_a_list_of_snapshots_has_no_empty_part(al4, tmp_path):
    said = run("select", al4.path, tmp_path / "few", "--snapshots", "000,,003", code=2).stderr
    assert "'000,,003' is not a list of ids as in 000,003,007" in said


@pytest.mark.parametrize(
    "symbol, options, text",
    [
        ("Al", ("--select", "{model}"), "give both, a model to select by and a number"),
        ("Al", ("--number", "2"), "give both, a model to select by and a number"),
        ("Al", ("--select", "{model}.none", "-n", "2"), "al.model.none"),
        ("Al", ("--select", "{model}", "-n", "4"), "4 structures cannot be chosen of 3"),
        ("Mg", ("--select", "{model}", "-n", "2"), "Mg"),
    ],
)
def test_a_selection_for_dft_that_cannot_be_is_refused(symbol, options, text, saved, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "x.toml").write_text(SPEC.format(symbol=symbol) + '[run]\npw = "/bin/true"\n')
    asked = [option.format(model=saved) for option in options]
    assert text in run("generate", tmp_path / "x.toml", tmp_path / "x", *asked, code=1).stderr
    assert not (tmp_path / "x.runs").exists()


def test_what_is_selected_is_said_and_the_rest_not_computed(saved, tmp_path, monkeypatch):
    """Up to the DFT, which ends for want of a pseudopotential."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "x.toml").write_text(SPEC.format(symbol="Al") + '[run]\npw = "/bin/true"\n')
    shown = run("generate", tmp_path / "x.toml", tmp_path / "x", "--select", saved, "-n", 1, code=1).stderr
    assert "snapshot 001, 4 atoms: " in shown  # the one displaced by 0.4 Å
    assert "1 of 3 candidates" in shown


def test_other_kinds_say_in_their_specification_what_is_selected(saved, tmp_path):
    (tmp_path / "x.toml").write_text('kind = "alloys"\n')
    shown = run("generate", tmp_path / "x.toml", tmp_path / "x", "--select", saved, "-n", 1, code=1).stderr
    assert "leave out --select" in shown
