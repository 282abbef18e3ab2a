"""What the figures of a study show: one function a figure turns its trials into the numbers to draw.

``png`` draws them as PNG files, ``page`` on one HTML page; ``draw`` does both.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from ...searchers.space import Choice, Int, Range
from ..ledger.score_quality import ScoreQuality, qualities
from ..ledger.trial import LedgerTrial, State
from ..methods import scores_of
from ..spec import StudySpec
from .axes import is_log, number, ticks_between

SECONDS_LABEL = "seconds of training, summed over trials"
WITHOUT_VALUE: tuple[State, ...] = ("failed", "pruned", "running")

# In 40 synthetic studies one of five hyperparameters decides the value.  It came first in 29, 31, 38, 40 of them at 20,
# 30, 50, 100 trials where the best third was set against all; where the best 5 were, in 20, 14, 12, 3.
LEAST_TRIALS = 20  # for importances
BEST_SHARE = 1 / 3
RESAMPLES = 30
UNSET = -0.12  # where an axis shows a hyperparameter that a config lacks


class NotDrawn(Exception):
    """Why a figure makes no sense for these trials."""


@dataclass(frozen=True)
class History:
    """Values by trial number.

    valued: finished and stopped trials with the values they reached.
    others: trials without a value, by state.
    best: best value of the finished trials up to each of them.
    """

    valued: list[tuple[LedgerTrial, float]]
    others: dict[State, list[LedgerTrial]]
    best: list[tuple[int, float]]


def history(trials: Sequence[LedgerTrial], spec: StudySpec) -> History:
    """Value of each trial in the order of their numbers, and the best so far."""
    others = {state: [t for t in trials if t.state == state] for state in WITHOUT_VALUE}
    done = _finished(trials)
    return History(
        valued=valued(trials, spec),
        others={state: some for state, some in others.items() if some},
        best=list(zip((t.number for t, _ in done), accumulate((v for _, v in done), min), strict=True)),
    )


@dataclass(frozen=True)
class Compute:
    """Values against what training had used by then.

    label: of the axis.
    valued: (trial, compute used when it ended, value it reached).
    best: (compute, best value so far), to the last compute used.
    """

    label: str
    valued: list[tuple[LedgerTrial, float, float]]
    best: list[tuple[float, float]]


def compute(trials: Sequence[LedgerTrial], spec: StudySpec) -> list[Compute]:
    """Value against work, and against seconds, summed over all trials in the order in which they ended.

    Failed and stopped trials cost what they cost; pruned ones cost no training.  A measure that a finished trial lacks
    has no panel.

    Source: the idea of Fiedler et al. (2022), Fig. 2, for one study.
    """
    ended = sorted(
        (t for t in trials if t.result and t.state != "running"),
        key=lambda t: (t.ended_at or math.inf, t.number),
    )
    values = {t.number: v for t, v in valued(trials, spec)}
    panels = []
    work = spec.of_kind.compute
    for name, label in ((work.report, work.label), ("seconds", SECONDS_LABEL)):
        if any(name not in t.result for t in ended if t.state == "finished"):
            continue
        used = list(accumulate(t.result.get(name, 0.0) for t in ended))
        done = [(x, t.value) for t, x in zip(ended, used, strict=True) if t.value is not None]
        best = list(zip((x for x, _ in done), accumulate((v for _, v in done), min), strict=True))
        panels.append(
            Compute(
                label,
                [(t, x, values[t.number]) for t, x in zip(ended, used, strict=True) if t.number in values],
                [*best, (used[-1], best[-1][1])] if best else [],
            )
        )
    if not panels or not panels[0].valued:
        raise NotDrawn("no trial has ended with a value and its compute")
    return panels


@dataclass(frozen=True)
class Curves:
    """The value of each trial by its epochs.

    curves: (trial, epochs, values) of the finished and stopped trials.
    best: number of the best finished one; None without any.
    """

    curves: list[tuple[LedgerTrial, list[int], list[float]]]
    best: int | None


def curves(trials: Sequence[LedgerTrial], spec: StudySpec) -> Curves:
    """Learning curves, as far as the ledger has them: an epoch a second, and the last one."""
    found = []
    for trial, value in valued(trials, spec):
        points = dict(trial.curve) | {int(trial.result.get("epoch", 0)): value}
        if len(points) > 1:
            found.append((trial, sorted(points), [points[epoch] for epoch in sorted(points)]))
    if not found:
        raise NotDrawn("no trial has reported two epochs")
    done = [(v, t.number) for t, v in _finished(trials)]
    return Curves(found, min(done)[1] if done else None)


@dataclass(frozen=True)
class Score:
    """A score beside the values.

    quality: τ, its standard error and the regret.
    is_main: the study searches by it.
    is_trivial: it costs nothing, and is the bar that other scores must beat.
    pairs: (trial, score, value) of finished trials.
    pruned: (trial, score) of those that a score ruled out.
    """

    quality: ScoreQuality
    label: str
    is_main: bool
    is_trivial: bool
    pairs: list[tuple[LedgerTrial, float, float]]
    pruned: list[tuple[LedgerTrial, float]]


def scores(trials: Sequence[LedgerTrial], spec: StudySpec) -> list[Score]:
    """Each score against the value, the one that the study searches by first (Fiedler et al. (2022), Fig. 4)."""
    main, (known, _) = spec.score(), scores_of(spec.of_kind)  # one that is not here has its name for a label
    done = _finished(trials)
    panels = [
        Score(
            quality,
            known[quality.name].label if quality.name in known else quality.name,
            quality.name == main,
            quality.name in known and known[quality.name].trivial,
            [(t, t.scores[quality.name], v) for t, v in done if quality.name in t.scores],
            [(t, t.scores[quality.name]) for t in trials if t.state == "pruned" and quality.name in t.scores],
        )
        for quality in qualities([t for t, _ in done], main)
    ]
    if not panels:
        raise NotDrawn("no finished trial has a score")
    return panels


@dataclass(frozen=True)
class Importance:
    """How much each hyperparameter decides, the first most.

    shares: sum to one.
    low, high: where the middle two thirds of the shares of resampled trials lie.
    n_best: trials in the part that is compared with all.
    """

    names: list[str]
    shares: list[float]
    low: list[float]
    high: list[float]
    n_trials: int
    n_best: int


def importance(trials: Sequence[LedgerTrial], spec: StudySpec) -> Importance:
    """What distinguishes the best trials from all, by PED-ANOVA; its uncertainty by the bootstrap.

    Optuna's fANOVA would need scikit-learn, and cannot cope with conditional hyperparameters as this does.

    Source: Watanabe, Bansal and Hutter, PED-ANOVA, IJCAI 2023; Efron, Ann. Statist. 7, 1 (1979).
    """
    done = [t for t, _ in _finished(trials)]
    n = len(done)
    if n < LEAST_TRIALS:
        raise NotDrawn(f"{n} finished trial{'s' * (n != 1)}, at least {LEAST_TRIALS} are needed")
    if len({t.value for t in done}) == 1:
        raise NotDrawn("all values are equal")
    if sum(len({t.config.get(name) for t in done}) > 1 for name in spec.space) < 2:
        raise NotDrawn("fewer than two hyperparameters vary")
    n_best = math.ceil(n * BEST_SHARE)
    of = _ped_anova(done, spec.space, n_best)
    shares = of(range(n))
    names = list(shares)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(RESAMPLES):
        some = of(rng.integers(n, size=n).tolist())
        resampled.append([some.get(name, 0.0) for name in names])
    # Resampled trials repeat, and so differ from each other more: the interval may lie beside the share itself.
    found = np.array(list(shares.values()))
    low, high = np.quantile(resampled, (1 / 6, 5 / 6), axis=0)
    return Importance(
        names, found.tolist(), np.minimum(low, found).tolist(), np.maximum(high, found).tolist(), n, n_best
    )


def _ped_anova(
    trials: Sequence[LedgerTrial], space: Mapping[str, Range], n_best: int
) -> Callable[[Iterable[int]], dict[str, float]]:
    """Shares of the hyperparameters by the trials of some places among these, which may repeat."""
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    from ...searchers.optuna_search import distribution

    class Given(optuna.storages.InMemoryStorage):
        """Has the trials that it is given: to add them to a study took two thirds of the time."""

        trials: list[FrozenTrial]

        def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
            return self.trials

    storage = Given()
    study = optuna.create_study(storage=storage)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=n_best / len(trials))
    drawn_from = {name: distribution(some) for name, some in space.items()}
    own = [{name: drawn_from[name] for name in t.config} for t in trials]

    def trial(place: int, number: int) -> FrozenTrial:
        made = trials[place]
        return FrozenTrial(
            number=number, trial_id=number, state=TrialState.COMPLETE, value=made.value, params=dict(made.config),
            distributions=own[place], datetime_start=None, datetime_complete=None, user_attrs={}, system_attrs={},
            intermediate_values={},
        )  # fmt: skip

    def of(places: Iterable[int]) -> dict[str, float]:
        storage.trials = [trial(place, number) for number, place in enumerate(places)]
        with warnings.catch_warnings():
            # Of few trials where a conditional hyperparameter exists: the resampling shows it.
            warnings.simplefilter("ignore")
            return optuna.importance.get_param_importances(study, evaluator=evaluator)

    return of


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates: where each trial crosses it, 0 at its foot and 1 at its head."""

    name: str
    positions: list[float]
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Parallel:
    """Hyperparameters of the finished trials as parallel axes, the value as the last; the worst trial comes first."""

    trials: list[LedgerTrial]
    axes: list[Axis]


def parallel(trials: Sequence[LedgerTrial], spec: StudySpec) -> Parallel:
    """Configs and values of the finished trials side by side."""
    done = sorted(_finished(trials), key=lambda pair: -pair[1])
    if len(done) < 2:
        raise NotDrawn(f"{len(done)} finished trial{'s' * (len(done) != 1)}, at least 2 are needed")
    axes = [_axis(name, space, [t.config.get(name) for t, _ in done]) for name, space in spec.space.items()]
    values = [v for _, v in done]
    low, high, log = min(values), max(values), is_log(values)
    return Parallel([t for t, _ in done], [*axes, _numeric(spec.value_name, values, low, high, log)])


def _axis(name: str, space: Range, values: Sequence[Any]) -> Axis:
    if not isinstance(space, Choice):
        return _numeric(name, values, space.low, space.high, space.log, whole=isinstance(space, Int))
    step = 1 / max(len(space.values) - 1, 1)
    ticks = [(i * step, str(value)) for i, value in enumerate(space.values)]
    places = {value: i * step for i, value in enumerate(space.values)}
    return Axis(name, *_with_unset([None if v is None else places[v] for v in values], ticks))


def _numeric(
    name: str, values: Sequence[float | None], low: float, high: float, log: bool, whole: bool = False
) -> Axis:
    scale: Callable[[float], float] = math.log if log else float
    width = (scale(high) - scale(low)) or 1.0

    def place(value: float) -> float:
        return (scale(value) - scale(low)) / width if high > low else 0.5

    ticks = [(place(v), number(v)) for v in ticks_between(low, high, log, whole)]
    return Axis(name, *_with_unset([None if v is None else place(v) for v in values], ticks))


def _with_unset(
    places: Sequence[float | None], ticks: list[tuple[float, str]]
) -> tuple[list[float], list[tuple[float, str]]]:
    unset = [(UNSET, "not set")] if None in places else []
    return [UNSET if p is None else p for p in places], unset + ticks


def pareto_front(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of the points that no other point beats, ordered by the first number.

    Lower is better in all numbers.  A point beats another if it is better in one number and as good in the others.
    Equal points are all on the front.
    """

    def beats(other: tuple[float, ...], point: tuple[float, ...]) -> bool:
        return other != point and all(a <= b for a, b in zip(other, point, strict=True))

    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: points[i]):  # what beats a point comes before it
        if not any(beats(points[j], points[i]) for j in reversed(front)):  # the last one beats most
            front.append(i)
    return front


def _finished(trials: Iterable[LedgerTrial]) -> list[tuple[LedgerTrial, float]]:
    return [(t, t.value) for t in trials if t.value is not None]


def valued(trials: Iterable[LedgerTrial], spec: StudySpec) -> list[tuple[LedgerTrial, float]]:
    """Finished trials with their value, stopped ones with the best they had reached."""
    return [(t, v) for t in trials if (v := t.reached(spec.metric)) is not None]
