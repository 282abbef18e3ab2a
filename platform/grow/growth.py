"""The loop: DFT of some snapshots, a surrogate of all, candidates, those of them that teach it most, and again."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...cluster.dft.generate import GIVE_UP, Campaign, campaign, words_of
from ...trainables.data.composing.selection import choose
from ...trainables.data.dataset import Dataset
from ...trainables.data.generating.spec import GenerateError, GenerateSpec
from ...trainables.data.generating.structures import Planned, plan_structures
from ...trainables.data.structure_distance import radial_distribution
from ...trainables.progress import Within
from ..model.calculator import mover
from ..model.model import Model
from ..progress import Progress, default_progress
from ..study.fit import fit
from ..teaching import lessons_of, said
from .dynamics import Dynamics, moved, read_picked, write_picked
from .figure import draw
from .record import Pick, Record, Result, Round

FIGURE = "growth.png"
AT_FIRST = "as different from each other as possible, as there is no surrogate yet"


@dataclass(frozen=True)
class Plan:
    """When a growth ends, and how it goes on.

    Attributes:
        runs: most DFT runs, those of validation and test snapshots included.
        error: of the free energy of the validation snapshots, at which it ends [meV/atom]; None: the runs end it.  Test
            snapshots decide nothing.
        first: training snapshots before the first surrogate.
        each: of every further round.
        dynamics: candidates by molecular dynamics with each surrogate, too; None: those of the specification alone.
        settings: of ``fit``.

    Raises:
        GenerateError: an error that is never reached, or rounds of nothing.
    """

    runs: int
    error: float | None = None
    first: int = 4
    each: int = 2
    dynamics: Dynamics | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.error is not None and not self.error > 0:
            raise GenerateError(f"an error of {self.error:g} meV/atom is never reached; give a positive one")
        if min(self.first, self.each) < 1:
            raise GenerateError("give 1 or more snapshots of the first round and of each other one")

    def refuse(self, judges: Sequence[Planned], candidates: Sequence[Planned]) -> None:
        """Raise GenerateError if no surrogate can be made and judged with it."""
        for split in ("validation", "test"):
            if not any(one.split == split for one in judges):
                raise GenerateError(f"no {split} snapshot; the surrogates are judged by some of each")
        if len(candidates) < self.first:
            raise GenerateError(
                f"{len(candidates)} training snapshots to choose the first {self.first} from; give more, or choose "
                "fewer at first"
            )
        if self.runs < (least := len(judges) + self.first):
            raise GenerateError(
                f"a budget of {self.runs} DFT runs does not reach the first surrogate, which takes {len(judges)} "
                f"validation and test snapshots and {self.first} for the training; give {least} runs or more"
            )

    def ended(self, last: Result, tried: int) -> str | None:
        """Why there is no round after this one and so many DFT runs; None if there is."""
        error = last.free_energy("validation")
        if self.error is not None and error is not None and error <= self.error:
            return f"ended: {error:.3g} meV/atom on the validation snapshots, {self.error:g} asked for"
        if tried >= self.runs:
            return f"ended: {tried} DFT runs, and the budget is {self.runs}"
        return None


@dataclass(frozen=True)
class Growth:
    """What a growth came to: its folder, all rounds, why it ended, the newest dataset and surrogate."""

    path: Path
    record: Record
    ended: str
    data: Path
    model: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rounds = [one.model_dump(mode="json") for one in self.record.rounds]
        places = {"path": str(self.path), "data": str(self.data), "model": str(self.model)}
        return {**places, "ended": self.ended, "rounds": rounds}


def grow(
    spec: str | Path, folder: str | Path, plan: Plan, *, address: str | None = None, progress: Progress | None = None
) -> Growth:
    """Let a dataset grow until its surrogate is good enough, or go on with one that was stopped.

    Args:
        spec: TOML file of `dftune data generate`; its training snapshots are the candidates.
        folder: of all that comes of it; made if it is not there.
        plan: when it ends, and how it goes on.  It may differ from the one that it was begun with.
        address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.

    Raises:
        InputError: the specification does not allow it, a program is missing, or all runs of a round have failed.
    """
    spec, folder = Path(spec), Path(folder).expanduser().absolute()
    told, read = progress or default_progress(), GenerateSpec.read(spec)
    sha256 = hashlib.sha256(read.model_dump_json().encode()).hexdigest()
    Record.read(folder, sha256)  # is it the right folder, before anything is begun
    planned = plan_structures(read, surrogate=mover(told.say), runs=folder / "runs")
    judges = [one for one in planned if one.split != "train"]
    candidates = [one for one in planned if one.split == "train"]
    try:
        if read.n_datasets > 1:
            raise GenerateError(f"asks for {read.n_datasets} datasets of the same runs; give the energies of one")
        plan.refuse(judges, candidates)
    except GenerateError as error:
        raise GenerateError(f"{spec}: {error}") from error
    with closing(told), campaign(read, planned, folder / "runs", address, Within(told)) as dft:
        record = Record.read(folder, sha256)  # again, as no other process writes it now
        return _Growing(folder, plan, judges, candidates, record, dft, told).to_its_end()


class _Growing:
    """A growth that this process holds."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        judges: Sequence[Planned],
        candidates: Sequence[Planned],
        record: Record,
        dft: Campaign,
        progress: Progress,
    ) -> None:
        self._folder, self._plan, self._judges, self._dft = folder, plan, judges, dft
        self._record, self._progress = record, progress
        self._candidates = {one.id: one for one in candidates}
        self._failed: dict[str, str] = {}  # name -> why; this process tries none of them again
        self._in_a_row = 0

    def to_its_end(self) -> Growth:
        """Round after round."""
        if not self._record.rounds:
            self._choose(1)
        while True:
            number = len(self._record.rounds)
            while self._record.rounds[-1].result is None:
                self._finish(number)
            ended = self._plan.ended(self._record.results[-1], self._tried)
            if ended is None and not self._choose(number + 1):
                ended = "ended: no candidate is left; give more training snapshots, or molecular dynamics"
            if ended is not None:
                self._progress.say(ended)
                place = self._place(number)
                return Growth(self._folder, self._record, ended, place / "data", place / "model")

    def _place(self, number: int) -> Path:
        return self._folder / "rounds" / f"{number:03d}"

    def _keep(self, *rounds: Round) -> None:
        self._record = self._record.model_copy(update={"rounds": rounds})
        self._record.write(self._folder)

    def _snapshots(self) -> list[Planned]:
        """Those of training that were chosen so far, in the order of the rounds."""
        found = []
        for number, one in enumerate(self._record.rounds, 1):
            by_dynamics = {p.id: p for p in read_picked(self._place(number))}
            found += [by_dynamics.get(p.id) or self._candidates[p.id] for p in one.picked]
        return found

    def _finish(self, number: int) -> None:
        """Compute what a round has chosen, fit, and write down what it came to; or choose others if all have failed."""
        *before, last = self._record.rounds
        chosen, place, plan = self._snapshots(), self._place(number), self._plan
        new = chosen[-len(last.picked) :]
        due = [*self._judges, *new] if number == 1 else new
        self._failed |= self._dft.compute([one for one in due if one.id not in self._failed])
        failed = {one.id: self._failed[one.id] for one in due if one.id in self._failed}
        if any(one.id in failed for one in self._judges):
            raise GenerateError(f"{words_of(failed)}; the same command tries again")
        if not any(self._dft.is_finished(one) for one in new):
            return self._replace(number, failed)
        finished = [one for one in (*self._judges, *chosen) if self._dft.is_finished(one)]
        result = Result(
            runs=len(finished),
            atoms=sum(len(one.atoms) for one in finished),
            train=len(finished) - len(self._judges),
            cpu_seconds=self._dft.runs.seconds([one.id for one in finished]),
            errors=self._fitted(finished, place, again=number > 1).card.accuracy.splits or {},
        )
        self._in_a_row = 0
        self._keep(*before, last.model_copy(update={"failed": failed, "result": result}))
        draw(self._record.results, plan.error, self._folder / FIGURE)
        self._progress.say(f"round {number}: {_words(result, plan.error)}")

    def _fitted(self, finished: Sequence[Planned], place: Path, *, again: bool) -> Model:
        """The surrogate of some snapshots.  What a process that ended early has made of others is made again."""
        data, model = place / "data", place / "model"
        if data.exists() and {s.id for s in Dataset.open(data)} != {one.id for one in finished}:
            shutil.rmtree(model, ignore_errors=True)
            shutil.rmtree(data)
        if not data.exists():
            self._dft.write(finished, data, again=again)
        if not model.exists():
            fit(data, model, progress=Within(self._progress), **self._plan.settings)
        return Model.open(model)

    def _replace(self, number: int, failed: Mapping[str, str]) -> None:
        """Choose others beside those of a round that have all failed, but end if many have for the first time.

        Raises:
            GenerateError: the programs or the machine are at fault rather than structures, or there are no others.
        """
        *before, last = self._record.rounds
        self._in_a_row += len(failed.keys() - last.failed.keys())
        self._keep(*before, last.model_copy(update={"failed": dict(failed)}))
        if self._in_a_row >= GIVE_UP:
            raise GenerateError(f"{words_of(failed)}; the same command tries again, and others if they fail again")
        if len(failed) < len(last.picked):
            return  # some were not tried
        self._progress.say(f"round {number}: {words_of(failed)}; others are chosen")
        if not self._choose(number):
            raise GenerateError(f"{words_of(failed)}, and there are no others, or no runs left; give more of both")

    @property
    def _tried(self) -> int:
        """DFT runs so far, failed ones included."""
        return len(self._judges) + sum(len(one.picked) for one in self._record.rounds)

    def _choose(self, number: int) -> bool:
        """Choose snapshots for a round, beside those that it has; whether there are any."""
        taken = {p.id for one in self._record.rounds for p in one.picked}
        some = [one for one in self._candidates.values() if one.id not in taken]
        if number > 1 and self._plan.dynamics is not None:
            some += [one for one in self._moved(number, self._plan.dynamics) if one.id not in taken]
        plan = self._plan
        many = min(plan.first if number == 1 else plan.each, plan.runs - self._tried, len(some))
        if many < 1:
            return False
        picks, expected = self._first(some, many) if number == 1 else self._lessons(number, some, many)
        before, last = self._record.rounds[: number - 1], Round(picked=(), expected=expected)
        if len(self._record.rounds) == number:
            last = self._record.rounds[-1]
        self._keep(*before, last.model_copy(update={"picked": (*last.picked, *picks)}))
        return True

    def _moved(self, number: int, asked: Dynamics) -> list[Planned]:
        """Candidates by dynamics with the surrogate of the last round."""
        starts = self._snapshots()[: self._plan.first]
        model = Model.open(self._place(number - 1) / "model")
        return moved(model, starts[(number - 2) % len(starts)], self._place(number), number, asked, self._progress)

    def _first(self, some: Sequence[Planned], many: int) -> tuple[tuple[Pick, ...], str]:
        """The first snapshots, without a surrogate that could choose them."""
        frames = choose([radial_distribution(one.atoms) for one in some], many, "farthest").frames
        self._progress.say(f"round 1: {', '.join(some[n].id for n in frames)}: {AT_FIRST}")
        return tuple(Pick(id=some[n].id, reason=AT_FIRST) for n in frames), ""

    def _lessons(self, number: int, some: Sequence[Planned], many: int) -> tuple[tuple[Pick, ...], str]:
        """Those that teach the surrogate of the last round most, and what they are worth."""
        model, told = Model.open(self._place(number - 1) / "model"), Within(self._progress)
        found = lessons_of(model, [one.atoms for one in some], many, progress=told)
        picked = [some[lesson.number] for lesson in found.chosen]
        by_dynamics = [one for one in picked if one.id not in self._candidates]
        write_picked(self._place(number), [*read_picked(self._place(number)), *by_dynamics])
        for line in said(found, [one.id for one in some]):
            self._progress.say(f"round {number}: {line}")
        reasons = [lesson.reason for lesson in found.chosen]
        return tuple(Pick(id=one.id, reason=why) for one, why in zip(picked, reasons, strict=True)), found.expected


def _words(result: Result, asked: float | None) -> str:
    """What a round came to, for people."""
    errors = [
        f"{error:.3g} meV/atom on the {split} snapshots"
        for split in ("validation", "test")
        if (error := result.free_energy(split)) is not None
    ]
    return (
        f"{result.train} training snapshots, {result.runs} DFT runs of {result.atoms} atoms, "
        f"{result.cpu_seconds / 60:.1f} CPU min: {', '.join(errors) or 'the error is not defined'}"
        + ("" if asked is None else f", {asked:g} asked for on validation")
    )
