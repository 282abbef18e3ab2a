import pytest

from dftune.searchers.first import FirstThese
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.searcher import PastTrial
from dftune.searchers.space import Choice, Float, Int, contains

SPACE = {
    "layers": Int(low=1, high=3),
    "rate": Float(low=0.1, high=1.0, log=True),
    "kind": Choice(values=("a", "b"), when={"layers": [2, 3]}),
}
GIVEN = ({"layers": 1, "rate": 0.5}, {"layers": 2, "rate": 0.2, "kind": "b"})


class Told(RandomSearch):
    """Remembers what it is told."""

    def __init__(self):
        super().__init__(SPACE, 3)
        self.told = []

    def tell(self, trial, value, *cost):
        self.told.append((trial, value, *cost))


def test_given_configs_come_first_and_the_method_goes_on_as_if_alone():
    alone, inner = RandomSearch(SPACE, 3), Told()
    searcher = FirstThese(inner, GIVEN)
    asked = [searcher.ask(str(k)) for k in range(5)]
    assert asked == [*GIVEN, *(alone.ask(str(k)) for k in range(3))]
    for k in range(5):
        searcher.tell(str(k), 0.5 + k, 7.0)
    assert inner.told == [("2", 2.5, 7.0), ("3", 3.5, 7.0), ("4", 4.5, 7.0)]
    assert searcher.explanation() == []


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_a_search_that_was_stopped_goes_on_with_the_same_configs(n):
    whole = FirstThese(RandomSearch(SPACE, 3), GIVEN)
    asked = [whole.ask(str(k)) for k in range(6)]
    again = FirstThese(Told(), GIVEN)
    again.replay([PastTrial(str(k), asked[k], finished=True, value=1.0) for k in range(n)])
    assert [again.ask(str(k)) for k in range(n, 6)] == asked[n:]
    if n:
        again.tell("0", 1.0)
        assert again.searcher.told == []


@pytest.mark.parametrize(
    "config, inside",
    [
        ({"layers": 1, "rate": 0.5}, True),
        ({"layers": 2, "rate": 0.5}, False),
        ({"layers": 1, "rate": 0.5, "kind": "a"}, False),
        ({"layers": 2, "rate": 0.5, "kind": "c"}, False),
        ({"layers": 4, "rate": 0.5, "kind": "a"}, False),
        ({"layers": 1, "rate": 0.5, "more": 1}, False),
        ({"rate": 0.5}, False),
    ],
)
def test_a_config_lies_in_a_space_if_all_that_exists_there_has_a_value_of_its_range(config, inside):
    assert contains(SPACE, config) is inside
