"""What the data decide about hyperparameters is fixed before a study begins, and told."""

import pytest

from dftune import Study, StudySpec
from dftune.platform.compare.comparison import Comparison
from dftune.platform.study import session
from dftune.platform.study.study_file import plan, study_file
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
