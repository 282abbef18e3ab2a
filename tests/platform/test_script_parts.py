"""Searchers and scores that a script brings along run as ours do; what cannot work is refused before anything runs."""

import os
import subprocess
import sys

import pytest

from dftune import Study
from dftune.platform.study.words import explained
from dftune.searchers.random_search import RandomSearch
from dftune.tests.platform.test_toy_kind import FEW, ONE
from dftune.tests.toy_kind import ToyKind, rate
from dftune.trainables.errors import InputError
from dftune.trainables.kind import Score

pytestmark = pytest.mark.usefixtures("toy")


class Halving:
    """Halve the rate every time, whatever comes of it."""

    def __init__(self, task=None):
        self.asked = 0

    def ask(self, trial):
        self.asked += 1
        return {"rate": 0.8 / 2**self.asked}

    def tell(self, trial, value):
        assert value is None or value >= 0

    def replay(self, history):
        self.asked = len(history)


def process(configs, batch, seed):
    """A score that says where it was computed."""
    return [float(os.getpid()) for _ in configs]


@pytest.mark.parametrize(
    "method", [Halving, Halving(), lambda task: Halving(task)], ids=["class", "object", "function"]
)
def test_a_searcher_of_the_script_is_built_afresh_each_time(numbers, method):
    study = Study("mine", numbers, method=method, trials=2)
    for _ in "12":
        searcher = study.spec.searcher(own=study.own)
        assert [searcher.ask("0"), searcher.ask("1")] == [{"rate": 0.4}, {"rate": 0.2}]


def test_a_searcher_of_the_script_chooses_the_trials(local_ray, numbers, tmp_path):
    space = {"rate": {"type": "float", "low": 0.05, "high": 0.9}}
    study = Study(
        "mine", numbers, method=Halving(), trials=3, initializations=1, studies=tmp_path, space=space, resources=ONE
    )
    assert study.run().trial == 0, "the fastest"
    opened = Study.open("mine", tmp_path)
    assert opened.spec.method == "Halving"
    assert [t.config["rate"] for t in opened.trials()] == [0.4, 0.2, 0.1]
    with opened.reading() as ledger:
        assert explained(ledger, opened.own) == [], "without the script, too"


def test_a_score_of_the_script_is_computed_in_other_processes(local_ray, numbers, tmp_path):
    scores = {"place": Score(process, 2, "number of the process")}
    study = Study(
        "placed", numbers, method="place", scores=scores, options=FEW, initializations=1, studies=tmp_path,
        resources=ONE,
    )  # fmt: skip
    study.run()
    trials = Study.open("placed", tmp_path).trials()
    assert [t.state for t in trials] == ["finished"] * 3
    places = {t.scores["place"] for t in trials}
    assert places, trials
    assert os.getpid() not in places
    assert {q.name for q in study.score_qualities()} == {"place"}


def test_a_score_is_computed_without_the_import_of_what_its_kind_does_without():
    code = """
import sys
import dftune.cluster.trials.scoring
from dftune.tests.toy_kind import ToyConfig, rate
print(rate([ToyConfig(rate=0.5)], None, 0), "torch" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert out.stdout == "[0.5] False\n"


def no_tell(task):
    class Asks:
        ask = staticmethod(lambda trial: {"rate": 0.5})

    return Asks()


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"method": "ratte"}, r"unknown method 'ratte'; did you mean 'rate'\?"),
        ({"method": "mine"}, "unknown method 'mine'; there are random, grid"),
        ({"scores": {"mine": rate}}, "score 'mine' is a function alone; give a Score"),
        ({"scores": {"mine": 7}}, "score 'mine' is 7; give a Score"),
        ({"scores": {"rate": Score(rate, 1, "r")}}, "score 'rate' of the script has the name of another one"),
        ({"scores": {"random": Score(rate, 1, "r")}}, "score 'random' of the script has the name of .* a method"),
        ({"method": 7}, "'int' of the script gives no searcher: it has no ask, tell, replay;"),
        ({"method": ToyKind}, "'ToyKind' of the script gives no searcher: it has no ask, tell, replay;"),
        ({"method": no_tell(None)}, "'Asks' of the script gives no searcher: it has no tell, replay;"),
        ({"method": no_tell}, "method no_tell: 'no_tell' of the script gives no searcher: it has no tell, replay;"),
        ({"method": type("random", (RandomSearch,), {})}, "'random' of the script has the name of another method"),
        ({"config": {"depth": 3}}, "depth: extra inputs are not permitted"),
        ({"toys": {"shirt": 1.0}}, "unknown key 'toys.shirt'; did you mean 'shift'"),
        ({"minimize": "energy"}, "minimize = 'energy' is unknown; there are error"),
        ({"minimize": ["error", "size"]}, "minimize = 'size' is unknown beside 'error'; there are "),
        ({"minimize": ["price", "error"]}, "minimize = 'price' is unknown; there are error"),
        ({"minimize": ["error", "price", "price"]}, "minimize: 'price' is minimised already; leave it out of one"),
        ({"minimize": []}, "minimize"),
        ({"cost": "size"}, r"unknown key 'cost'; name it in a list, as minimize = \["),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(numbers, tmp_path, changes, text):
    with pytest.raises(InputError, match=text) as error:
        Study("refused", numbers, studies=tmp_path, **changes).run()
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
