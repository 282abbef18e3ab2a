"""Models repeated over splits: a task each, kept in the folder; with a kind that repeats numbers."""

from dataclasses import dataclass

import pytest

from dftune.platform.compare import over_splits as module
from dftune.platform.compare.comparison import Comparison
from dftune.platform.compare.outcome import Outcome
from dftune.platform.compare.over_splits import STORED, over_splits
from dftune.platform.progress import Silent
from dftune.platform.spec import SpecError, StudySpec
from dftune.tests.toy_kind import ToyKind
from dftune.trainables.errors import DatasetError
from dftune.trainables.kinds import KINDS


@dataclass(frozen=True)
class Task:
    key: str
    name: str = "toy"


@dataclass(frozen=True)
class Plan:
    tasks: list[Task]

    def work(self, task: Task) -> dict[str, str]:
        return {"did": task.key}

    def found(self, results: list[dict[str, str]]) -> list[str]:
        return [result["did"] for result in results]


class Repeats(ToyKind):
    def over_splits(self, data, settings, config, found, n, sizes):
        if max(sizes) > 100:
            raise DatasetError(f"no {max(sizes)} there")
        return Plan(
            [Task(f"{n} splits"), *(Task(f"{name} {one.rate}") for name, one in found.items()), *map(Task, sizes)]
        )


@dataclass
class Numbers:
    fingerprint: str = "1"


@pytest.fixture
def spec(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS._ours, "toy", Repeats())
    compare = {"splits": 3, "curve": [5]}
    return StudySpec.of({"name": "toys", "kind": "toy", "dataset": str(tmp_path), "compare": compare})


@pytest.fixture
def done(monkeypatch):
    """The tasks that were done, in this process."""
    keys = []

    def here(work, tasks):
        for number, task in enumerate(tasks):
            keys.append(task.key)
            yield number, work(task)

    monkeypatch.setattr(module, "as_done", here)
    return keys


OUTCOMES = [
    Outcome("random", 0, "", value=0.3, config={"rate": 0.2}),
    Outcome("rate", 0, "", value=0.1, config={"rate": 0.7}),
    Outcome("worse", 0, "", value=None, failure="it burnt"),
]


def test_the_best_config_on_validation_data_is_repeated(spec, done, tmp_path):
    assert over_splits(spec, Numbers(), OUTCOMES, tmp_path, Silent()) == ["3 splits", "rate 0.7", 5]
    assert done == ["3 splits", "rate 0.7", 5]


def test_of_several_objectives_the_config_is_of_a_method_that_minimises_all(spec, done, tmp_path):
    outcomes = [*OUTCOMES, Outcome("optuna", 0, "", value=0.2, config={"rate": 0.4})]
    assert over_splits(spec, Numbers(), outcomes, tmp_path, Silent())[1] == "rate 0.7"
    several = StudySpec.of(spec.model_dump() | {"minimize": ["error", "bias"], "method": "optuna"})
    assert over_splits(several, Numbers(), outcomes, tmp_path, Silent())[1] == "optuna 0.4"
    assert over_splits(several, Numbers(), OUTCOMES, tmp_path, Silent())[1] == "rate 0.7", "none there"


def test_what_is_done_is_not_done_again_unless_the_data_changed(spec, done, tmp_path):
    first = over_splits(spec, Numbers(), OUTCOMES[:1], tmp_path, Silent())
    done.clear()
    assert over_splits(spec, Numbers(), OUTCOMES[:1], tmp_path, Silent()) == first
    assert done == []
    assert over_splits(spec, Numbers(), OUTCOMES, tmp_path, Silent())[1] == "rate 0.7"
    assert done == ["rate 0.7"]
    over_splits(spec, Numbers("2"), OUTCOMES, tmp_path, Silent())
    assert len(done) == 4


def test_a_damaged_file_of_results_is_made_anew(spec, done, tmp_path):
    (tmp_path / STORED).write_text('{"half')
    assert over_splits(spec, Numbers(), [], tmp_path, Silent()) == ["3 splits", 5]
    assert over_splits(spec, Numbers(), [], tmp_path, Silent()) == ["3 splits", 5]
    assert done == ["3 splits", 5]


def test_a_kind_that_repeats_nothing_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS._ours, "toy", ToyKind())
    spec = StudySpec.of({"name": "toys", "kind": "toy", "dataset": str(tmp_path), "compare": {"splits": 3}})
    with pytest.raises(SpecError, match="surrogates of kind 'toy' are not repeated over splits; leave splits out"):
        Comparison(spec, tmp_path)


def test_a_curve_that_the_data_do_not_have_is_refused_before_any_search(spec, numbers, tmp_path):
    compare = spec.compare.model_copy(update={"curve": (5, 10_000)})
    with pytest.raises(DatasetError, match="no 10000 there"):
        Comparison(spec.model_copy(update={"dataset": str(numbers), "compare": compare}), tmp_path)


def test_a_curve_needs_splits(tmp_path):
    with pytest.raises(SpecError, match="curve has no use without splits"):
        StudySpec.of({"name": "toys", "kind": "alloys", "dataset": str(tmp_path), "compare": {"curve": [10]}})
