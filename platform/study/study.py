"""A study: from a specification and a dataset to a chosen, trained, checked and saved surrogate."""

import json
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

from ...cluster.connection import connected
from ...searchers import SEARCHERS
from ...searchers.searcher import Explains
from ...trainables.data.dataset import Dataset
from ...trainables.data.mirror import absolute
from ...trainables.data.snapshot import SPLITS
from ...trainables.errors import InputError
from ...trainables.files import write_text
from ...trainables.ldos.config import SurrogateConfig
from ..ledger.lease import Lease, LeaseLost, held, remove_half_written
from ..ledger.ledger import Ledger, LedgerTrial
from ..ledger.places import Database, LedgerFile, Place
from ..ledger.score_quality import ScoreQuality, qualities
from ..progress import Progress, Silent
from ..spec import UNITS, StudySpec

if TYPE_CHECKING:
    from ...cluster.trials.gpu_packing import Placement
    from ...cluster.trials.study_data import StudyData
    from ..figures.trials import Drawn, Form
    from ..model.model import Model
    from .watch import Event, View

STUDIES = Path("studies")
OWNER = "study.json"  # in the folder of a study whose ledger is elsewhere: where that is


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
    """A study: a ledger, and a folder with model and figures.

    Args:
        name: of the study and of its folder.
        dataset: folder, URL or open dataset.
        studies: folder that holds the studies' folders.
        ledger: URL of a PostgreSQL database that holds the ledgers of many studies; by default it is the file
            ``ledger.db`` in the study's folder.
        **settings: further keys of a study file, as ``StudySpec``: method, minimize, seed, trials, space, ...

    Raises:
        SpecError: a setting is unknown or wrong.
        LedgerError: ``ledger`` is not such a URL.
    """

    def __init__(
        self,
        name: str,
        dataset: str | Path | Dataset,
        *,
        studies: str | Path = STUDIES,
        ledger: str | None = None,
        **settings: Any,
    ) -> None:
        location = dataset.location if isinstance(dataset, Dataset) else absolute(dataset)
        self._setup(StudySpec.of({"name": name, "dataset": location, **settings}), studies, ledger)

    def _setup(self, spec: StudySpec, studies: str | Path, ledger: str | None) -> None:
        self.spec = spec
        self.folder = Path(studies).expanduser().resolve() / spec.name
        self.place = _place(self.folder, ledger)

    @classmethod
    def from_spec(cls, spec: StudySpec, studies: str | Path = STUDIES, ledger: str | None = None) -> "Study":
        """The study of a specification, which need not have been run."""
        study = cls.__new__(cls)
        study._setup(spec, studies, ledger)
        return study

    @classmethod
    def open(cls, name: str, studies: str | Path = STUDIES, ledger: str | None = None) -> "Study":
        """A study that has been run, or is running.

        Raises:
            LedgerError: there is none of that name, or its ledger cannot be read.
        """
        if Path(name).name != name:
            raise StudyError(f"'{name}' is not the name of a study; `dftune study list` shows those there are")
        folder = Path(studies).expanduser().resolve() / name
        place = _place(folder, ledger)
        if isinstance(place, LedgerFile) and not place.holds(name):
            _refuse_folder_of_another(folder, place, None)
        with closing(Ledger.open(place, name)) as found:
            return cls.from_spec(found.spec, studies, ledger)

    @staticmethod
    def names(studies: str | Path = STUDIES, ledger: str | None = None) -> list[str]:
        """Names of the studies in a folder, or in a PostgreSQL database.

        Raises:
            LedgerError: ``ledger`` is not a URL of one, or it cannot be read.
        """
        if ledger is not None:
            return Database(ledger).names()
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
        progress = progress or Silent()
        with self._held(progress) as lease:
            self._refuse_existing()
            with closing(Ledger.create(self.place, self.spec, dataset.fingerprint)) as ledger:
                ledger.claim(lease, progress.say)
                self._own_folder(ledger)
                return self._run(ledger, dataset, address, progress, lease)

    def resume(self, *, address: str | None = None, progress: Progress | None = None) -> "Conclusion":
        """Go on with a study that was stopped or killed: finished trials stay, unfinished ones run again.

        Arguments and errors as ``run``; a study that has ended is not run again, unless its model is gone.  With its
        ledger in a database it can go on in another folder, on another host.
        """
        self._opened().close()  # a study that does not exist is held by nobody either
        progress = progress or Silent()
        with self._held(progress) as lease, closing(self._opened()) as ledger:
            ledger.claim(lease, progress.say)
            self._own_folder(ledger)
            if (conclusion := ledger.conclusion()) is not None and (self.folder / "model").is_dir():
                return Conclusion(**conclusion)
            dataset = self._check()
            if dataset.fingerprint != ledger.dataset_sha256:
                raise StudyError(
                    f"{dataset.location}: has changed since this study began, whose values would not compare; "
                    "restore it or start a new study"
                )
            return self._run(ledger, dataset, address, progress, lease)

    def _opened(self) -> Ledger:
        return Ledger.open(self.place, self.spec.name)

    @property
    def begun(self) -> bool:
        """Whether it has been run, or is running: it has a ledger."""
        return self.place.holds(self.spec.name)

    def _refuse_existing(self) -> None:
        if isinstance(self.place, LedgerFile) and self.begun:
            raise StudyError(
                f"{self.folder}: a study of this name exists; go on with `dftune study resume {self.spec.name}`, "
                "choose another name, or remove the folder"
            )
        if isinstance(self.place, Database) and self.begun:
            raise StudyError(
                f"{self.place}: a study '{self.spec.name}' exists; go on with `dftune study resume {self.spec.name}`, "
                "or choose another name"
            )
        _refuse_folder_of_another(self.folder, self.place, None)

    @contextmanager
    def _held(self, progress: Progress) -> Iterator[Lease]:
        """Hold the study, in a folder that is there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another --studies folder"
            ) from error
        with closing(self.place.home(self.spec.name)) as home, held(home, progress.say) as lease:
            yield lease

    def _own_folder(self, ledger: Ledger) -> None:
        """With the ledger elsewhere: say in the folder whose it is, and refuse that of another study."""
        if isinstance(self.place, Database):
            _refuse_folder_of_another(self.folder, self.place, ledger.id)
            remove_half_written(self.folder)
            write_text(self.folder / OWNER, json.dumps({"ledger": str(self.place), "id": ledger.id}))

    def trials(self) -> list[LedgerTrial]:
        """All trials by number.  Errors as ``open``."""
        with closing(self._opened()) as ledger:
            return ledger.trials()

    def conclusion(self) -> Conclusion | None:
        """What it came to, or None while it has not ended.  Errors as ``open``."""
        with closing(self._opened()) as ledger:
            found = ledger.conclusion()
        return None if found is None else Conclusion(**found)

    def look(self) -> "View":
        """How it stands at this moment, whoever runs it.  Errors as ``open``."""
        from .watch import Viewer

        with closing(Viewer(self)) as viewer:
            return viewer.look()

    def watch(self, interval: float = 5.0) -> "Iterator[Event]":
        """What happens to it, wherever it runs, until it has ended or nobody holds it any more.

        Args:
            interval: between two looks [s].

        Yields:
            Events; the first says how it stands, the last, ``end``, as what it was left.

        Raises:
            LedgerError: as ``open``; a ledger that goes away later is waited for.
        """
        from .watch import watch

        return watch(self, interval)

    def stop(self, *, timeout: float = 600.0, progress: Progress | None = None) -> str:
        """Ask whoever runs it, on whatever host, to stop as Ctrl-C does, and wait until that is done.

        Args:
            timeout: how long to wait [s].
            progress: where to say what is waited for.

        Returns:
            What came of it; also that it was not running.

        Raises:
            StudyError: it was not done in time, or another process went on with the study.
            LedgerError: the ledger cannot be read or written.
        """
        from .watch import stop

        return stop(self, timeout, progress or Silent())

    def placement(self) -> dict[str, Any] | None:
        """Where trials ran last: ``gpus`` of each, ``concurrent``, and ``explanation``; None before the first.

        Errors as ``open``.
        """
        with closing(self._opened()) as ledger:
            return ledger.placement()

    def model(self) -> "Model":
        """The surrogate it found.

        Raises:
            StudyError: it has not ended, or its folder is not here.
        """
        from ..model.model import Model

        ended = self.conclusion() is not None
        if isinstance(self.place, Database) and _owner(self.folder) is None:
            again = f", or make it again with `dftune study resume {self.spec.name}`" if ended else ""
            raise StudyError(
                f"{self.folder}: the folder of study '{self.spec.name}', which holds its model, is not here; give that "
                f"of the host where it ran with --studies{again}"
            )
        if not ended or not (self.folder / "model").is_dir():
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
            StudyError: no trial has a value yet, or there is no such folder.
        """
        from ..figures.trials import draw

        trials = self.trials()
        if output is None and not self.folder.is_dir():
            raise StudyError(f"{self.folder}: the folder of the study is not here; say where to draw with --output")
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
        from ..figures.trials import pareto_front

        pairs = [(t, (t.cost, t.value)) for t in self.trials() if t.cost is not None and t.value is not None]
        return [pairs[i][0] for i in pareto_front([point for _, point in pairs])]

    def score_qualities(self) -> list[ScoreQuality]:
        """How far each score is to be trusted, by the trials trained so far; the method's own score first."""
        return qualities(self.trials(), SEARCHERS[self.spec.method].score)

    def explanation(self) -> list[str]:
        """What the method has to say about its trials, in lines for people.  Errors as ``open``."""
        with closing(self._opened()) as ledger:
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

        def get_ready() -> None:
            """Import what takes seconds to import, and read the trials there are."""
            from . import search  # noqa: F401

            ledger.trials()

        with (
            closing(progress),
            _interruptible(self.spec.name, progress, lease) as interrupted,
            connected(address, meanwhile=get_ready),
        ):
            import ray
            from ray import tune

            from ...cluster.descriptors.descriptors import compute_descriptors
            from ...cluster.resources import most_cpus, slots
            from ...cluster.trials.study_data import fits_object_store, publish
            from .search import search

            resources = self.spec.resources
            placement = self._place(dataset)
            concurrent = slots(resources.cpus, placement.gpus, resources.concurrent, memory=resources.memory)
            progress.say(f"{concurrent} trials at once; {placement.explanation}")
            ledger.placed({**asdict(placement), "concurrent": concurrent})
            final_gpus = 1 if placement.gpus else 0  # no trial is beside it any more
            final_cpus = most_cpus(resources.cpus, final_gpus)

            def described_one(done: int, total: int, text: str) -> None:
                progress.update("descriptors", done, total, text)
                if interrupted():
                    raise _stopped(self.spec.name, lease)

            fits = fits_object_store(dataset, self.spec.descriptors)
            keep = fits and not dataset.is_mirrored  # whose files are on every node anyway
            if not fits:
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
                    gpus=placement.gpus,
                    scores=self.folder / "scores.json",
                    interrupted=interrupted,
                    progress=progress,
                )
                if interrupted():
                    raise _stopped(self.spec.name, lease)
                searched = time.perf_counter()
                best = self._best(ledger)
                seconds = {"descriptors": described - started, "scores": scoring, "search": searched - described}
                return self._conclude(
                    ledger, best, dataset, data, seconds, (final_cpus, final_gpus), interrupted, progress, lease
                )
            except (ray.exceptions.RayError, tune.TuneError) as error:
                cause = " ".join(str(error).split())[:300]
                raise StudyError(
                    f"Ray gave up: {cause}; finished trials are kept, with more memory or on another cluster go on "
                    f"with `dftune study resume {self.spec.name}`"
                ) from error
            finally:
                descriptors.close()

    def _place(self, dataset: Dataset) -> "Placement":
        """Where trials run on the nodes there are."""
        from ...cluster.trials.gpu_packing import place_trials
        from ...trainables.ldos.training_memory import TrainingMemory, training_memory

        spec = self.spec
        n_train, n_validation = (sum(s.n_points for s in dataset.split(name)) for name in ("train", "validation"))
        sizes = spec.descriptors.n_components, dataset.info.energy_grid.n_energy

        def need(config: SurrogateConfig) -> TrainingMemory:
            return training_memory(config, *sizes, n_train=n_train, n_validation=n_validation)

        config, resources = spec.largest(lambda config: need(config).network), spec.resources
        network = f"{' x '.join(map(str, config.hidden))} {config.activation}, batch_size {config.batch_size}"
        wanted = min(spec.trials, resources.concurrent or spec.trials)
        return place_trials(resources.gpus, resources.cpus, resources.memory, wanted, need(config), network)

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
        processors: tuple[int, int],
        interrupted: Callable[[], bool],
        progress: Progress,
        lease: Lease,
    ) -> "Conclusion":
        """Retrain the best config T times, judge it on the test snapshots, save model and figures."""
        import ray

        from ...cluster.resources import MemoryShare
        from ...cluster.trials.training import Retrainer
        from ..figures.png import dos_comparison
        from ..figures.trials import draw
        from ..model.model import Model, card_for

        spec, started = self.spec, time.perf_counter()
        config = SurrogateConfig.of({**spec.config, **best.config})
        seeds = [spec.trial_seed(1_000_000 + t) for t in range(spec.initializations)]
        progress.say(
            f"trial {best.number} is best: {describe(best.config)}; training {len(seeds)} initialisations of it"
        )
        cpus, gpus = processors
        retrainer = Retrainer.options(num_cpus=cpus, num_gpus=gpus).remote()  # type: ignore[attr-defined]
        try:
            memory = MemoryShare(spec.resources.memory)
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


def ending(
    trial: int, spec: StudySpec, value: float | None, result: Mapping[str, Any], failure: str | None, *, stopped: bool
) -> str:
    """How a trial ended, in one line.

    Args:
        trial: its number.
        spec: of the study.
        value: what it reached, None if it failed.
        result: its last report.
        failure: why it failed.
        stopped: a scheduler stopped it.
    """
    if value is None:
        return f"trial {trial} failed: {failure}"
    early = f", stopped after epoch {result['epoch']}" if stopped else ""
    reached = f"{spec.minimize} {value:.4g}{UNITS[spec.minimize]}"
    return f"trial {trial}: {reached} in {result.get('seconds', float('nan')):.1f} s{early}"


def streamed(reports: Iterable[Mapping[str, Any]]) -> str | None:
    """What to say of trials that held a part of the training points at a time, by their reports; None if none did."""
    share = min((report.get("share_in_memory", 1.0) for report in reports), default=1.0)
    if share == 1:
        return None
    return (
        f"the grid points do not fit into the memory of a trial and are streamed, {share:.1%} of them shuffled at a "
        "time; memory in [resources] sets how much it takes"
    )


def _place(folder: Path, ledger: str | None) -> Place:
    return LedgerFile(folder / "ledger.db") if ledger is None else Database(ledger)


def _refuse_folder_of_another(folder: Path, place: Place, identity: str | None) -> None:
    """Refuse a folder with the files of another study: its scores and its model would be taken for this one's.

    Args:
        folder: of the study.
        place: of its ledger.
        identity: of the study; None for a new one.
    """
    owner = _owner(folder)
    if owner is not None and (identity is None or owner["id"] != identity):
        raise StudyError(
            f"{folder}: belongs to a study whose ledger is {owner['ledger']}; give that as DFTUNE_LEDGER or --ledger, "
            "or choose another name or --studies folder"
        )
    if isinstance(place, Database) and (folder / "ledger.db").exists():
        raise StudyError(
            f"{folder}: belongs to a study with a ledger of its own; choose another name or --studies folder"
        )


def _owner(folder: Path) -> dict[str, str] | None:
    """Whose folder it is, where the ledger is elsewhere."""
    try:
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return {key: str(found[key]) for key in ("ledger", "id")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{folder / OWNER}: damaged; remove the folder, or choose another") from error


def _stopped(name: str, lease: Lease) -> StudyInterrupted:
    lease.check()  # raises by itself where that is the reason
    return StudyInterrupted(f"stopped; finished trials are kept, go on with `dftune study resume {name}`")


@contextmanager
def _interruptible(name: str, progress: Progress, lease: Lease) -> Iterator[Callable[[], bool]]:
    """Ask whether to stop: after Ctrl-C, when somebody asked for it elsewhere, or when the lease is lost.

    A second Ctrl-C ends the process at once, Ray's processes with it.
    """
    event = threading.Event()

    def interrupted() -> bool:
        try:
            lease.check()
        except LeaseLost:
            return True
        if lease.stop is not None and not event.is_set():
            event.set()
            progress.say(f"asked to stop by {lease.stop}: stopping (Ctrl-C to kill) ...")
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
