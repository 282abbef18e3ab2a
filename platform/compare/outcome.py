"""What a comparison found: the outcome of each method and baseline, and the scores of all trained trials."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...searchers.space import Config
from ...trainables.kind import Kind, Measure
from ...trainables.kinds import KINDS
from ..ledger.score_quality import ScoreQuality
from ..ledger.trial import LedgerTrial
from ..objective import measure_of
from ..spec import UNTRAINED, StudySpec
from ..study.conclusion import Conclusion
from ..tables import Budget

BASELINES = {
    UNTRAINED: "no search and no training: a closed form",
    "untuned": "a network of default hyperparameters, no search",
    "largest": "the largest network of the space, no search",
}


@dataclass(frozen=True)
class Outcome:
    """What one method came to with one seed, or what a baseline came to.

    about: what a baseline is.
    work: what the trials reported as ``Kind.compute``, summed; training_seconds: of all trials together; wall_seconds:
        while at least one of them ran.
    value: the lowest that a trial reached on the validation data.
    config: hyperparameters of the winner that the method chose; network: the winner in a few characters.
    costs: of using the winner, by their names in reports, see ``Kind.costs``.
    tested: the winner on the test data: name in ``Kind.judged`` -> mean and standard deviation over initialisations.
    trace: (work, wall seconds, lowest value) after each trial that ended.
    failure: why there is no winner.
    """

    method: str
    seed: int
    study: str
    about: str = ""
    trained: int = 0
    pruned: int = 0
    stopped: int = 0
    failed: int = 0
    work: float = 0.0
    training_seconds: float = 0.0
    wall_seconds: float = 0.0
    scoring_seconds: float = 0.0
    value: float | None = None
    config: Config = field(default_factory=dict)
    network: str = ""
    costs: dict[str, float] = field(default_factory=dict)
    tested: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    trace: list[tuple[float, float, float]] = field(default_factory=list)
    failure: str | None = None

    @property
    def speed_up(self) -> float | None:
        """Seconds of training over the wall seconds they took."""
        return self.training_seconds / self.wall_seconds if self.wall_seconds else None

    def error(self, name: str) -> float | None:
        """Mean of a number of ``tested``; None where it is not defined."""
        return self.tested.get(name, (None, None))[0]

    def spread(self, name: str) -> float | None:
        """Standard deviation of a number of ``tested``; None where it is not defined."""
        return self.tested.get(name, (None, None))[1]


@dataclass(frozen=True)
class ScoredTrials:
    """A score and the values of all trained trials of a comparison.

    label: what the score is; trivial: it is the bar that other scores must beat.
    """

    quality: ScoreQuality
    label: str
    trivial: bool
    scores: list[float]
    values: list[float]


@dataclass(frozen=True)
class Compared:
    """A comparison that has ended.

    ``kind`` is the name of the kind of surrogates.  ``baselines`` are those of BASELINES, then those of the kind.
    ``over_splits`` is what ``over_splits.over_splits`` gives.
    """

    name: str
    kind: str
    dataset: str
    minimize: str
    budget: Budget
    outcomes: list[Outcome]
    baselines: list[Outcome]
    scores: dict[str, ScoredTrials]
    left_out: dict[str, str]
    folder: Path
    over_splits: Any = None

    @property
    def of_kind(self) -> Kind:
        return KINDS[self.kind]

    @property
    def value(self) -> Measure:
        """What was minimised."""
        return measure_of(self.minimize, self.of_kind)

    @property
    def first(self) -> str:
        """The most important number of ``Kind.judged``: figures and order of the tables go by it."""
        return next(iter(self.of_kind.judged))

    @property
    def cost(self) -> Measure | None:
        """The cost of use that networks are shown with; None if the kind has none."""
        return next(iter(self.of_kind.costs.values()), None)


def outcome_of(
    method: str,
    seed: int,
    spec: StudySpec,
    trials: Sequence[LedgerTrial],
    conclusion: Conclusion | None,
    failure: str | None = None,
) -> Outcome:
    """The outcome of a study.

    Args:
        method, seed: what the study stands for.
        spec: of the study.
        trials: all of it.
        conclusion: None while it has not ended.
        failure: why it will not end.
    """
    counts = {state: sum(t.state == state for t in trials) for state in ("finished", "pruned", "stopped", "failed")}
    steps = trace(trials, spec.of_kind.compute.report)
    common: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "study": spec.name,
        "about": BASELINES.get(method, ""),
        "trained": counts["finished"],
        "pruned": counts["pruned"],
        "stopped": counts["stopped"],
        "failed": counts["failed"],
        "work": sum(t.result.get(spec.of_kind.compute.report, 0.0) for t in trials),
        "training_seconds": sum(t.seconds or 0.0 for t in trials),
        "wall_seconds": steps[-1][1] if steps else 0.0,
        "trace": steps,
    }
    if conclusion is None:
        return Outcome(**common, failure=failure or "it has not ended")
    return Outcome(**common, **_winner(spec, conclusion, trials))


def _winner(spec: StudySpec, conclusion: Conclusion, trials: Sequence[LedgerTrial]) -> dict[str, Any]:
    best = next(t for t in trials if t.number == conclusion.trial)
    costs = [measure.report for measure in spec.of_kind.costs.values()]
    return {
        "scoring_seconds": conclusion.seconds["scores"],
        "value": conclusion.value,
        "config": best.config,
        "network": str(spec.full(best.config)),
        "costs": {name: best.result[name] for name in costs if name in best.result},
        "tested": spec.of_kind.accuracy(conclusion.accuracy).numbers(),
    }


def trace(trials: Sequence[LedgerTrial], work: str) -> list[tuple[float, float, float]]:
    """Work and wall time, and the lowest value, after each trained trial that ended, in the order of their ends.

    Wall time is the time while any trial ran: pauses between the sessions of a study do not count.

    Args:
        trials: of a study.
        work: the reported number that counts work.
    """
    ended = sorted(
        ((t.ended_at, t) for t in trials if t.ended_at is not None and t.state != "pruned"), key=lambda pair: pair[0]
    )
    busy = busy_seconds([(t.started_at, end) for end, t in ended], [end for end, _ in ended])
    found, used, lowest = [], 0.0, float("inf")
    for (_, trial), wall in zip(ended, busy, strict=True):
        used += trial.result.get(work, 0.0)
        if trial.value is not None:
            lowest = min(lowest, trial.value)
        if lowest < float("inf"):
            found.append((used, wall, lowest))
    return found


def busy_seconds(intervals: Sequence[tuple[float, float]], moments: Sequence[float]) -> list[float]:
    """Length of the union of intervals (start, end), as far as it lies before each of the moments."""
    starts: list[float] = []  # of the pieces of the union
    ends, totals = [-float("inf")], [0.0]  # before any piece, then at the end of each
    for start, end in sorted(intervals):
        start = max(start, ends[-1])
        if end > start:
            starts.append(start)
            ends.append(end)
            totals.append(totals[-1] + end - start)
    begun = [bisect_right(starts, moment) for moment in moments]
    return [totals[n] - max(ends[n] - moment, 0.0) for n, moment in zip(begun, moments, strict=True)]
