"""A study goes on with the defaults it began with, whatever they are then."""

from contextlib import closing
from typing import Literal

import pytest

from dftune.platform.ledger.as_it_began import as_it_began, defaults_of, defaults_then
from dftune.platform.ledger.ledger import Ledger, LedgerError
from dftune.platform.ledger.places import OURS, LedgerFile
from dftune.platform.spec import StudySpec
from dftune.platform.study import session
from dftune.platform.study.defaults import default_config
from dftune.platform.study.study import Study
from dftune.tests.toy_kind import ToyConfig
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig

RATE = {"rate": {"type": "float", "low": 0.1, "high": 1.0}}
WIDTH = {"width": {"type": "int", "low": 16, "high": 256}}
TRAINING = {"training": {"type": "choice", "values": ["adam", "none"]}}


class Later(ToyConfig):
    """A toy of a version to come."""

    epochs: int = 9


class WiderLater(SurrogateConfig):
    width: int = 64


def spec_of(dataset="nowhere", **more):
    return StudySpec.of({"name": "s", "dataset": str(dataset), "method": "random", **more})


def begun(tmp_path, spec):
    """The place of the ledger of a study that has begun."""
    (tmp_path / spec.name).mkdir()
    place = LedgerFile(tmp_path / spec.name / "ledger.db")
    Ledger.create(place, spec, "0" * 64).close()
    return place


def without_defaults(place):
    """The ledger as versions wrote it that kept no defaults."""
    storage, study = place.open("s")
    header = storage.get_study_user_attrs(study)[OURS]
    storage.set_study_user_attr(study, OURS, {name: value for name, value in header.items() if name != "defaults"})


def reopened(place):
    with closing(Ledger.open(place, "s")) as ledger:
        return ledger


@pytest.mark.parametrize(
    "said, epochs",
    [({}, 3), ({"config": {"epochs": 5}}, 5), ({"space": {**RATE, "epochs": {"type": "choice", "values": [4]}}}, None)],
)
def test_a_study_keeps_the_defaults_that_it_does_not_say(toy, tmp_path, monkeypatch, said, epochs):
    spec = spec_of(kind="toy", **{"space": RATE, **said})
    place = begun(tmp_path, spec)
    assert reopened(place).spec == spec, "nothing is added while they are the same"
    monkeypatch.setattr(KINDS["toy"], "config", Later, raising=False)
    found = reopened(place)
    assert found.spec.config.get("epochs") == epochs
    assert found.spec.full({"rate": 0.2, "epochs": epochs or 4}).epochs == (epochs or 4)
    assert found.spec.model_copy(update={"config": spec.config}) == spec, "all else is as it was"
    assert spec_of(kind="toy", space=RATE).full({}).epochs == 9, "a new study has the new ones"


def test_a_ledger_that_keeps_none_has_those_of_its_time(tmp_path):
    place = begun(tmp_path, spec_of(space=WIDTH, config={"batch_size": 64}))
    without_defaults(place)
    found = reopened(place)
    assert found.spec.config == {"batch_size": 64, "epochs": 40, "learning_rate": 1e-3}
    assert found.spec.epochs == found.defaults["epochs"] == 40
    assert spec_of(space=WIDTH).epochs == 4


def test_the_defaults_that_a_study_compares_with_are_those_of_its_beginning(tmp_path):
    space = {**WIDTH, "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}}
    place = begun(tmp_path, spec_of(space=space))
    without_defaults(place)
    found = reopened(place)
    default = found.spec.full(default_config(found.spec, found.defaults))
    assert (default.width, default.learning_rate, default.epochs) == (128, 1e-3, 40)


def test_what_another_hyperparameter_decides_is_not_said(tmp_path):
    place = begun(tmp_path, spec_of(method="none"))
    without_defaults(place)
    assert reopened(place).spec.config == {"learning_rate": 1e-3}, "without training there is one epoch"
    varied = spec_of(space={**WIDTH, **TRAINING})
    found = as_it_began(varied, defaults_then(varied, None))
    assert found.full({"training": "none"}).epochs == 1
    assert (found.full({"training": "adam"}).epochs, found.epochs) == (40, 40)


def test_a_default_that_the_space_decides_is_refused_once_it_changes(tmp_path, monkeypatch):
    """It is 128 neurons for networks that are trained, and 1,024 for those that are not."""
    place = begun(tmp_path, spec_of(space=TRAINING))
    monkeypatch.setattr(KINDS["ldos"], "config", WiderLater, raising=False)
    with pytest.raises(LedgerError, match=r"the default of 'width' has changed .*; go on with the dftune that began"):
        reopened(place)


@pytest.mark.parametrize("said", [{"space": WIDTH | TRAINING}, {"config": {"training": "none"}}, {"method": "none"}])
def test_a_default_that_no_trial_uses_may_change(tmp_path, monkeypatch, said):
    spec = spec_of(**said)
    place = begun(tmp_path, spec)
    monkeypatch.setattr(KINDS["ldos"], "config", WiderLater, raising=False)
    assert reopened(place).spec == spec


def test_a_value_that_there_is_no_more_is_refused(tmp_path, monkeypatch):
    class Fewer(SurrogateConfig):
        schedule: Literal["constant"] = "constant"

    place = begun(tmp_path, spec_of(space=WIDTH))
    monkeypatch.setattr(KINDS["ldos"], "config", Fewer, raising=False)
    with pytest.raises(LedgerError, match=r"a default of its time is not one of this version: .* 'schedule'"):
        reopened(place)


def test_a_script_resumes_what_it_began(toy, tmp_path, numbers, monkeypatch):
    begun(tmp_path, spec_of(numbers, space=RATE, trials=7))
    monkeypatch.setattr(KINDS["toy"], "config", Later, raising=False)
    gone_on = []
    monkeypatch.setattr(session, "go_on", lambda spec, *rest, **more: gone_on.append(spec))
    study = Study("s", numbers, method="random", space=RATE, trials=9, studies=tmp_path)
    study.resume()
    assert gone_on[0].config == study.spec.config == {"epochs": 3}
    assert gone_on[0].trials == 9, "what was not decided by defaults is as the script says"


def test_a_ledger_keeps_defaults_once_but_where_they_depend_on_what_varies(toy):
    (held,) = defaults_of(spec_of(kind="toy", space=RATE))["held"]
    assert held == ({"rate": 0.1}, {"epochs": 3, "pause": 0.0})
    assert len(defaults_of(spec_of())["held"]) == 1
    held = defaults_of(spec_of(space=TRAINING))["held"]
    assert [(config["training"], values["width"]) for config, values in held] == [("adam", 128), ("none", 1024)]
