"""A study: from a specification and a dataset to a chosen, trained, checked and saved surrogate."""

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster.connection import connected
from ..searchers import SEARCHERS
from ..searchers.searcher import Explains
from ..trainables.dataset import SPLITS, Dataset
from ..trainables.errors import InputError
from ..trainables.mirror import absolute
from ..trainables.surrogate_config import SurrogateConfig
from .lease import Lease, LeaseLost, held
from .ledger import Ledger, LedgerTrial
from .progress import Progress, Silent
from .score_quality import ScoreQuality, qualities
from .spec import StudySpec

if TYPE_CHECKING:
    from ..cluster.study_data import StudyData
    from .model import Model
    from .plots import Drawn, Form

STUDIES = Path("studies")


class StudyError(InputError):
    """A study cannot be started, or came to nothing."""


class StudyInterrupted(StudyError):
    """The user stopped the study; it can go on."""


@dataclass(frozen=True)
class Conclusion:
    """What a study came to: the chosen trial, its accuracy on the test snapshots, and where the time went."""

    trial: int
    config: dict[str, Any]
    value: float
    accuracy: dict[str, Any]
    seconds: dict[str, float]


class Study:
    """A study in a folder: ledger, model and figures.

    Args:
        name: of the study and of its folder.
        dataset: folder, URL or open dataset.
        studies: folder that holds the studies' folders.
        **settings: further keys of a study file, as ``StudySpec``: method, minimize, seed, trials, space, ...

    Raises:
        SpecError: a setting is unknown or wrong.
    """

    def __init__(
        self, name: str, dataset: str | Path | Dataset, *, studies: str | Path = STUDIES, **settings: Any
    ) -> None:
        location = dataset.location if isinstance(dataset, Dataset) else absolute(dataset)
        self._setup(StudySpec.of({"name": name, "dataset": location, **settings}), studies)

    def _setup(self, spec: StudySpec, studies: str | Path) -> None:
        self.spec = spec
        self.folder = Path(studies).expanduser().resolve() / spec.name

    @classmethod
    def from_spec(cls, spec: StudySpec, studies: str | Path = STUDIES) -> "Study":
        """The study of a specification, which need not have been run."""
        study = cls.__new__(cls)
        study._setup(spec, studies)
        return study

    @classmethod
    def open(cls, name: str, studies: str | Path = STUDIES) -> "Study":
        """A study that has been run, or is running.

        Raises:
            LedgerError: there is none of that name, or its ledger cannot be read.
        """
        if Path(name).name != name:
            raise StudyError(f"'{name}' is not the name of a study; `dftune study list` shows those there are")
        with closing(Ledger.open(Path(studies).expanduser().resolve() / name / "ledger.db")) as ledger:
            return cls.from_spec(ledger.spec, studies)

    @staticmethod
    def names(studies: str | Path = STUDIES) -> list[str]:
        """Names of the studies in a folder."""
        return sorted(path.parent.name for path in Path(studies).expanduser().glob("*/ledger.db"))

    def run(self, *, address: str | None = None, progress: Progress | None = None) -> "Conclusion":
        """Run a new study to its end.

        Args:
            address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
            progress: where to say how far it is.

        Raises:
            StudyError: it exists already, or all its trials failed.
            StudyInterrupted: Ctrl-C; ``resume`` goes on.
            InputError: dataset, specification, cluster or disk do not allow it.
        """
        self._refuse_existing()
        dataset = self._check()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another --studies folder"
            ) from error
        progress = progress or Silent()
        with held(self.folder, progress.say) as lease:
            self._refuse_existing()
            with closing(Ledger.create(self._ledger_path, self.spec, dataset.fingerprint)) as ledger:
                ledger.claim(lease, progress.say)
                return self._run(ledger, dataset, address, progress, lease)

    def resume(self, *, address: str | None = None, progress: Progress | None = None) -> "Conclusion":
        """Go on with a study that was stopped or killed: finished trials stay, unfinished ones run again.

        Arguments and errors as ``run``; a study that has ended is not run again, unless its model is gone.
        """
        Ledger.open(self._ledger_path).close()  # a study that does not exist is held by nobody either
        progress = progress or Silent()
        with held(self.folder, progress.say) as lease, closing(Ledger.open(self._ledger_path)) as ledger:
            ledger.claim(lease, progress.say)
            if (conclusion := ledger.conclusion()) is not None and (self.folder / "model").is_dir():
                return Conclusion(**conclusion)
            dataset = self._check()
            if dataset.fingerprint != ledger.dataset_sha256:
                raise StudyError(
                    f"{dataset.location}: has changed since this study began, whose values would not compare; "
                    "restore it or start a new study"
                )
            return self._run(ledger, dataset, address, progress, lease)

    @property
    def _ledger_path(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def begun(self) -> bool:
        """Whether it has been run, or is running: it has a ledger."""
        return self._ledger_path.exists()

    def _refuse_existing(self) -> None:
        if self.begun:
            raise StudyError(
                f"{self.folder}: a study of this name exists; go on with `dftune study resume {self.spec.name}`, "
                "choose another name, or remove the folder"
            )

    def trials(self) -> list[LedgerTrial]:
        """All trials by number.  Errors as ``open``."""
        with closing(Ledger.open(self._ledger_path)) as ledger:
            return ledger.trials()

    def conclusion(self) -> Conclusion | None:
        """What it came to, or None while it has not ended.  Errors as ``open``."""
        with closing(Ledger.open(self._ledger_path)) as ledger:
            found = ledger.conclusion()
        return None if found is None else Conclusion(**found)

    def model(self) -> "Model":
        """The surrogate it found.

        Raises:
            StudyError: it has not ended.
        """
        from .model import Model

        if self.conclusion() is None or not (self.folder / "model").is_dir():
            raise StudyError(
                f"study '{self.spec.name}' has no model yet; `dftune study resume {self.spec.name}` ends it"
            )
        return Model.open(self.folder / "model")

    def export(self, path: str | Path) -> "Model":
        """Write the surrogate to a folder of its own.  Raises StudyError before the study has ended."""
        model = self.model()
        model.save(path)
        return model

    def plot(self, output: str | Path | None = None, form: "Form" = "both") -> "Drawn":
        """Draw the figures of the trials there are by now, also while it runs.

        Args:
            output: folder to write to; by default ``figures`` in the study's folder.
            form: NAME.png for each figure, one page ``plots.html`` with all, or both.

        Raises:
            StudyError: no trial has a value yet.
        """
        from .plots import draw

        trials = self.trials()
        drawn = draw(trials, self.spec, self.folder / "figures" if output is None else Path(output), form)
        if not drawn.paths:
            states = ", ".join(f"{n} {state}" for state, n in Counter(t.state for t in trials).items())
            cause = next((f"; trial {t.number}: {t.failure}" for t in trials if t.failure), "")
            raise StudyError(
                f"study '{self.spec.name}' has nothing to draw: no trial has a value yet "
                f"({states or 'no trials'}){cause}"
            )
        return drawn

    def pareto_front(self) -> list[LedgerTrial]:
        """The finished trials than which none is both better and cheaper, the cheapest first; none without a cost."""
        from .plots import pareto_front

        pairs = [(t, (t.cost, t.value)) for t in self.trials() if t.cost is not None and t.value is not None]
        return [pairs[i][0] for i in pareto_front([point for _, point in pairs])]

    def score_qualities(self) -> list[ScoreQuality]:
        """How far each score is to be trusted, by the trials trained so far; the method's own score first."""
        return qualities(self.trials(), SEARCHERS[self.spec.method].score)

    def explanation(self) -> list[str]:
        """What the method has to say about its trials, in lines for people.  Errors as ``open``."""
        with closing(Ledger.open(self._ledger_path)) as ledger:
            trials, history = ledger.trials(), ledger.history()
        score = SEARCHERS[self.spec.method].score
        known = {tuple(t.config.items()): t.scores.get(score or "") for t in trials}
        searcher = self.spec.searcher(lambda configs: [known.get(tuple(c.items())) for c in configs])
        if not isinstance(searcher, Explains):
            return []
        searcher.replay(history)
        return searcher.explanation()

    def _check(self) -> Dataset:
        """The dataset; refuses what cannot come to an end before anything is started or written."""
        self.spec.searcher()
        dataset = Dataset.open(self.spec.dataset)
        for name in SPLITS:
            dataset.split(name)
        if self.spec.minimize == "band_energy_mae" and any(s.band_energy is None for s in dataset.split("validation")):
            raise StudyError(
                f"{dataset.location}: has no reference band energies to minimize; use minimize = 'validation_loss'"
            )
        return dataset

    def _run(
        self, ledger: Ledger, dataset: Dataset, address: str | None, progress: Progress, lease: Lease
    ) -> "Conclusion":
        started = time.perf_counter()
        progress.say(f"study {self.spec.name}: method {self.spec.method}, dataset {dataset.location}")
        with closing(progress), _interruptible(self.spec.name, progress, lease) as interrupted, connected(address):
            import ray
            from ray import tune

            from ..cluster.descriptors import compute_descriptors
            from ..cluster.resources import most_cpus, slots
            from ..cluster.study_data import fits_object_store, publish
            from .search import search

            resources = self.spec.resources
            concurrent = slots(resources.cpus, resources.gpus, resources.concurrent, memory=resources.memory)
            final_cpus = most_cpus(resources.cpus, resources.gpus)

            def described_one(done: int, total: int, text: str) -> None:
                progress.update("descriptors", done, total, text)
                if interrupted():
                    raise _stopped(self.spec.name, lease)

            keep = fits_object_store(dataset, self.spec.descriptors)
            if not keep:
                progress.say("the grid points do not fit into Ray's object store: workers read them from the dataset")
            descriptors = compute_descriptors(dataset, self.spec.descriptors, keep=keep, progress=described_one)
            progress.end("descriptors")
            if said := dataset.not_stored(self.spec.descriptors):
                progress.say(said)
            described = time.perf_counter()
            try:
                data = publish(dataset, self.spec.descriptors, descriptors)
                scoring = search(
                    self.spec,
                    ledger,
                    data,
                    concurrent,
                    scores=self.folder / "scores.json",
                    interrupted=interrupted,
                    progress=progress,
                )
                if interrupted():
                    raise _stopped(self.spec.name, lease)
                searched = time.perf_counter()
                best = self._best(ledger)
                seconds = {"descriptors": described - started, "scores": scoring, "search": searched - described}
                return self._conclude(ledger, best, dataset, data, seconds, final_cpus, interrupted, progress, lease)
            except (ray.exceptions.RayError, tune.TuneError) as error:
                cause = " ".join(str(error).split())[:300]
                raise StudyError(
                    f"Ray gave up: {cause}; finished trials are kept, with more memory or on another cluster go on "
                    f"with `dftune study resume {self.spec.name}`"
                ) from error
            finally:
                descriptors.close()

    def _best(self, ledger: Ledger) -> LedgerTrial:
        trials = ledger.trials()
        done = [t for t in trials if t.value is not None]
        if not done:
            causes = [f"trial {t.number}: {t.failure}" for t in trials if t.failure]
            if causes:
                raise StudyError(
                    f"all {len(causes)} trials failed; {causes[0]}; mend [space] or [config] and start a new study"
                )
            stopped = sum(t.state == "stopped" for t in trials)
            raise StudyError(
                f"no trial came to its end, {stopped} were stopped; give the search more trials, budget or grace"
                if stopped
                else "the method proposed no config; widen [space] or change [options] and start a new study"
            )
        return chosen_of(done, self.spec.cost_tolerance)

    def _conclude(
        self,
        ledger: Ledger,
        best: LedgerTrial,
        dataset: Dataset,
        data: "StudyData",
        seconds: dict[str, float],
        cpus: int,
        interrupted: Callable[[], bool],
        progress: Progress,
        lease: Lease,
    ) -> "Conclusion":
        """Retrain the best config T times, judge it on the test snapshots, save model and figures."""
        import ray

        from ..cluster.resources import MemoryShare
        from ..cluster.training import Retrainer
        from .figures import dos_comparison
        from .model import Model, card_for
        from .plots import draw

        spec, started = self.spec, time.perf_counter()
        config = SurrogateConfig.of({**spec.config, **best.config})
        seeds = [spec.trial_seed(1_000_000 + t) for t in range(spec.initializations)]
        progress.say(
            f"trial {best.number} is best: {describe(best.config)}; training {len(seeds)} initialisations of it"
        )
        retrainer = Retrainer.options(num_cpus=cpus, num_gpus=spec.resources.gpus).remote()  # type: ignore[attr-defined]
        try:
            memory = MemoryShare(spec.resources.memory)  # no trial is beside it any more
            job, asked = retrainer.run.remote(config.model_dump(), data, seeds, cpus, memory), None
            while not ray.wait([job], timeout=0.5)[0]:
                if interrupted():
                    raise _stopped(spec.name, lease)
                asked = asked or retrainer.progress.remote()
                if ray.wait([asked], timeout=0)[0]:  # a busy cluster may keep it waiting for its CPUs
                    done, loss = ray.get(asked)
                    asked = None
                    progress.update("final", done, config.epochs, f"validation loss {loss:.4g}" if done else "")
            found = ray.get(job)
        except ray.exceptions.RayError as error:
            cause = " ".join(str(getattr(error, "cause", None) or error).split())[:300]
            raise StudyError(
                f"retraining of trial {best.number} failed: {cause}; with more memory or fewer initializations, "
                f"go on with `dftune study resume {spec.name}`"
            ) from error
        finally:
            ray.kill(retrainer)
        progress.update("final", config.epochs, config.epochs)
        progress.end("final")

        card = card_for(spec.name, config, list(found.seeds), dataset, spec.descriptors, found.accuracy)
        lease.check()
        shutil.rmtree(self.folder / "model", ignore_errors=True)  # of a session killed after this point
        Model.assemble(card, found.weights, data.scaling).save(self.folder / "model")
        assert best.value is not None
        conclusion = Conclusion(
            trial=best.number,
            config=config.model_dump(mode="json"),
            value=best.value,
            accuracy=asdict(found.accuracy),
            seconds={**seconds, "final": time.perf_counter() - started},
        )
        ledger.conclude(asdict(conclusion))
        draw(ledger.trials(), spec, self.folder / "figures", "png", names=["score"])
        dos_comparison(data.energy_grid.energy, found.dos, found.errors, self.folder / "figures" / "dos.png")
        return conclusion


def chosen_of(trials: Sequence[LedgerTrial], tolerance: float) -> LedgerTrial:
    """The finished trial of the lowest value; where they have a cost, the cheapest of those nearly as good.

    Args:
        trials: finished ones, at least one.
        tolerance: a value of up to (1 + tolerance) times the lowest is nearly as good.
    """
    values = {t.number: t.value for t in trials if t.value is not None}
    bar = min(values.values()) * (1 + tolerance)
    costly = all(t.cost is not None for t in trials)
    good = [t for t in trials if values[t.number] <= bar] if costly else list(trials)
    return min(good, key=lambda t: (t.cost or 0.0, values[t.number], t.number))


def describe(config: Mapping[str, Any]) -> str:
    """A config in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in config.items()
    )


def streamed(reports: Iterable[Mapping[str, Any]]) -> str | None:
    """What to say of trials that held a part of the training points at a time, by their reports; None if none did."""
    share = min((report.get("share_in_memory", 1.0) for report in reports), default=1.0)
    if share == 1:
        return None
    return (
        f"the grid points do not fit into the memory of a trial and are streamed, {share:.1%} of them shuffled at a "
        "time; memory in [resources] sets how much it takes"
    )


def _stopped(name: str, lease: Lease) -> StudyInterrupted:
    lease.check()  # raises by itself where that is the reason
    return StudyInterrupted(f"stopped; finished trials are kept, go on with `dftune study resume {name}`")


@contextmanager
def _interruptible(name: str, progress: Progress, lease: Lease) -> Iterator[Callable[[], bool]]:
    """Ask whether to stop: after Ctrl-C, or when the lease is lost.

    A second Ctrl-C ends the process at once, Ray's processes with it.
    """
    event = threading.Event()

    def interrupted() -> bool:
        try:
            lease.check()
        except LeaseLost:
            return True
        return event.is_set()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def on_signal(number: int, frame: object) -> None:
        if event.is_set():
            progress.say(f"killed; go on with `dftune study resume {name}`")
            os._exit(1)
        event.set()
        progress.say("stopping (Ctrl-C again to kill) ...")

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
