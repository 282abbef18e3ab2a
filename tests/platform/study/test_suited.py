"""What the data decide about hyperparameters is fixed before a study begins, and told."""

import pytest

from dftune import Study, StudySpec
from dftune.platform.compare.comparison import Comparison
from dftune.platform.study import session
from dftune.platform.study.study_file import plan, study_file
from dftune.platform.study.suited import suited
from dftune.trainables.kinds import KINDS

LINE = "epochs = '7': the numbers are odd; [config] may say otherwise"


@pytest.fixture
def wanting(toy, monkeypatch):
    """A kind whose data want seven epochs, unless they are said."""

    def suited(data, config, space):
        return {} if "epochs" in {*config, *space} else {"epochs": (7, "the numbers are odd")}

    monkeypatch.setattr(KINDS["toy"], "suited", suited, raising=False)


def test_a_study_begins_with_what_its_data_want(wanting, numbers, tmp_path, monkeypatch):
    begun, said = [], []
    monkeypatch.setattr(session, "begin", lambda spec, *rest, **more: begun.append(spec))

    class Told:
        say = staticmethod(said.append)

    study = Study("s", numbers, method="random", studies=tmp_path)
    study.run(progress=Told())
    assert begun[0].config == study.spec.config == {"epochs": 7}, "what goes on has it, too"
    assert said == [LINE]
    said.clear()
    Study("t", numbers, method="random", config={"epochs": 2}, studies=tmp_path).run(progress=Told())
    assert (begun[1].config, said) == ({"epochs": 2}, [])


def test_a_check_a_new_file_and_a_comparison_have_it_too(wanting, numbers, tmp_path):
    spec = StudySpec.of({"name": "s", "dataset": str(numbers), "method": "random", "compare": {"methods": ["random"]}})
    found = plan(spec, tmp_path)
    assert (found.epochs, LINE in found.lines()) == (7, True)
    assert "# epochs = 7" in study_file(numbers, "s", tmp_path)
    assert {one.config["epochs"] for _, _, one in Comparison(spec, tmp_path).studies} == {7}


@pytest.mark.parametrize(
    "minimize, config, added",
    [
        ("free_energy_mae", {}, {"readout": "always"}),
        (["validation_loss", "forces_mae"], {}, {"readout": "always"}),
        ("validation_loss + 0.1 free_energy_mae", {}, {"readout": "always"}),
        ("free_energy_mae", {"readout": "final"}, {}),
        ("free_energy_mae", {"training": "none"}, {}),
        (["validation_loss", "n_parameters"], {}, {}),
    ],
)
def test_trials_that_are_judged_by_energies_or_forces_have_a_readout(al4, minimize, config, added):
    given = {"name": "s", "dataset": str(al4.path), "method": "optuna", "minimize": minimize, "config": config}
    spec, lines = suited(StudySpec.of(given), al4)
    assert spec.config == {**config, **added}
    assert [line for line in lines if "readout" in line] == [
        f"readout = 'always': {'forces' if 'forces_mae' in minimize else 'free_energy'}_mae is minimised; [config] may "
        "say otherwise"
        for _ in added
    ]
