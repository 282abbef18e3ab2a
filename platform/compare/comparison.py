"""All methods on one dataset at equal budgets: what each found, what it cost (Fiedler et al. 2022, Figs. 2 to 5)."""

import json
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cluster.connection import connected
from ...searchers import SEARCHERS
from ...searchers.space import Choice, Config, Range, active
from ...trainables.data.dataset import Dataset
from ...trainables.files import write_text
from ...trainables.ldos.config import SurrogateConfig
from ..ledger.lease import held
from ..ledger.ledger import LedgerTrial
from ..ledger.score_quality import ScoreQuality, score_quality
from ..progress import Progress, Silent
from ..spec import Budget, SpecError, StudySpec
from ..study.conclusion import Conclusion
from ..study.errors import StudyError, StudyInterrupted
from ..study.study import Study

if TYPE_CHECKING:
    from ...trainables.ldos.training_data import TrainingData

COMPARISONS = Path("comparisons")
DEFAULT_TRAININGS = 20  # of the largest number of epochs, where no budget is given
BASELINES = {
    "untuned": "a network of default hyperparameters, no search",
    "largest": "the largest network of the space, no search: what the trivial scores choose",
}


@dataclass(frozen=True)
class Outcome:
    """What one method came to with one seed, or one of the BASELINES.

    value: the lowest that a trial reached on the validation snapshots.
    test_loss: 1 - R² of the LDOS on the test snapshots, mean over the initialisations of the winner; test_loss_std
        over them; band_energy_mae [meV/atom] likewise.
    grid_points: grid points x epochs trained; training_seconds: of all trials together; wall_seconds: while at least
        one of them ran.
    trace: (grid points x epochs, wall seconds, lowest value) after each trial that ended.
    failure: why there is no winner.
    """

    method: str
    seed: int
    study: str
    trained: int = 0
    pruned: int = 0
    stopped: int = 0
    failed: int = 0
    grid_points: float = 0.0
    training_seconds: float = 0.0
    wall_seconds: float = 0.0
    scoring_seconds: float = 0.0
    value: float | None = None
    config: Config = field(default_factory=dict)
    hidden: list[int] = field(default_factory=list)
    activation: str = ""
    n_parameters: int | None = None
    inference_time: float | None = None
    test_loss: float | None = None
    test_loss_std: float | None = None
    band_energy_mae: float | None = None
    band_energy_mae_std: float | None = None
    trace: list[tuple[float, float, float]] = field(default_factory=list)
    failure: str | None = None

    @property
    def network(self) -> str:
        """The winner's architecture in few characters: 2 x 128 gelu."""
        widths = self.hidden
        size = f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else "-".join(map(str, widths))
        return f"{size} {self.activation}"

    @property
    def speed_up(self) -> float | None:
        """Seconds of training over the wall seconds they took."""
        return self.training_seconds / self.wall_seconds if self.wall_seconds else None


@dataclass(frozen=True)
class ScoredTrials:
    """A score and the values of all trained trials of a comparison."""

    quality: ScoreQuality
    scores: list[float]
    values: list[float]


@dataclass(frozen=True)
class Compared:
    """A comparison that has ended.

    ``kernel_ridge`` is the test accuracy of closed-form kernel ridge on 1,000 grid points.
    """

    name: str
    dataset: str
    minimize: str
    budget: Budget
    outcomes: list[Outcome]
    baselines: list[Outcome]
    scores: dict[str, ScoredTrials]
    kernel_ridge: dict[str, Any]
    left_out: dict[str, str]
    folder: Path


class Comparison:
    """Methods compared on the dataset and space of a study file, in a folder of studies, a report and figures.

    Args:
        spec: of a study; its ``compare`` says which methods, seeds and budget.
        folder: holds the comparisons' folders.

    Raises:
        SpecError: a method named for the comparison cannot work in this space, or with these options.
    """

    def __init__(self, spec: StudySpec, folder: str | Path = COMPARISONS) -> None:
        self.spec = spec
        self.folder = Path(folder).expanduser().resolve() / spec.name
        self.left_out: dict[str, str] = {}
        self._dataset = Dataset.open(spec.dataset)
        self.budget = spec.compare.budget or spec.budget or self._default_budget()
        if unknown := sorted(set(spec.compare.options) - set(SEARCHERS)):
            raise SpecError(
                f"[compare.options] has the unknown method '{unknown[0]}'; there are {', '.join(SEARCHERS)}"
            )
        self.studies: list[tuple[str, int, StudySpec]] = []
        for method in spec.compare.methods or SEARCHERS:
            try:
                found = [(method, seed, self._study_spec(method, seed)) for seed in spec.compare.seeds]
            except SpecError as error:
                if spec.compare.methods is not None:
                    raise
                self.left_out[method] = str(error)
            else:
                self.studies += found

    def run(self, *, address: str | None = None, progress: Progress | None = None) -> Compared:
        """Run what has not been run yet, then write report and figures.

        A method that fails is left out of the figures with its reason; one that is interrupted goes on next time.

        Args:
            address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
            progress: where to say how far it is.

        Raises:
            StudyInterrupted: Ctrl-C; the same call goes on.
            InputError: dataset, cluster or disk do not allow it; or the folder holds another comparison.
        """
        from ...trainables.ldos.training_data import read_training_data
        from .report import write_report

        progress = progress or Silent()
        baselines = [(name, 0, self._baseline_spec(name)) for name in BASELINES]
        every = [*self.studies, *baselines]
        self._refuse_another([spec for _, _, spec in every])
        self.folder.mkdir(parents=True, exist_ok=True)
        failures: dict[str, str] = {}
        with held(self.folder, progress.say) as lease, closing(progress), connected(address):
            for n, (method, seed, spec) in enumerate(every):
                progress.say(f"{n + 1} of {len(every)}: {method}, seed {seed}")
                try:
                    self._run_one(spec, address, progress)
                except StudyInterrupted as error:
                    raise StudyInterrupted(
                        f"stopped; finished trials are kept, the same command goes on with {self.folder}"
                    ) from error
                except StudyError as error:
                    failures[spec.name] = str(error)
                    progress.say(f"{method}, seed {seed}: {error}")
            progress.say("scores of all trained trials, kernel ridge, report")
            outcomes: list[Outcome] = []
            trials: list[LedgerTrial] = []  # of the methods, not of the baselines
            for n, (method, seed, spec) in enumerate(every):
                study = Study.from_spec(spec, self.folder)
                found = study.trials() if study.begun else []
                outcomes.append(_outcome(method, seed, study, found, failures.get(spec.name)))
                if n < len(self.studies):
                    trials += found
            data = read_training_data(self._dataset, self.spec.descriptors)
            compared = Compared(
                name=self.spec.name,
                dataset=self.spec.dataset,
                minimize=self.spec.minimize,
                budget=self.budget,
                outcomes=outcomes[: len(self.studies)],
                baselines=outcomes[len(self.studies) :],
                scores=self._scores(trials, data),
                kernel_ridge=self._kernel_ridge(data),
                left_out=self.left_out,
                folder=self.folder,
            )
            lease.check()
        write_text(self.folder / "comparison.json", json.dumps(asdict(compared), default=str, indent=1))
        write_report(compared)
        return compared

    def _default_budget(self) -> Budget:
        points = sum(int(np.prod(s.grid)) for s in self._dataset.split("train"))
        epochs = int(self.spec.config.get("epochs", SurrogateConfig().epochs))
        return Budget(grid_points=DEFAULT_TRAININGS * points * epochs)

    def _study_spec(self, method: str, seed: int) -> StudySpec:
        values = self.spec.model_dump(exclude={"compare"}) | {
            "name": f"{method.replace('+', '.').replace('>', '.then.')}-{seed}",
            "method": method,
            "seed": seed,
            "options": self.spec.compare.options.get(method, {}),
            "trials": self.spec.compare.trials,
            "budget": self.budget.model_dump(),
            "cost": self.spec.cost if SEARCHERS[method].weighs_cost else None,
        }
        if values["cost"] is None:
            del values["cost_tolerance"]
        try:
            spec = StudySpec.of(values)
            spec.searcher()
        except SpecError as error:
            raise SpecError(f"[compare] {error}") from error
        return spec

    def _baseline_spec(self, name: str) -> StudySpec:
        """A study of one trial."""
        point = {n: _default(n) if name == "untuned" else _largest(n, values) for n, values in self.spec.space.items()}
        space = {n: Choice(values=(v,)) for n, v in active(self.spec.space, point).items()}
        values = self.spec.model_dump(exclude={"compare", "cost_tolerance", "options", "budget", "space"})
        return StudySpec.of(
            values | {"name": name, "method": "grid", "seed": 0, "trials": 1, "cost": None, "space": space}
        )

    def _refuse_another(self, specs: Sequence[StudySpec]) -> None:
        for spec in specs:
            if Study.from_spec(spec, self.folder).begun and Study.open(spec.name, self.folder).spec != spec:
                raise StudyError(
                    f"{self.folder}: holds a comparison of other settings; choose another name or remove the folder"
                )

    def _run_one(self, spec: StudySpec, address: str | None, progress: Progress) -> None:
        study = Study.from_spec(spec, self.folder)
        (study.resume if study.begun else study.run)(address=address, progress=_Within(progress))

    def _scores(self, trials: Sequence[LedgerTrial], data: "TrainingData") -> dict[str, ScoredTrials]:
        """Every score for the finished trials, on one mini-batch."""
        from ...cluster.trials.scoring import ClusterScorer
        from ...trainables.ldos.scores import SCORES

        values = [t.value for t in trials if t.value is not None]
        configs = [{**self.spec.config, **t.config} for t in trials if t.value is not None]
        if not configs:
            return {}
        rng = np.random.default_rng([self.spec.seed, 1])
        found = {}
        for name, score in SCORES.items():
            scorer = ClusterScorer(name, {name: data.sample(score.n_points, rng)}, {}, self.spec.seed)
            try:
                while None in (scores := scorer(configs)):
                    time.sleep(0.1)
            finally:
                scorer.close()
            pairs = [(s, v) for s, v in zip(scores, values, strict=True) if s is not None and np.isfinite(s)]
            if pairs:
                columns = [list(column) for column in zip(*pairs, strict=True)]
                found[name] = ScoredTrials(score_quality(name, *columns), *columns)
        return found

    def _kernel_ridge(self, data: "TrainingData") -> dict[str, Any]:
        from ...trainables.ldos.baselines import fit_kernel_ridge, judge_kernel_ridge
        from ...trainables.ldos.training_data import read_split

        test = read_split(self._dataset, self.spec.descriptors, "test")
        return asdict(judge_kernel_ridge(fit_kernel_ridge(data, seed=self.spec.seed), data, test))


class _Within:
    """The progress of one of many studies, which ends with the last of them."""

    def __init__(self, outer: Progress) -> None:
        self.say, self.update, self.end = outer.say, outer.update, outer.end

    def close(self) -> None:
        """Leave it open."""


def _outcome(method: str, seed: int, study: Study, trials: Sequence[LedgerTrial], failure: str | None) -> Outcome:
    conclusion = study.conclusion() if trials else None
    counts = {state: sum(t.state == state for t in trials) for state in ("finished", "pruned", "stopped", "failed")}
    trace = _trace(trials)
    common = {
        "method": method,
        "seed": seed,
        "study": study.spec.name,
        "trained": counts["finished"],
        "pruned": counts["pruned"],
        "stopped": counts["stopped"],
        "failed": counts["failed"],
        "grid_points": sum(t.result.get("grid_points", 0.0) for t in trials),
        "training_seconds": sum(t.seconds or 0.0 for t in trials),
        "wall_seconds": trace[-1][1] if trace else 0.0,
        "trace": trace,
    }
    if conclusion is None:
        return Outcome(**common, failure=failure or "it has not ended")
    return Outcome(**common, **_winner(conclusion, trials))


def _winner(conclusion: Conclusion, trials: Sequence[LedgerTrial]) -> dict[str, Any]:
    config, accuracy = SurrogateConfig.of(conclusion.config), conclusion.accuracy
    best = next(t for t in trials if t.number == conclusion.trial)
    return {
        "scoring_seconds": conclusion.seconds["scores"],
        "value": conclusion.value,
        "config": best.config,
        "hidden": list(config.hidden),
        "activation": config.activation,
        "n_parameters": best.result.get("n_parameters"),
        "inference_time": best.result.get("inference_time"),
        "test_loss": 1 - accuracy["ldos_r2"],
        "test_loss_std": accuracy["ldos_r2_std"],
        "band_energy_mae": accuracy["band_energy_mae"],
        "band_energy_mae_std": accuracy["band_energy_mae_std"],
    }


def _trace(trials: Sequence[LedgerTrial]) -> list[tuple[float, float, float]]:
    """Compute and wall time, and the lowest value, after each trained trial that ended, in the order of their ends.

    Wall time is the time while any trial ran: pauses between the sessions of a study do not count.
    """
    ended = sorted(
        ((t.ended_at, t) for t in trials if t.ended_at is not None and t.state != "pruned"), key=lambda pair: pair[0]
    )
    busy = busy_seconds([(t.started_at, end) for end, t in ended], [end for end, _ in ended])
    found, points, lowest = [], 0.0, float("inf")
    for (_, trial), wall in zip(ended, busy, strict=True):
        points += trial.result.get("grid_points", 0.0)
        if trial.value is not None:
            lowest = min(lowest, trial.value)
        if lowest < float("inf"):
            found.append((points, wall, lowest))
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


def _default(name: str) -> Any:
    return SurrogateConfig().model_dump()["width" if name.startswith("width_") else name]


def _largest(name: str, values: Range) -> Any:
    """The largest value of an architecture's hyperparameter; of others the middle, the first of a choice."""
    grows = name == "n_layers" or name.startswith("width")
    if isinstance(values, Choice):
        return max(values.values) if grows else values.values[0]
    return values.high if grows else values.from_unit(0.5)
