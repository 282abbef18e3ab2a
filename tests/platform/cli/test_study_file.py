"""A study file is written, checked without a run, and a study deleted; one that came to no trial can begin again."""

import json
import tomllib
from contextlib import closing

import pytest
from click.testing import CliRunner

from dftune import Study, StudySpec
from dftune.cluster.connection import ClusterError
from dftune.platform.cli.main import cli
from dftune.platform.ledger.lease import held
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.study.errors import StudyError
from dftune.platform.study.study_file import plan, study_file
from dftune.tests.places import ROOT
from dftune.tests.platform.cli.conftest import make_study

GRID = {"rate": {"type": "float", "low": 0.1, "high": 0.9, "levels": [0.1, 0.5, 0.9]}}


def run(*arguments, code=0, answer=None):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], input=answer)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def line(toy, numbers, tmp_path, monkeypatch):
    """Keys of a study of the toy kind; its studies' folder is that of the test."""
    monkeypatch.chdir(tmp_path)
    return {"name": "line", "dataset": str(numbers), "trials": 3}


def begin(settings, folder, *values):
    """A study as a run leaves it whose process ended after so many trials."""
    study = Study.from_spec(StudySpec.of(settings), folder)
    study.folder.mkdir(parents=True)
    with closing(Ledger.create(study.place, study.spec, "0" * 64)) as ledger:
        for n, value in enumerate(values):
            ledger.asked(n, {"rate": 0.5}, seed=n, scores={})
            ledger.told(n, value, {"epoch": 1, "seconds": 2.0, "points": 12, "best_error": value}, None)
    return study


# ---------------------------------------------------------------- new


@pytest.mark.parametrize("dataset", ["al4", "numbers"])
def test_a_new_study_file_says_the_defaults_and_is_one(dataset, toy, numbers, tmp_path):
    path = (ROOT / "examples" / "al4").resolve() if dataset == "al4" else numbers
    text = study_file(path, "first", tmp_path)
    (tmp_path / "first.toml").write_text(text)
    assert StudySpec.read(tmp_path / "first.toml") == StudySpec.of({"name": "first", "dataset": str(path)})
    keys = [entry for entry in text.splitlines() if " = " in entry and entry[0] not in "#[{"]
    assert all("#" in entry for entry in keys if " { " not in entry and "shift" not in entry), "each says what it means"
    assert text.count("\n# ") > 2, "and the hyperparameters that are not varied stand in comments"
    uncommented = "\n".join(entry.removeprefix("# ") for entry in text.partition("[config]")[2].splitlines()[1:])
    (tmp_path / "full.toml").write_text(text.partition("[config]")[0] + "[config]\n" + uncommented)
    assert StudySpec.read(tmp_path / "full.toml").full({}) == StudySpec.read(tmp_path / "first.toml").full({})


def test_the_command_writes_it_relative_to_its_place_and_overwrites_nothing(toy, numbers, tmp_path, monkeypatch):
    (tmp_path / "data set").symlink_to(numbers)
    monkeypatch.chdir(tmp_path)
    assert (
        run("study", "new", "data set", "--name", "first").stdout == "first.toml; try `dftune study check first.toml`\n"
    )
    values = tomllib.loads((tmp_path / "first.toml").read_text())
    assert values["name"] == "first"
    assert "is there already" in run("study", "new", "data set", "first.toml", code=1).stderr
    assert "key 'name'" in run("study", "new", "data set", "--name", "no name", code=1).stderr
    run("study", "new", tmp_path / "nothing", "x.toml", code=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data set", "first.toml"]


# ---------------------------------------------------------------- check


@pytest.mark.parametrize(
    "settings, trials, exactly",
    [
        ({"method": "random", "trials": 3}, 3, False),
        ({"method": "grid", "space": GRID, "trials": 50}, 3, True),
        ({"method": "grid", "space": GRID, "trials": 2}, 2, False),
        ({"method": "rate", "trials": 50, "options": {"candidates": 9, "top": 4, "calibration": 0}}, 4, True),
        ({"method": "optuna", "trials": 7, "options": {"startup": 3}}, 7, False),
    ],
)
def test_a_check_says_how_many_trials_a_run_will_train_and_their_work(settings, trials, exactly, line, tmp_path):
    found = plan(StudySpec.of({**line, **settings}), tmp_path)
    assert (found.trials, found.exactly) == (trials, exactly)
    assert found.work == trials * 4 * 3, "four points, three steps"
    assert (found.seconds, found.begun) == (None, False)


def test_a_check_knows_the_time_from_an_earlier_study_on_the_same_dataset(line, tmp_path):
    begin({**line, "name": "earlier"}, tmp_path / "studies", 0.5, 0.25)
    (tmp_path / "line.toml").write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in line.items()))
    found = json.loads(run("study", "check", "line.toml", "--json").stdout)
    assert found["seconds"] == pytest.approx(3 * 12 * 2.0 / 12)
    assert found["paced_by"] == "earlier"
    shown = run("study", "check", "line.toml").stdout
    assert "trains at most 3 trials of 3 epochs, minimises error, then trains the best one 5 times" in shown
    assert "time: at most 6 s of training, at the pace of study earlier" in shown
    assert not (tmp_path / "studies" / "line").exists(), "nothing is made"


def test_a_check_refuses_what_a_run_would(line, tmp_path):
    (tmp_path / "wrong.toml").write_text('name = "line"\ndataset = "nowhere"\nkind = "toy"\n')
    assert "holds no numbers" in run("study", "check", "wrong.toml", code=1).stderr
    (tmp_path / "wrong.toml").write_text('name = "line"\ntrails = 3\n')
    assert "did you mean 'trials'?" in run("study", "check", "wrong.toml", code=1).stderr


# ---------------------------------------------------------------- delete


def test_a_study_is_deleted_when_that_is_confirmed(studies):
    make_study(studies, "other")
    options = ("--studies", studies)
    assert "Aborted" in run("study", "delete", "kept", *options, code=1, answer="n\n").stderr
    assert Study.names(studies) == ["kept", "other"]
    asked = run("study", "delete", "kept", *options, answer="y\n").stdout
    assert f"delete study kept with all its trials, its model and its folder {studies / 'kept'}?" in asked
    assert sorted(p.name for p in studies.iterdir()) == ["other"]
    assert "no study 'kept'" in run("study", "delete", "kept", "--yes", *options, code=1).stderr


def test_a_study_that_is_held_is_not_deleted(studies):
    with held(studies / "kept"):
        assert "held by process" in run("study", "delete", "kept", "--yes", "--studies", studies, code=1).stderr
    assert len(Study.open("kept", studies).trials()) == 4
    run("study", "delete", "kept", "--yes", "--studies", studies)
    assert list(studies.iterdir()) == []


def test_a_damaged_study_can_be_deleted_and_a_name_that_is_a_path_deletes_nothing(studies, tmp_path):
    (studies / "kept" / "ledger.db").write_bytes(b"damaged" * 1000)
    make_study(tmp_path, "outside")
    for name in ("../outside", str(tmp_path / "outside"), "..", "."):
        run("study", "delete", name, "--yes", "--studies", studies, code=1)
    run("study", "delete", "kept", "--yes", "--studies", studies)
    assert list(studies.iterdir()) == []
    assert Study.names(tmp_path) == ["outside"]


def test_a_study_in_a_database_is_deleted_with_its_own_folder_alone(database, toy, numbers, tmp_path):
    from dftune.platform.study import folder as folders

    for name in ("a", "b"):
        study = Study(name, numbers, studies=tmp_path, ledger=database, trials=3)
        study.folder.mkdir()
        with closing(Ledger.create(study.place, study.spec, "0" * 64)) as ledger:
            folders.own(study.folder, study.place, ledger.id)
    run("study", "delete", "a", "--yes", "--studies", tmp_path / "elsewhere", "--ledger", "", code=1)
    Study.delete("a", tmp_path, database)
    assert Study.names(ledger=database) == ["b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]
    Study.delete("b", tmp_path / "elsewhere", database)
    assert Study.names(ledger=database) == []
    assert (tmp_path / "b").is_dir(), "the folder that is not the study's own there is left"


# ---------------------------------------------------------------- run again


def test_a_study_that_came_to_no_trial_begins_again_by_the_same_command(line, tmp_path):
    study = begin(line, tmp_path)
    (study.folder / "scores.json").write_text("damaged")
    (study.folder / "notes.txt").write_text("mine")
    mended = {**line, "seed": 5}
    with pytest.raises(ClusterError):  # there is no Ray in this test: it came so far
        Study.from_spec(StudySpec.of(mended), tmp_path).run()
    assert not (study.folder / "scores.json").exists(), "scores of other settings are not taken for these"
    assert (study.folder / "notes.txt").read_text() == "mine"
    assert not study.begun or Study.open("line", tmp_path).spec.seed == 5, "the file as it is now, not as it was"


def test_a_study_with_a_trial_or_in_the_hands_of_another_process_does_not_begin_again(line, tmp_path):
    study = begin(line, tmp_path)
    with held(study.folder), pytest.raises(ValueError, match="held by process"):
        study.run()
    study = begin({**line, "name": "tried"}, tmp_path, 0.5)
    with pytest.raises(StudyError, match="a study of this name exists; go on with `dftune study resume tried`"):
        study.run()
    assert len(study.trials()) == 1
