"""The defaults without a search: which they are, and when they are worth their training."""

from typing import Any

import pytest

from dftune.platform.ledger.as_it_began import defaults_of
from dftune.platform.ledger.ledger import LedgerTrial
from dftune.platform.spec import StudySpec
from dftune.platform.study.defaults import default_config, lines, too_costly
from dftune.trainables.ldos.config import SurrogateConfig


def spec_of(**changes: Any) -> StudySpec:
    values: dict[str, Any] = {"name": "x", "dataset": "examples/al4", "method": "random", "trials": 12}
    return StudySpec.of(values | {"initializations": 5} | changes)


WORK = spec_of().of_kind.compute.report


def trial(number: int, work: float) -> LedgerTrial:
    result = {WORK: work, "seconds": 1.0, "epoch": 3}
    return LedgerTrial(number, {}, "finished", 1.0, seconds=1.0, result=result, ended_at=1.0)


def test_the_defaults_are_those_of_the_network_in_the_space_of_the_study():
    space = {"n_layers": {"type": "int", "low": 1, "high": 3}, "width": {"type": "int", "low": 300, "high": 400}}
    spec = spec_of(space=space, config={"epochs": 7})
    found, default = default_config(spec, defaults_of(spec)["all"]), SurrogateConfig.of({})
    assert found == {"n_layers": default.n_layers, "width": default.width}, "also outside the ranges"
    assert spec.full(found) == SurrogateConfig.of({"epochs": 7}), "with what the study holds fixed"


@pytest.mark.parametrize(
    "works, budget, said",
    [
        ([10.0] * 5, None, None),
        ([10.0] * 4, None, "it would take longer than the search"),
        ([10.0] * 5, 100.0, None),
        ([10.0] * 5, 99.0, "the budget of the study does not allow it"),
    ],
)
def test_the_defaults_never_double_a_study_nor_exceed_its_budget(works, budget, said):
    trials = [trial(n, work) for n, work in enumerate(works)]
    spec = spec_of() if budget is None else spec_of(budget={WORK: budget})
    assert too_costly(spec, trials, trials[0]) == said


def test_a_study_says_why_its_defaults_were_left_out():
    assert lines(spec_of(), None) == [], "a ledger of an early version says nothing"
    assert lines(spec_of(), {"left_out": "so"}) == ["the defaults without a search were not trained: so"]
