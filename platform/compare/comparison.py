"""All methods on one dataset at equal budgets: what each found, what it cost (Fiedler et al. 2022, Figs. 2 to 5)."""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from signal import SIGINT
from typing import Any

import numpy as np

from ...cluster.connection import connected
from ...searchers.space import Choice, Config, active
from ...trainables.errors import DatasetError, InputError
from ...trainables.files import write_text
from ...trainables.progress import Within
from ..ledger.as_it_began import defaults_of
from ..ledger.lease import held
from ..ledger.score_quality import score_quality
from ..ledger.trial import LedgerTrial
from ..methods import method_of, methods_of, scores_of
from ..progress import Progress, Silent
from ..spec import UNTRAINED, SpecError, StudySpec
from ..study.defaults import default_config, middle
from ..study.errors import StudyError, StudyInterrupted
from ..study.study import Study
from ..study.suited import suited
from ..tables import Budget
from .outcome import BASELINES, Compared, Outcome, ScoredTrials, outcome_of
from .over_splits import over_splits, planned, refuse_splits

COMPARISONS = Path("comparisons")
DEFAULT_TRAININGS = 20  # of the largest number of epochs, where no budget is given


class Comparison:
    """Methods compared on the dataset and space of a study file, in a folder of studies, a report and figures.

    Args:
        spec: of a study; its ``compare`` says which methods, seeds and budget.
        folder: holds the comparisons' folders.

    Raises:
        SpecError: a method named for the comparison cannot work in this space, or with these options; or its kind
            repeats nothing over splits.
        DatasetError: the dataset cannot be opened, keeps nothing for testing, or has too few rows for the splits.
    """

    def __init__(self, spec: StudySpec, folder: str | Path = COMPARISONS) -> None:
        self._kind = spec.of_kind
        refuse_splits(spec)
        self.folder = Path(folder).expanduser().resolve() / spec.name
        there, self.left_out = methods_of(self._kind)
        self._data = self._kind.open(spec.dataset)
        if self._data.judged_on != "test":
            raise DatasetError(
                f"{self._data.location}: has no test data, and methods are compared by these; `dftune data split` "
                "keeps some of three snapshots or more for testing"
            )
        spec, self._lines = suited(spec, self._data)
        self.spec = spec
        planned(spec, self._data, [])  # what cannot be split is refused before hours of searching
        self._sizes = self._kind.sizes(self._data, spec.settings)
        self.budget = spec.compare.budget or spec.budget or self._default_budget()
        for method in spec.compare.options:
            try:
                method_of(self._kind, method)
            except InputError as error:
                raise SpecError(f"[compare.options]: {error}") from error
        self.studies: list[tuple[str, int, StudySpec]] = []
        for method in spec.compare.methods or there:
            try:
                found = [(method, seed, self._study_spec(method, seed)) for seed in spec.compare.seeds]
            except SpecError as error:
                if spec.compare.methods is not None:
                    raise
                self.left_out[method] = str(error)
            else:
                self.studies += found
        compared = {method for method, _, _ in self.studies}
        left = compared if self._kind.untrained is not None else {UNTRAINED}
        self._baselines = [name for name in BASELINES if name not in left]

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
        try:
            return self._run(address, progress or Silent())
        except (KeyboardInterrupt, StudyInterrupted) as error:  # in a study, or between two and after the last
            raise StudyInterrupted(
                f"stopped; finished trials are kept, the same command goes on with {self.folder}",
                getattr(error, "number", SIGINT),
            ) from error

    def _run(self, address: str | None, progress: Progress) -> Compared:
        from .report import write_report

        every = [*self.studies, *((name, 0, self._baseline_spec(name)) for name in self._baselines)]
        self._refuse_another([spec for _, _, spec in every])
        self.folder.mkdir(parents=True, exist_ok=True)
        for line in self._lines:
            progress.say(line)
        with (
            held(self.folder, progress.say) as lease,
            closing(progress),
            connected(address, say=progress.say, log=self.folder / "ray.log"),
        ):
            failures = self._run_all(every, address, progress)
            progress.say("scores of all trained trials, baselines of a closed form, report")
            outcomes: list[Outcome] = []
            trials: list[LedgerTrial] = []  # of the methods, not of the baselines
            for n, (method, seed, spec) in enumerate(every):
                study = Study.from_spec(spec, self.folder)
                found = study.trials() if study.begun else []
                conclusion = study.conclusion() if found else None
                outcomes.append(outcome_of(method, seed, spec, found, conclusion, failures.get(spec.name)))
                if n < len(self.studies):
                    trials += found
            training, test = self._kind.split_for_training(self._data, self.spec.settings)
            compared = Compared(
                name=self.spec.name,
                kind=self._kind.name,
                dataset=self.spec.dataset,
                minimize=self.spec.value_name,
                budget=self.budget,
                outcomes=outcomes[: len(self.studies)],
                baselines=outcomes[len(self.studies) :] + self._kind_baselines(training, test),
                scores=self._scores(trials, training),
                over_splits=over_splits(
                    self.spec, self._data, outcomes[: len(self.studies)], self.folder, Within(progress)
                ),
                left_out=self.left_out,
                folder=self.folder,
            )
            lease.check()
        write_text(self.folder / "comparison.json", json.dumps(asdict(compared), default=str, indent=1))
        write_report(compared)
        return compared

    def _run_all(
        self, every: Sequence[tuple[str, int, StudySpec]], address: str | None, progress: Progress
    ) -> dict[str, str]:
        """Run each study that has not ended.

        Returns:
            Name of a study -> why it failed.
        """
        failures: dict[str, str] = {}
        for n, (method, seed, spec) in enumerate(every):
            progress.say(f"{n + 1} of {len(every)}: {method}, seed {seed}")
            study = Study.from_spec(spec, self.folder)
            try:
                (study.resume if study.begun else study.run)(address=address, progress=Within(progress), defaults=False)
            except StudyInterrupted:
                raise
            except StudyError as error:
                failures[spec.name] = str(error)
                progress.say(f"{method}, seed {seed}: {error}")
        return failures

    def _default_budget(self) -> Budget:
        per_epoch = self._kind.epoch_work(self.spec.full({}), self._sizes, len(self._data.split("train")))
        work = {self._kind.compute.report: DEFAULT_TRAININGS * per_epoch * self.spec.epochs}
        budget = StudySpec.of(self.spec.model_dump() | {"budget": work}).budget
        assert budget is not None
        return budget

    def _study_spec(self, method: str, seed: int) -> StudySpec:
        values = self.spec.model_dump(exclude={"compare", "start_from", "first"}) | {
            "name": f"{method.replace('+', '.').replace('>', '.then.')}-{seed}",
            "method": method,
            "seed": seed,
            "options": self.spec.compare.options.get(method, {}),
            "trials": self.spec.compare.trials,
            "budget": self.budget.model_dump(),
        }
        if not method_of(self._kind, method).several:
            del values["tolerance"]
            values["minimize"] = self.spec.value_name
        try:
            spec = StudySpec.of(values)
            spec.searcher()
        except SpecError as error:
            raise SpecError(f"[compare] {error}") from error
        return spec

    def _baseline_spec(self, name: str) -> StudySpec:
        """A study of one trial."""
        if name == UNTRAINED:
            return self._study_spec(name, 0)
        config = default_config(self.spec, defaults_of(self.spec)["all"]) if name == "untuned" else self._largest()
        values = self.spec.model_dump(
            exclude={"compare", "minimize", "tolerance", "options", "budget", "space", "start_from", "first"}
        )
        space = {n: Choice(values=(value,)) for n, value in config.items()}
        return StudySpec.of(
            values
            | {"name": name, "method": "grid", "seed": 0, "trials": 1, "minimize": self.spec.value_name, "space": space}
        )

    def _largest(self) -> Config:
        """The largest network of the space, by the memory that its weights take.

        A hyperparameter that does not change them is in the middle of its range, or the first of a choice.
        """
        space = self.spec.space

        def weights(point: Config) -> float:
            return self._kind.memory(self.spec.full(active(space, point)), self._sizes).weights

        point = middle(self.spec)
        for _ in range(2):  # a second time for what exists only beside what was chosen since
            for n, values in space.items():
                ends = values.values if isinstance(values, Choice) else (values.low, values.high)
                sizes = [weights(point | {n: end}) for end in ends]
                if max(sizes) > min(sizes):
                    point[n] = ends[int(np.argmax(sizes))]
        return active(space, point)

    def _refuse_another(self, specs: Sequence[StudySpec]) -> None:
        for spec in specs:
            begun = Study.from_spec(spec, self.folder).begun
            there = Study.open(spec.name, self.folder).spec if begun else spec
            if there == spec:
                continue
            began = {n: v for n, v in there.config.items() if n not in {*spec.config, *spec.space}}
            said = ", ".join(f"{name} = {json.dumps(value)}" for name, value in began.items())
            raise StudyError(
                f"{self.folder}: holds a comparison of other settings"
                + (f", which began with {said}; say so in [config]," if said else ";")
                + " choose another name or remove the folder"
            )

    def _scores(self, trials: Sequence[LedgerTrial], data: Any) -> dict[str, ScoredTrials]:
        """Every score for the finished trials, on one mini-batch."""
        from ...cluster.trials.scoring import ClusterScorer

        finished = [(t.config, t.value) for t in trials if t.value is not None]
        if not finished:
            return {}
        rng = np.random.default_rng([self.spec.seed, 1])
        found = {}
        configs = [config for config, _ in finished]
        for name, score in scores_of(self._kind)[0].items():
            batch = data.sample(score.n_points, rng)
            scores: Sequence[float | None]
            if score.trivial:
                scores = score.function([self.spec.full(config) for config in configs], batch, self.spec.seed)
            else:
                with closing(ClusterScorer(score, batch, self.spec.full, self.spec.seed)) as scorer:
                    while None in (scores := scorer(configs)):
                        time.sleep(0.1)
            pairs = [(s, v) for s, (_, v) in zip(scores, finished, strict=True) if s is not None and np.isfinite(s)]
            if pairs:
                columns = [list(column) for column in zip(*pairs, strict=True)]
                found[name] = ScoredTrials(score_quality(name, *columns), score.label, score.trivial, *columns)
        return found

    def _kind_baselines(self, training: Any, test: Any) -> list[Outcome]:
        """The baselines of the kind; one fit has no spread."""
        found = []
        for name, (about, judge) in self._kind.baselines.items():
            numbers = judge(training, test, self.spec.seed).numbers()
            tested: dict[str, tuple[float | None, float | None]] = {n: (mean, None) for n, (mean, _) in numbers.items()}
            found.append(Outcome(name, self.spec.seed, "", about=about, tested=tested))
        return found
