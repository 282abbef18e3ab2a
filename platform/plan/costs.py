"""What a trial or a score of any config costs, from those that a ledger holds.  Times in seconds, values as in it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...searchers import SEARCHERS
from ...searchers.space import Choice, Config, Space
from ...trainables.errors import InputError
from ...trainables.ldos.config import Activation, Architecture, SurrogateConfig
from ..ledger.ledger import LedgerTrial
from ..spec import StudySpec
from ..study.study import Study
from .simulation import ASK_SECONDS, Overhead, SimulatedScorer, TrialCost

LEAST_TRIALS = 3  # fewer measured trials say nothing of others


class PlanError(InputError):
    """Nothing can be foretold from these studies."""


@dataclass(frozen=True)
class Evidence:
    """What a study has measured: its trials, the scores of its candidates, and where its time went if it has ended.

    ``gpus`` is the share of a GPU that each trial had.
    """

    spec: StudySpec
    trials: Sequence[LedgerTrial]
    scores: Mapping[Architecture, float]
    seconds: Mapping[str, float]
    gpus: float = 0.0

    @classmethod
    def of(cls, study: Study) -> "Evidence":
        """That of a study on disk.

        Raises:
            PlanError: its scores cannot be read.
        """
        trials, conclusion = study.trials(), study.conclusion()
        name = SEARCHERS[study.spec.method].score or ""
        scores = {
            SurrogateConfig.of({**study.spec.config, **t.config}).architecture: t.scores[name]
            for t in trials
            if name in t.scores
        }
        path = study.folder / "scores.json"
        try:
            rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            scores |= {(tuple(row["hidden"]), row["activation"]): float(row["score"]) for row in rows}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlanError(f"{path}: cannot be read ({error}); remove it and plan from the trials alone") from error
        placement = study.placement() or {"gpus": 0.0}  # there is one before the first trial
        return cls(study.spec, trials, scores, conclusion.seconds if conclusion else {}, placement["gpus"])


class Measured:
    """Costs of trials and scores, from those that have been measured to any others.

    Seconds of training a grid point are a sum of what a point costs, a step of the optimizer, a neuron and a weight
    (least squares of the relative error, no term negative).  A config that was measured keeps its own mean; another one
    gets a measured trial's deviation from what the others foretell of it, and the share of its epochs that it came to,
    both drawn for the config: so equal configs cost the same on any number of slots.

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
                f"study '{self.spec.name}' has {len(rows)} trials that ended, and it takes {LEAST_TRIALS} to foretell "
                "others; run more of it"
            )
        self._n_energy = _n_energy(self.spec, rows[0])
        # The first trial of a process is slower in training too, so that it says little of the others.
        warm = [row for row in rows if not row.first]
        fitted = warm if len(warm) >= LEAST_TRIALS else rows
        features = np.array([self._features_of(row.config) for row in fitted])
        targets = np.array([row.seconds / row.grid_points for row in fitted])
        self._terms = _fit(features, targets)
        self._deviations = _left_out(features, targets)
        self._shares = [row.epochs / row.config.epochs for row in fitted]
        self._points = float(np.median([row.grid_points / row.epochs for row in rows]))
        own: dict[str, list[_Row]] = {}
        for row in fitted:
            own.setdefault(_key(row.config), []).append(row)
        self._own = {key: (float(np.mean([r.seconds for r in some])), some[0].epochs) for key, some in own.items()}
        self.trial_seconds = [row.seconds for row in fitted]
        self.overhead = _overhead(rows, [self._seconds(row.config, row.grid_points) for row in rows])
        self._value = self._interpolation([(row, row.value) for row in rows])
        # What the network costs where it is used.
        self._use = (
            None
            if self.spec.cost is None
            else self._interpolation([(row, row.trial.result.get(self.spec.cost)) for row in rows])
        )
        self.scores: dict[str, tuple[Mapping[Architecture, float], float]] = {}  # name -> known ones, seconds of one
        for study in studies:
            name, seconds = SEARCHERS[study.spec.method].score, study.seconds.get("scores", 0.0)
            if name is not None and study.scores and seconds > 0:
                self.scores.setdefault(name, (study.scores, seconds / len(study.scores)))

    @property
    def error(self) -> float:
        """Median relative error of a trial's seconds, foretold from the other trials."""
        return float(np.median(np.abs(self._deviations - 1)))

    def cost_of(self, config: Config) -> TrialCost:
        """What a trial will take and tell."""
        full = SurrogateConfig.of({**self.spec.config, **config})
        digest = hashlib.sha256(_key(full).encode()).digest()[:8]
        pick = int(np.random.default_rng([self.spec.seed, *digest]).integers(len(self._deviations)))
        seconds, epochs = self._own.get(_key(full), (None, max(1, round(self._shares[pick] * full.epochs))))
        grid_points = self._points * epochs
        if seconds is None:
            seconds = self._seconds(full, grid_points) * float(self._deviations[pick])
        place = _place(self.spec.space, config)
        use = None if self._use is None else self._use(place)
        return TrialCost(seconds, self._value(place), use, epochs, grid_points)

    def scorer(self, name: str, slots: int, *, beside_trials: bool) -> SimulatedScorer:
        """A scorer for one search."""
        known, seconds = self.scores[name]
        finite = {a: score for a, score in known.items() if math.isfinite(score)}
        guess = _Interpolation([_architecture_place(a) for a in finite], list(finite.values())) if finite else None

        def score_of(a: Architecture) -> float:
            return known[a] if a in known or guess is None else guess(_architecture_place(a))

        return SimulatedScorer(
            score_of,
            lambda config: SurrogateConfig.of({**self.spec.config, **config}).architecture,
            seconds=seconds,
            processes=slots * self.spec.resources.cpus,
            start=self.overhead.start,
            beside_trials=beside_trials,
        )

    def _seconds(self, config: SurrogateConfig, grid_points: float) -> float:
        return grid_points * float(self._features_of(config) @ self._terms)

    def _features_of(self, config: SurrogateConfig) -> NDArray[np.float64]:
        sizes = (self.spec.descriptors.n_components, *config.hidden, self._n_energy)
        weights = sum(a * b for a, b in pairwise(sizes))
        return np.array([1.0, 256 / config.batch_size, sum(config.hidden) / 128, weights / 1e4])

    def _interpolation(self, pairs: Sequence[tuple["_Row", float | None]]) -> "_Interpolation":
        known = [(_place(self.spec.space, row.trial.config), number) for row, number in pairs if number is not None]
        if not known:
            raise PlanError(f"no trial of '{self.spec.name}' has a value or cost that the methods could be told of")
        return _Interpolation([place for place, _ in known], [number for _, number in known])


@dataclass(frozen=True)
class _Row:
    """A trial that has been trained: its full config, and how long it took in a process of its own or not."""

    trial: LedgerTrial
    config: SurrogateConfig
    seconds: float
    wall: float
    grid_points: float
    epochs: int
    value: float | None
    first: bool
    gap: float | None  # since the last end before it


def _rows(study: Evidence) -> list[_Row]:
    ended = [t for t in study.trials if t.ended_at is not None and t.state in ("finished", "stopped")]
    ends = np.sort([cast(float, t.ended_at) for t in ended])
    rows = []
    for t in ended:
        if not (t.seconds and t.result.get("grid_points") and t.result.get("epoch")):
            continue
        before = int(np.searchsorted(ends, t.started_at, side="right"))
        rows.append(
            _Row(
                trial=t,
                config=SurrogateConfig.of({**study.spec.config, **t.config}),
                seconds=t.seconds,
                wall=cast(float, t.ended_at) - t.started_at,
                grid_points=t.result["grid_points"],
                epochs=int(t.result["epoch"]),
                value=t.reached(study.spec.metric),
                first=before == 0,
                gap=t.started_at - float(ends[before - 1]) if before else None,
            )
        )
    return rows


def _overhead(rows: Sequence[_Row], foretold: Sequence[float]) -> Overhead:
    first = [row.wall - seconds for row, seconds in zip(rows, foretold, strict=True) if row.first]
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

    Errors relative to the target itself, which are larger for small targets, would foretell too little.
    """
    scale = targets
    for _ in range(10):
        terms, _ = nnls(features / scale[:, None], targets / scale)
        scale = features @ terms
    return terms


def _left_out(features: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each target over what the fit to all others foretells of it."""
    others = ~np.eye(len(targets), dtype=bool)
    foretold = [row @ _fit(features[keep], targets[keep]) for row, keep in zip(features, others, strict=True)]
    return targets / np.array(foretold)


def _n_energy(spec: StudySpec, row: _Row) -> int:
    """Outputs of the networks, from the number of parameters of one of them."""
    try:
        rest = row.trial.result["n_parameters"]
    except KeyError as error:
        raise PlanError(f"trial {row.trial.number} of '{spec.name}' does not say its n_parameters") from error
    sizes = (spec.descriptors.n_components, *row.config.hidden)
    return round((rest - sum((a + 1) * b for a, b in pairwise(sizes))) / (sizes[-1] + 1))


def _refuse_another(spec: StudySpec, other: StudySpec) -> None:
    for name in ("dataset", "descriptors", "minimize", "space", "config", "scheduler", "resources"):
        if getattr(spec, name) != getattr(other, name):
            raise PlanError(
                f"study '{other.name}' has another {name} than '{spec.name}', so that their trials do not compare"
            )


class _Interpolation:
    """Numbers at places, interpolated by inverse cubes of the distance: exact where one was measured (mean of several).

    Source: Shepard, Proc. 23rd ACM National Conference, 517 (1968).
    """

    def __init__(self, places: Sequence[NDArray[np.float64]], numbers: Sequence[float]) -> None:
        self._places, self._numbers = np.array(places), np.array(numbers)

    def __call__(self, place: NDArray[np.float64]) -> float:
        distance = np.linalg.norm(self._places - place, axis=1)
        here = distance < 1e-9
        weights = here.astype(float) if here.any() else distance**-3.0
        return float(np.average(self._numbers, weights=weights))


def _place(space: Space, config: Config) -> NDArray[np.float64]:
    """A config as a point: ranges from 0 to 1, values of a choice 1 apart, what exists 1 apart from what does not."""
    place: list[float] = []
    for name, values in space.items():
        exists = name in config
        place.append(float(exists))
        if isinstance(values, Choice):
            place += [math.sqrt(0.5) * (exists and config[name] == value) for value in values.values]
        else:
            scale = math.log if values.log else float
            low, high = scale(values.low), scale(values.high)
            place.append((scale(cast(float, config[name])) - low) / (high - low) if exists and high > low else 0.0)
    return np.array(place)


def _architecture_place(found: Architecture) -> NDArray[np.float64]:
    hidden, activation = found
    width = math.log2(sum(hidden) / len(hidden))
    return np.array([len(hidden) / 2, width / 2, *(float(activation == name) for name in get_args(Activation))])


def _key(config: SurrogateConfig) -> str:
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)
