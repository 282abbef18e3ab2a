"""A search in simulated time: what a method takes on a number of slots.  Times in seconds.

The methods themselves are asked and told in simulated time, so that what they wait for limits them here as it does on a
cluster (Fiedler et al. (2022), Fig. 3): rounds of direct search, the confirmation of an orthogonal array, scores before
the first training.  A slot is the resources of one trial.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import cast

from ...searchers.searcher import Pruned, Searcher, SeveralSearcher, Wait
from ...searchers.space import Config
from ..tables import Budget

ASK_SECONDS = 0.03  # of the driver, for a trial that does nothing, ledger included (benchmarks/overhead.py)
REPORT_SECONDS = 0.005  # of the driver, for each report of a trial: a guess until benchmarks/plan.py is run
IDLE_SECONDS = 1.0  # Ray Tune sleeps as long after each ask while nothing runs, the one that brings a trial included
SCORES_IN_FLIGHT = 4  # candidates that the scorer beside the trials has been given; the others can be withdrawn


@dataclass(frozen=True)
class TrialCost:
    """What a trial will take and tell: seconds of training, reports on the way, the numbers to be minimised.

    ``work`` is what it will report as ``Kind.compute``.
    """

    seconds: float
    value: float
    others: tuple[float, ...] = ()
    epochs: int = 1
    work: float = 0.0


@dataclass(frozen=True)
class Overhead:
    """Seconds that a trial takes besides its training.

    start: in a new process, from the ask until it trains; reset: in the process of an earlier trial.
    ask, report: of the driver, which does one thing at a time.
    """

    start: float = 0.0
    reset: float = 0.0
    ask: float = ASK_SECONDS
    report: float = REPORT_SECONDS


@dataclass(frozen=True)
class Timing:
    """A simulated search.

    seconds: until the last trial has ended.
    used: seconds in which slots trained or scored, summed; reserved: all seconds of all slots.
    most: trials at once; limited: more slots may change it.
    """

    slots: int
    seconds: float
    used: float
    trained: int
    pruned: int
    most: int
    limited: bool

    @property
    def reserved(self) -> float:
        return self.slots * self.seconds

    @property
    def utilisation(self) -> float:
        """Share of the reserved time that was used."""
        return self.used / self.reserved if self.reserved else 0.0


class SimulatedScorer:
    """A scorer in simulated time: as ``ClusterScorer``, it starts the work and answers what is known by ``now``.

    Args:
        score_of: the score of what it sees of a config.
        seen_of: what the score sees of a config.
        seconds: for one candidate in one process.
        processes: that score at once.
        start: seconds until a process scores.
        beside_trials: one process beside the slots, whose queue holds only what was asked for last.
    """

    def __init__(
        self,
        score_of: Callable[[Hashable], float],
        seen_of: Callable[[Config], Hashable],
        *,
        seconds: float,
        processes: int,
        start: float = 0.0,
        beside_trials: bool = False,
    ) -> None:
        self.now, self.n_scored, self.limited = 0.0, 0, False
        self._score_of, self._seen_of = score_of, seen_of
        self._seconds, self._processes, self._start, self._beside_trials = seconds, processes, start, beside_trials
        self._free: list[float] = []  # when each process has done its work
        self._known_at: dict[Hashable, float] = {}
        self._queue: list[Hashable] = []

    def __call__(self, configs: Sequence[Config]) -> list[float | None]:
        asked = [self._seen_of(config) for config in configs]
        new = dict.fromkeys(seen for seen in asked if seen not in self._known_at)
        self._queue = list(new if self._beside_trials else dict.fromkeys([*self._queue, *new]))
        self._submit()
        return [self._score_of(seen) if self._known_at.get(seen, math.inf) <= self.now else None for seen in asked]

    @property
    def next_at(self) -> float:
        """When the next score will be known."""
        return min((at for at in self._known_at.values() if at > self.now), default=math.inf)

    @property
    def slot_seconds(self) -> float:
        """Of scoring on slots of the trials."""
        return 0.0 if self._beside_trials else self.n_scored * self._seconds

    def _submit(self) -> None:
        if self._queue and not self._free:
            wanted = 1 if self._beside_trials else math.ceil(len(self._queue) / 4)  # as ClusterScorer
            self.limited = wanted > self._processes
            self._free = [self.now + self._start] * min(wanted, self._processes)
        room = math.inf
        if self._beside_trials:
            room = SCORES_IN_FLIGHT - sum(at > self.now for at in self._known_at.values())
        while self._queue and room > 0:
            known_at = max(heappop(self._free), self.now) + self._seconds
            heappush(self._free, known_at)
            self._known_at[self._queue.pop(0)] = known_at
            self.n_scored, room = self.n_scored + 1, room - 1


def simulate(
    searcher: Searcher,
    slots: int,
    cost_of: Callable[[Config], TrialCost],
    overhead: Overhead,
    *,
    scorer: SimulatedScorer | None = None,
    max_trials: int | None = None,
    budget: Budget | None = None,
) -> Timing:
    """Search in simulated time, as ``TuneSearcher`` under Ray Tune does.

    Args:
        searcher: a fresh one.
        slots: most trials at once.
        cost_of: what a config will take and tell.
        overhead: besides training.
        scorer: the one that the searcher asks.
        max_trials, budget: end of the search, as in a study.

    Raises:
        RuntimeError: the searcher waits while nothing is under way that it could wait for.
    """
    return _Search(searcher, slots, cost_of, overhead, scorer, max_trials, budget).run()


@dataclass
class _Search:
    searcher: Searcher
    slots: int
    cost_of: Callable[[Config], TrialCost]
    overhead: Overhead
    scorer: SimulatedScorer | None
    max_trials: int | None
    budget: Budget | None
    clock: float = 0.0  # of the driver: when it can do the next thing
    told_at: float = 0.0
    asked: int = 0
    trained: int = 0
    most: int = 0
    limited: bool = False
    used: float = 0.0
    work: float = 0.0  # trained so far, as reported
    seconds: float = 0.0
    costs: dict[int, TrialCost] = field(default_factory=dict)  # of the trials that have a slot
    reports: dict[int, int] = field(default_factory=dict)  # that are still to come from each of them
    starting: list[int] = field(default_factory=list)  # trials that have no process yet, in the order of asking
    n_processes_to_come: int = 0
    has_idle_process: bool = False
    events: list[tuple[float, int, bool, int]] = field(default_factory=list)  # time, order, is a report, trial
    order: int = 0

    def run(self) -> Timing:
        ended = slept = False
        while True:
            waits, new = False, []
            while not ended and len(self.costs) < self.slots:
                answer = self._ask()
                if isinstance(answer, Wait):
                    waits = True
                    break
                if answer is None:
                    ended = True
                    break
                new.append(self._give_slot(answer))
                self.clock += IDLE_SECONDS if slept else 0.0
                slept = False
            for trial in new:  # Ray Tune asks for all that fit before it starts any
                self._start(trial)
            self.limited |= not ended and len(self.costs) >= self.slots
            next_score = self.scorer.next_at if waits and self.scorer is not None else math.inf
            if self.costs:
                self._next_event(next_score)
            elif ended:
                break
            elif next_score == math.inf:
                raise RuntimeError(f"{type(self.searcher).__name__} waits, but nothing is under way")
            else:
                self.clock += IDLE_SECONDS * math.ceil((next_score - self.clock) / IDLE_SECONDS)
                slept = True
        scoring, limited = (0.0, False) if self.scorer is None else (self.scorer.slot_seconds, self.scorer.limited)
        return Timing(
            slots=self.slots,
            seconds=self.told_at,
            used=self.used + scoring,
            trained=self.trained,
            pruned=self.asked - self.trained,
            most=self.most,
            limited=self.limited or limited,
        )

    def _ask(self) -> Config | Wait | None:
        if self.max_trials is not None and self.trained >= self.max_trials:
            return None
        if self.budget is not None and (
            self.work >= (self.budget.work or math.inf) or self.seconds >= (self.budget.seconds or math.inf)
        ):
            return None
        while True:
            self._synchronise()
            answer = self.searcher.ask(str(self.asked))
            if isinstance(answer, Wait) or answer is None:
                return answer
            self.clock += self.overhead.ask
            if not isinstance(answer, Pruned):
                return answer
            self.asked += 1

    def _give_slot(self, config: Config) -> int:
        trial, cost = self.asked, self.cost_of(config)
        self.asked, self.trained = self.asked + 1, self.trained + 1
        self.costs[trial], self.reports[trial] = cost, cost.epochs + 1  # the last one says that it is complete
        self.most = max(self.most, len(self.costs))
        return trial

    def _start(self, trial: int) -> None:
        if self.has_idle_process:
            self.has_idle_process = False
            self._train(trial, self.overhead.reset)
            return
        self.starting.append(trial)
        if self.n_processes_to_come < len(self.starting):
            self.n_processes_to_come += 1
            self._at(self.overhead.start, False, trial)

    def _train(self, trial: int, after: float) -> None:
        self._at(after + self.costs[trial].seconds / self.costs[trial].epochs, True, trial)

    def _at(self, after: float, is_report: bool, trial: int) -> None:
        heappush(self.events, (self.clock + after, self.order, is_report, trial))
        self.order += 1

    def _next_event(self, next_score: float) -> None:
        """The process of a trial is there, or it reports; unless a score is known before."""
        if next_score < self.events[0][0]:
            self.clock = max(self.clock, next_score)
            return
        time, _, is_report, trial = heappop(self.events)
        self.clock = max(self.clock, time)
        if is_report:
            self.clock += self.overhead.report
            self._report(trial)
            return
        self.n_processes_to_come -= 1
        self._offer_process(0.0)

    def _report(self, trial: int) -> None:
        cost = self.costs[trial]
        self.reports[trial] -= 1
        if self.reports[trial]:
            self.work += cost.work / cost.epochs
            self.seconds += cost.seconds / cost.epochs
            self._at(0.0, True, trial) if self.reports[trial] == 1 else self._train(trial, 0.0)
            return
        del self.costs[trial], self.reports[trial]
        self.used, self.told_at = self.used + cost.seconds, self.clock
        self._synchronise()
        cast(SeveralSearcher, self.searcher).tell(str(trial), cost.value, *cost.others)
        self._offer_process(self.overhead.reset)

    def _offer_process(self, after: float) -> None:
        """To the trial that waits longest, also of those started for another; else one is kept, and others end."""
        if self.starting:
            self._train(self.starting.pop(0), after)
        else:
            self.has_idle_process = True

    def _synchronise(self) -> None:
        if self.scorer is not None:
            self.scorer.now = self.clock
