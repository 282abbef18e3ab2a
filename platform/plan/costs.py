"""What a trial or a score of any config costs, from those that a ledger holds.  Times in seconds, values as in it."""

import hashlib
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...searchers.space import Config
from ...trainables.errors import InputError
from ..ledger.trial import LedgerTrial
from ..spec import StudySpec
from ..study.errors import StudyError
from ..study.known_scores import SavedScores
from ..study.study import Study
from .places import Interpolation, SeenPlaces, place_of
from .simulation import ASK_SECONDS, Overhead, SimulatedScorer, TrialCost

LEAST_TRIALS = 3  # fewer measured trials say nothing of others


class PlanError(InputError):
    """Nothing can be forecast from these studies."""


@dataclass(frozen=True)
class Evidence:
    """What a study has measured.

    scores: of its candidates, by what a score sees of them.
    seconds: where its time went, if it has ended.
    gpus: share of a GPU that each trial had.
    sizes: of its data, as ``Kind.sizes``.
    """

    spec: StudySpec
    trials: Sequence[LedgerTrial]
    scores: Mapping[Hashable, float]
    seconds: Mapping[str, float]
    gpus: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study) -> "Evidence":
        """That of a study on disk.

        Raises:
            PlanError: its scores cannot be read.
            DatasetError: an earlier version ran it, which did not write the sizes down, and its dataset is not there.
        """
        with study.reading() as ledger:
            spec, trials, conclusion = study.spec, study.trials(), study.conclusion()
            placement = ledger.placement() or {"gpus": 0.0}  # there is one before the first trial
        name = spec.score() or ""
        scores = {spec.full(t.config).seen_by_scores: t.scores[name] for t in trials if name in t.scores}
        try:
            scores |= SavedScores(study.folder / "scores.json").read()
        except StudyError as error:
            raise PlanError(f"{error}, or to plan from the trials alone") from error
        sizes = placement.get("sizes")
        if sizes is None:
            sizes = spec.of_kind.sizes(spec.of_kind.open(spec.dataset), spec.settings)
        return cls(spec, trials, scores, conclusion.seconds if conclusion else {}, placement["gpus"], sizes)


class Measured:
    """Costs of trials and scores, from those that have been measured to any others.

    The seconds of training for one unit of work are a sum of ``Kind.terms``: least squares of the relative error, no
    weight negative.  A config that was measured keeps its own mean.  Another config gets the deviation of a measured
    trial from what the others forecast of it, and the share of its epochs that this trial came to.  Which trial is
    drawn for the config, so that equal configs cost the same on any number of slots.

    Values, costs of use and scores are interpolated; they only steer the methods.

    Args:
        studies: the planned one first, and others of the same data and space.

    Raises:
        PlanError: they do not go together, or too few trials have ended.
    """

    def __init__(self, studies: Sequence[Evidence]) -> None:
        self.spec = studies[0].spec
        for other in studies[1:]:
            _refuse_another(self.spec, other.spec)
        rows = [row for study in studies for row in _rows(study)]
        if len(rows) < LEAST_TRIALS:
            raise PlanError(
                f"study '{self.spec.name}' has {len(rows)} trials that ended, and it takes {LEAST_TRIALS} to forecast "
                "others; run more of it"
            )
        self._sizes = studies[0].sizes
        # The first trial of a process is slower in training too, so that it says little of the others.
        warm = [row for row in rows if not row.first]
        fitted = warm if len(warm) >= LEAST_TRIALS else rows
        features = np.array([self._features_of(row.config) for row in fitted])
        targets = np.array([row.seconds / row.work for row in fitted])
        self._terms = _fit(features, targets)
        self._deviations = _left_out(features, targets)
        self._shares = [row.epochs / row.config.epochs for row in fitted]
        self._per_epoch = float(np.median([row.work / row.epochs for row in rows]))
        own: dict[str, list[_Row]] = {}
        for row in fitted:
            own.setdefault(_key(row.config), []).append(row)
        self._own = {key: (float(np.mean([r.seconds for r in some])), some[0].epochs) for key, some in own.items()}
        self.trial_seconds = [row.seconds for row in fitted]
        self.overhead = _overhead(rows, [self._seconds(row.config, row.work) for row in rows])
        self._value = self._interpolation([(row, row.value) for row in rows])
        self._others = [
            self._interpolation([(row, row.trial.result.get(measure.report)) for row in rows])
            for measure in self.spec.other_measures
        ]
        self.scores: dict[str, tuple[Mapping[Hashable, float], float]] = {}  # name -> known ones, seconds of one
        for study in studies:
            name, seconds = study.spec.score(), study.seconds.get("scores", 0.0)
            if name is not None and study.scores and seconds > 0:
                self.scores.setdefault(name, (study.scores, seconds / len(study.scores)))

    @property
    def error(self) -> float:
        """Median relative error of a trial's seconds, forecast from the other trials."""
        return float(np.median(np.abs(self._deviations - 1)))

    def cost_of(self, config: Config) -> TrialCost:
        """What a trial will take and tell."""
        full = self.spec.full(config)
        digest = hashlib.sha256(_key(full).encode()).digest()[:8]
        pick = int(np.random.default_rng([self.spec.seed, *digest]).integers(len(self._deviations)))
        seconds, epochs = self._own.get(_key(full), (None, max(1, round(self._shares[pick] * full.epochs))))
        work = self._per_epoch * epochs
        if seconds is None:
            seconds = self._seconds(full, work) * float(self._deviations[pick])
        place = place_of(self.spec.space, config)
        others = tuple(at(place) for at in self._others)
        return TrialCost(seconds, self._value(place), others, epochs, work)

    def scorer(self, name: str, slots: int, *, beside_trials: bool) -> SimulatedScorer:
        """A scorer for one search."""
        known, seconds = self.scores[name]
        finite = {seen: score for seen, score in known.items() if math.isfinite(score)}
        places = SeenPlaces(list(finite))
        guess = Interpolation([places(seen) for seen in finite], list(finite.values())) if finite else None

        def score_of(seen: Hashable) -> float:
            return known[seen] if seen in known or guess is None else guess(places(seen))

        return SimulatedScorer(
            score_of,
            lambda config: cast(Hashable, self.spec.full(config).seen_by_scores),
            seconds=seconds,
            processes=slots * self.spec.resources.cpus,
            start=self.overhead.start,
            beside_trials=beside_trials,
        )

    def _seconds(self, config: Any, work: float) -> float:
        return work * float(self._features_of(config) @ self._terms)

    def _features_of(self, config: Any) -> NDArray[np.float64]:
        return np.array(self.spec.of_kind.terms(config, self._sizes), dtype=float)

    def _interpolation(self, pairs: Sequence[tuple["_Row", float | None]]) -> Interpolation:
        known = [(place_of(self.spec.space, row.trial.config), number) for row, number in pairs if number is not None]
        if not known:
            raise PlanError(f"no trial of '{self.spec.name}' has a value or cost that the methods could be told of")
        return Interpolation([place for place, _ in known], [number for _, number in known])


@dataclass(frozen=True)
class _Row:
    """A trial that has been trained: its full config, and how long it took in a process of its own or not."""

    trial: LedgerTrial
    config: Any
    seconds: float
    wall: float
    work: float
    epochs: int
    value: float | None
    first: bool
    gap: float | None  # since the last end before it


def _rows(study: Evidence) -> list[_Row]:
    ended = [t for t in study.trials if t.ended_at is not None and t.state in ("finished", "stopped")]
    ends = np.sort([cast(float, t.ended_at) for t in ended])
    work, rows = study.spec.of_kind.compute.report, []
    for t in ended:
        if not (t.seconds and t.result.get(work) and t.result.get("epoch")):
            continue
        before = int(np.searchsorted(ends, t.started_at, side="right"))
        rows.append(
            _Row(
                trial=t,
                config=study.spec.full(t.config),
                seconds=t.seconds,
                wall=cast(float, t.ended_at) - t.started_at,
                work=t.result[work],
                epochs=int(t.result["epoch"]),
                value=t.reached(study.spec.metric),
                first=before == 0,
                gap=t.started_at - float(ends[before - 1]) if before else None,
            )
        )
    return rows


def _overhead(rows: Sequence[_Row], forecast: Sequence[float]) -> Overhead:
    first = [row.wall - seconds for row, seconds in zip(rows, forecast, strict=True) if row.first]
    later = [row.wall - row.seconds for row in rows if not row.first]
    gaps = [row.gap for row in rows if row.gap is not None]
    start = max(float(np.median(first[1:] or first)), 0.0)  # the very first may wait out Ray Tune's IDLE_SECONDS
    return Overhead(
        start=start,
        reset=max(float(np.median(later)), 0.0) if later else start,
        ask=max(ASK_SECONDS, float(np.median(gaps)) if gaps else 0.0),
    )


def _fit(features: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Terms k >= 0 that minimise Σ (target / f - 1)² with f = features k, the weights 1 / f² held at the last f.

    Errors relative to the target itself, which are larger for small targets, would forecast too little.
    """
    scale = targets
    for _ in range(10):
        terms, _ = nnls(features / scale[:, None], targets / scale)
        scale = features @ terms
    return terms


def _left_out(features: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each target over what the fit to all others forecasts of it."""
    others = ~np.eye(len(targets), dtype=bool)
    forecast = [row @ _fit(features[keep], targets[keep]) for row, keep in zip(features, others, strict=True)]
    return targets / np.array(forecast)


def _refuse_another(spec: StudySpec, other: StudySpec) -> None:
    for name in ("kind", "dataset", spec.of_kind.table, "minimize", "space", "config", "scheduler", "resources"):
        if getattr(spec, name) != getattr(other, name):
            raise PlanError(
                f"study '{other.name}' has another {name} than '{spec.name}', so that their trials do not compare"
            )


def _key(config: Any) -> str:
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)
