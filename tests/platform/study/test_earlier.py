"""A study, a model and a dataset of the version before kinds of surrogates (a study of four tiny trials)."""

import json
import shutil
from contextlib import closing

import ase.build
import pytest
from click.testing import CliRunner

from dftune import Model, Study
from dftune.platform.cli.main import cli
from dftune.platform.ledger.lease import Folder, Lease
from dftune.platform.ledger.ledger import Ledger
from dftune.tests.places import DATA
from dftune.trainables.data.dataset import Dataset

EARLIER = DATA / "before_kinds"


@pytest.fixture
def studies(tmp_path):
    shutil.copytree(EARLIER, tmp_path / "studies")
    return tmp_path / "studies"


def test_its_ledger_opens_with_spec_trials_and_conclusion(studies):
    study = Study.open("old", studies)
    spec = study.spec
    assert (spec.kind, spec.method, spec.minimize, spec.metric) == ("ldos", "rfr", ("validation_loss",), "best_loss")
    assert (spec.settings.cutoff, spec.settings.two_j_max) == (4.0, 4)
    trials = study.trials()
    assert [t.state for t in trials] == ["finished", "finished"]
    assert {"rfr", "first_width", "n_parameters"} == set(trials[0].scores)
    assert {"grid_points", "n_parameters", "inference_time", "best_loss"} <= set(trials[0].result)
    conclusion = study.conclusion()
    assert conclusion.trial == study.best_trial.number == min(trials, key=lambda t: t.value).number
    assert set(conclusion.seconds) == {"descriptors", "scores", "search", "final"}
    full = study.spec.full(study.best_trial.config).model_dump(mode="json")
    assert conclusion.config.items() <= full.items(), "what came since has its default"


def test_its_trials_are_shown_and_drawn(studies, tmp_path):
    shown = CliRunner().invoke(cli, ["study", "show", "old", "--studies", str(studies)])
    assert shown.exit_code == 0, shown.output
    assert "chosen: trial" in shown.output
    assert "band-energy error" in shown.output
    drawn = Study.open("old", studies).plot(tmp_path / "figures")
    assert {path.name for path in drawn.paths} >= {"history.png", "compute.png", "score.png", "plots.html"}


def test_a_notebook_shows_it(studies):
    study = Study.open("old", studies)
    assert repr(study) == "Study('old', method 'rfr', dataset 'al4', 2 finished)"
    shown = study._repr_html_()
    assert shown.count("<tr>") == 3, "a head and two trials, the best first"
    assert (
        shown.index(f"<td>{study.best_trial.number}</td>") < shown.index("<td>1</td>") or study.best_trial.number == 1
    )
    frame = study.dataframe()
    assert list(frame["trial"]) == [0, 1]
    assert {"state", "validation_loss", "seconds", "width", "rfr", "first_width", "n_parameters"} <= set(frame.columns)
    assert study.best_config == {**study.spec.config, "width": frame["width"][study.best_trial.number]}
    new = Study.from_spec(study.spec.model_copy(update={"name": "<new>"}), studies)
    assert "not begun" in repr(new)
    assert "&lt;new&gt;" in new._repr_html_()


def test_its_ledger_takes_further_trials(studies):
    with closing(Ledger.open(studies / "old" / "ledger.db")) as ledger:
        lease = Lease(Folder(studies / "old"), 2)
        ledger.claim(lease)
        ledger.asked(2, {"width": 8}, seed=1, scores={})
        assert [t.state for t in ledger.trials()] == ["finished", "finished", "running"]


def test_its_model_opens_and_predicts():
    model = Model.open(EARLIER / "old" / "model")
    assert (model.card.kind, model.card.dataset) == ("ldos", "al4")
    assert "grid_spacing" in json.loads((EARLIER / "old" / "model" / "model.json").read_text())
    found = model.prepare(ase.build.bulk("Al", cubic=True)).run()
    # What that version's `dftune model predict` printed for the same cell.
    assert found.fermi_level == pytest.approx(7.663366858, abs=1e-4)
    assert found.free_energy == pytest.approx(-228.051160, abs=1e-3)


def test_its_dataset_opens_with_the_fingerprint_that_its_model_names(al4, tmp_path):
    info = json.loads((al4.path / "dataset.json").read_text())
    shutil.copytree(al4.path, tmp_path / "al4", ignore=shutil.ignore_patterns("descriptors"))
    info.pop("kind")
    (tmp_path / "al4" / "dataset.json").write_text(json.dumps(info))
    named = json.loads((EARLIER / "old" / "model" / "model.json").read_text())["dataset_sha256"]
    assert Dataset.open(tmp_path / "al4").fingerprint == named
