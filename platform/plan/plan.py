"""What each method of a study takes on other numbers of slots.  Times in seconds.

``costs.py`` says what a trial costs, ``simulation.py`` what a search makes of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...searchers.searcher import SearchError
from ...trainables.errors import InputError
from ..methods import method_of, methods_of
from ..progress import Progress, Silent
from ..spec import SpecError, StudySpec
from ..study.study import Study
from .costs import Evidence, Measured, PlanError
from .readout import ReadoutPlan, readout_plan
from .simulation import Overhead, Timing, simulate

PLANNED = ("scores", "search")  # stages of a study whose time is forecast


@dataclass(frozen=True)
class Plan:
    """What each method takes on each number of slots.

    slot: in words; gpus: of a slot.
    n_measured: trials that it was forecast from; trial_seconds: the shortest, median and longest training of them;
    error: median relative error of a trial's seconds, forecast from the others.
    score_seconds: of one candidate, by score.
    besides: seconds of the planned study's other stages, as measured: data, final.
    readout: of the final training, where trials had one.
    timings: method -> one each number of slots; left_out: method -> why it has none.
    """

    study: str
    slot: str
    gpus: float
    n_measured: int
    trial_seconds: tuple[float, float, float]
    error: float
    overhead: Overhead
    score_seconds: dict[str, float]
    besides: dict[str, float]
    timings: dict[str, list[Timing]]
    left_out: dict[str, str]
    readout: ReadoutPlan | None = None

    @property
    def time_unit(self) -> tuple[float, str]:
        """The unit that suits the longest time: its seconds, and its name."""
        longest = max((t.seconds for some in self.timings.values() for t in some), default=0.0)
        return (1.0, "s") if longest < 300 else (60.0, "min") if longest < 3 * 3600 else (3600.0, "h")


def plan(
    studies: Sequence[Study],
    *,
    slots: Sequence[int],
    methods: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Foretell what the first of the studies takes with each method on each number of slots.

    Trials, budget, space and seed are those of the study; options of another method are its own in ``[compare]``.

    Args:
        studies: the one to plan, and others of the same data and space whose measurements are used too.
        slots: numbers of slots.
        methods: by default all that can work in its space and whose score has been measured.
        progress: where to say how far it is.

    Raises:
        PlanError: too few trials have ended, the studies do not go together, or a method named cannot be planned.
        LedgerError: a ledger cannot be read.
    """
    evidence, progress = [Evidence.of(study) for study in studies], progress or Silent()
    measured, spec = Measured(evidence), evidence[0].spec
    for name in methods or ():
        try:
            method_of(spec.of_kind, name)
        except InputError as error:
            raise PlanError(str(error)) from error
    timings: dict[str, list[Timing]] = {}
    left_out: dict[str, str] = {}
    names = list(dict.fromkeys(methods or ()))
    if not methods:
        there, left_out = methods_of(spec.of_kind)
        names = list(there)
    for n, name in enumerate(names):
        progress.update("plan", n, len(names), name)
        try:
            timings[name] = _timings(measured, _with_method(spec, name), sorted(set(slots)))
        except (SpecError, SearchError, PlanError) as error:
            if methods is not None:
                raise PlanError(f"{name}: {error}") from error
            left_out[name] = str(error)
    progress.end("plan")
    cpus, gpus, seconds = spec.resources.cpus, evidence[0].gpus, measured.trial_seconds
    return Plan(
        study=spec.name,
        slot=f"{cpus} CPU" + (f", {gpus:g} GPU" if gpus else ""),
        gpus=gpus,
        n_measured=len(seconds),
        trial_seconds=(min(seconds), float(np.median(seconds)), max(seconds)),
        error=measured.error,
        overhead=measured.overhead,
        score_seconds={name: cost for name, (_, cost) in measured.scores.items()},
        besides={name: took for name, took in evidence[0].seconds.items() if name not in PLANNED},
        timings=timings,
        left_out=left_out,
        readout=readout_plan(evidence[0], sorted(set(slots)), measured.overhead.start),
    )


def _with_method(spec: StudySpec, method: str) -> StudySpec:
    if method == spec.method:
        return spec
    values = spec.model_dump() | {"method": method, "options": spec.compare.options.get(method, {})}
    if not method_of(spec.of_kind, method).several:
        del values["tolerance"]
        values["minimize"] = spec.value_name
    return StudySpec.of(values)


def _timings(measured: Measured, spec: StudySpec, slots: Sequence[int]) -> list[Timing]:
    method = spec.method_of()
    found: list[Timing] = []
    if method.score is not None and method.score not in measured.scores:
        raise PlanError(
            f"no study named has measured the score {method.score}; name one of a method with it that has ended, too"
        )
    for n in slots:
        if found and not found[-1].limited:
            found.append(replace(found[-1], slots=n))
            continue
        scorer = None if method.score is None else measured.scorer(method.score, n, beside_trials=method.goes_on)
        searcher = spec.searcher() if scorer is None else spec.searcher(scorer)
        found.append(
            simulate(
                searcher,
                n,
                measured.cost_of,
                measured.overhead,
                scorer=scorer,
                max_trials=spec.trials,
                budget=spec.budget,
            )
        )
    return found
