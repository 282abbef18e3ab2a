"""Studies that begin with configs which were good in others."""

from contextlib import closing

import pytest

from dftune.platform.ledger.ledger import Ledger
from dftune.platform.spec import SpecError, StudySpec
from dftune.platform.study.start_from import with_first
from dftune.platform.study.study import Study
from dftune.searchers.first import FirstThese

pytestmark = pytest.mark.usefixtures("toy")
WIDE = {"rate": {"type": "float", "low": 0.1, "high": 1.0}}


def spec_of(name, numbers, **more):
    return StudySpec.of({"name": name, "dataset": str(numbers), "method": "random", "space": WIDE, **more})


def ended(folder, spec, values):
    """A study on disk: rate -> value, None for a trial that failed."""
    (folder / spec.name).mkdir()
    with closing(Ledger.create(folder / spec.name / "ledger.db", spec, "0" * 64)) as ledger:
        for number, (rate, value) in enumerate(values.items()):
            ledger.asked(number, {"rate": rate}, seed=0, scores={})
            ledger.told(number, value, {}, "it failed" if value is None else None)


@pytest.fixture
def studies(tmp_path, numbers):
    ended(tmp_path, spec_of("one", numbers), {0.9: 3.0, 0.5: 1.0, 0.4: None, 0.6: 2.0})
    ended(tmp_path, spec_of("two", numbers), {0.5: 0.1, 0.2: 9.0, 0.15: 0.2})
    return tmp_path


def first_of(studies, numbers, **more):
    study = Study.from_spec(spec_of("new", numbers, **more), studies)
    return with_first(study.spec, study.folder, study.place)


def test_the_best_of_each_come_in_turn_and_none_twice(studies, numbers):
    spec = first_of(studies, numbers, start_from=["one", "two"], trials=50)
    assert [config["rate"] for config in spec.first] == [0.5, 0.6, 0.15, 0.9, 0.2]
    searcher = spec.searcher()
    assert isinstance(searcher, FirstThese)
    assert [searcher.ask(str(k)) for k in range(2)] == [{"rate": 0.5}, {"rate": 0.6}]
    assert StudySpec.of(spec.model_dump(mode="json"), as_it_was=True) == spec, "as the ledger keeps it"


def test_they_are_a_fifth_of_the_trials_and_those_named_come_before_them(studies, numbers):
    given = [{"rate": 0.3}, {"rate": 0.5}]
    spec = first_of(studies, numbers, start_from=["one"], first=given, trials=10)
    assert [config["rate"] for config in spec.first] == [0.3, 0.5, 0.6, 0.9]
    assert len(first_of(studies, numbers, start_from=["one"], trials=3).first) == 1


def test_configs_outside_of_the_space_are_left_out(studies, numbers):
    narrow = {"rate": {"type": "float", "low": 0.1, "high": 0.3}}
    spec = first_of(studies, numbers, start_from=["two"], space=narrow)
    assert [config["rate"] for config in spec.first] == [0.15, 0.2]
    with pytest.raises(
        SpecError, match=r"no finished trial of one lies in \[space\] of 'new'; widen \[space\] or name"
    ):
        first_of(studies, numbers, start_from=["one"], space=narrow)


def test_unknown_studies_and_other_kinds_are_refused(studies, numbers, al4):
    with pytest.raises(SpecError, match="there is no study 'tow' beside 'new'; did you mean 'two'"):
        first_of(studies, numbers, start_from=["one", "tow"])
    with pytest.raises(SpecError, match="there is no study 'new' beside 'new'"):
        first_of(studies, numbers, start_from=["new"])
    other = StudySpec.of({"name": "al4", "dataset": al4.path})
    (studies / "al4").mkdir()
    Ledger.create(studies / "al4" / "ledger.db", other, "0" * 64).close()
    with pytest.raises(SpecError, match="study 'al4' is of kind 'ldos', whose configs say nothing of 'toy'"):
        first_of(studies, numbers, start_from=["al4"])


@pytest.mark.parametrize(
    "more, message",
    [
        ({"first": [{"rate": 2.0}]}, r"first: {'rate': 2.0} is not a config of \[space\]; give each"),
        ({"first": [{"rate": 0.2}, {"rate": 0.3}], "trials": 2}, "first has 2 configs, and trials = 2; raise trials"),
    ],
)
def test_configs_that_cannot_come_first_are_refused(numbers, more, message):
    with pytest.raises(SpecError, match=message):
        spec_of("new", numbers, **more)


def test_a_study_trains_them_first(studies, numbers, local_ray):
    study = Study.from_spec(spec_of("new", numbers, start_from=["two"], trials=6), studies)
    study.run(defaults=False)
    rates = [trial.config["rate"] for trial in study.trials()]
    assert rates[0] == 0.5
    assert len(rates) == 6
    assert Study.open("new", studies).spec.first == ({"rate": 0.5},)
