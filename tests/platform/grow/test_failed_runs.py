"""A growth whose DFT runs fail.  Loop and fits are real; what the runs give is bundled aluminium."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from dftune.platform.grow.growth import Plan, _Growing
from dftune.platform.grow.record import Record
from dftune.trainables.data.composing.selection import take
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.generating.spec import GenerateError
from dftune.trainables.data.generating.structures import Planned
from dftune.trainables.data.structure_distance import atoms_of
from dftune.trainables.errors import InputError
from dftune.trainables.progress import Silent

SMALL = {"descriptors": {"cutoff": 4.0, "two_j_max": 4}, "initializations": 1}


class Recorded:
    """In the place of a campaign: gives snapshots of a dataset, but for those that fail."""

    def __init__(self, source: Dataset) -> None:
        self.source, self.failing, self.finished, self.asked = source, set[str](), set[str](), list[str]()
        self.runs = SimpleNamespace(seconds=lambda names: 2.0 * len(names))

    def compute(self, some: Sequence[Planned]) -> dict[str, str]:
        todo = [one.id for one in some if one.id not in self.finished]
        self.asked += todo
        self.finished |= set(todo) - self.failing
        return {name: "no convergence" for name in todo if name in self.failing}

    def is_finished(self, one: Planned) -> bool:
        return one.id in self.finished

    def write(self, finished: Sequence[Planned], place: Path, number: int = 0, *, again: bool = False) -> Dataset:
        return take(self.source, place, [one.id for one in finished])


class Bench:
    """The growth of one folder, process after process."""

    def __init__(self, source: Dataset, folder: Path) -> None:
        self.dft, self.folder = Recorded(source), folder
        self.planned = [Planned(s.id, s.split, s.group, atoms_of(s), 16.6, 3158.0) for s in source]

    def grow(self, **plan):
        judges, candidates = ([p for p in self.planned if (p.split == "train") is train] for train in (False, True))
        asked = Plan(**{"runs": 12, "first": 2, "each": 1, "settings": SMALL, **plan})
        record = Record.read(self.folder, "a" * 64)
        return _Growing(self.folder, asked, judges, candidates, record, self.dft, Silent()).to_its_end()

    @property
    def rounds(self):
        return Record.read(self.folder, "a" * 64).rounds


@pytest.fixture
def bench(described, tmp_path) -> Bench:
    return Bench(described, tmp_path / "out")


def test_what_succeeds_after_a_crash_is_in_the_data_of_its_round(bench, local_ray):
    bench.dft.failing = {"000", "005"}
    wrong = {**SMALL, "config": {"width": -1}}
    with pytest.raises(InputError, match="width"):
        bench.grow(runs=9, first=3, settings=wrong)  # ends between data and result
    data = bench.folder / "rounds/001/data"
    before = {s.id for s in Dataset.open(data) if s.split == "train"}
    bench.dft.failing = set()
    bench.grow(runs=9, first=3)
    (only,) = bench.rounds
    after = {s.id for s in Dataset.open(data) if s.split == "train"}
    assert before < after == {pick.id for pick in only.picked}
    assert (only.result.train, only.result.runs, only.result.cpu_seconds, only.failed) == (3, 9, 18.0, {})


def test_others_are_chosen_for_a_round_that_fails_as_a_whole(bench, local_ray):
    bench.grow(runs=8)
    known = {pick.id for pick in bench.rounds[0].picked}
    left = [p.id for p in bench.planned if p.split == "train" and p.id not in known]
    bench.dft.failing, bench.dft.asked = set(left), []
    with pytest.raises(GenerateError, match="and 2 others failed: no convergence; the same command tries again"):
        bench.grow()
    assert len(bench.dft.asked) == len(set(bench.dft.asked)) == 3, "three in a row are no fault of structures"
    bench.dft.failing = set(bench.dft.asked)
    bench.grow()
    last = bench.rounds[-1]
    assert {pick.id for pick in last.picked} == set(left)
    assert set(last.failed) == bench.dft.failing
    assert (len(bench.rounds), last.result.train, last.result.runs) == (2, 3, 9)


def test_a_round_without_others_says_so(bench):
    trains = [p for p in bench.planned if p.split == "train"]
    bench.planned = [p for p in bench.planned if p not in trains[2:]]
    bench.dft.failing = {p.id for p in bench.planned if p.split == "train"}
    with pytest.raises(GenerateError, match="no convergence, and there are no others, or no runs left"):
        bench.grow()
