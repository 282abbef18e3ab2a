"""A study: from a specification and a dataset to a chosen, trained, checked and saved surrogate."""

import json
import math
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cluster.connection import connected
from ..searchers import SEARCHERS
from ..searchers.searcher import Explains, PastTrial, Searcher
from ..searchers.space import Config
from ..trainables.dataset import SPLITS, Dataset
from ..trainables.errors import InputError
from ..trainables.files import write_text
from ..trainables.surrogate_config import SurrogateConfig
from .ledger import Ledger, LedgerTrial
from .lock import held
from .progress import Progress, Silent
from .score_quality import ScoreQuality, qualities
from .spec import UNITS, StudySpec

if TYPE_CHECKING:
    from ..cluster.scoring import ClusterScorer, ConfigKey
    from ..cluster.study_data import StudyData
    from .model import Model

STUDIES = Path("studies")
HOPELESS = 3  # this many failed trials and no finished one end a study


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
        dataset: folder or open dataset.
        studies: folder that holds the studies' folders.
        **settings: further keys of a study file, as ``StudySpec``: method, minimize, seed, trials, space, ...

    Raises:
        SpecError: a setting is unknown or wrong.
    """

    def __init__(
        self, name: str, dataset: str | Path | Dataset, *, studies: str | Path = STUDIES, **settings: Any
    ) -> None:
        path = dataset.path if isinstance(dataset, Dataset) else Path(dataset).expanduser().resolve()
        self._setup(StudySpec.of({"name": name, "dataset": path, **settings}), studies)

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
        with held(self.folder / "lock"):
            self._refuse_existing()
            with closing(Ledger.create(self._ledger_path, self.spec, dataset.fingerprint)) as ledger:
                return self._run(ledger, dataset, address, progress or Silent())

    def resume(self, *, address: str | None = None, progress: Progress | None = None) -> "Conclusion":
        """Go on with a study that was stopped or killed: finished trials stay, unfinished ones run again.

        Arguments and errors as ``run``; a study that has ended is not run again, unless its model is gone.
        """
        Ledger.open(self._ledger_path).close()  # a study that does not exist has no lock either
        with held(self.folder / "lock"), closing(Ledger.open(self._ledger_path)) as ledger:
            if (conclusion := ledger.conclusion()) is not None and (self.folder / "model").is_dir():
                return Conclusion(**conclusion)
            dataset = self._check()
            if dataset.fingerprint != ledger.dataset_sha256:
                raise StudyError(
                    f"{dataset.path}: has changed since this study began, whose values would not compare; "
                    "restore it or start a new study"
                )
            return self._run(ledger, dataset, address, progress or Silent())

    @property
    def _ledger_path(self) -> Path:
        return self.folder / "ledger.db"

    def _refuse_existing(self) -> None:
        if self._ledger_path.exists():
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

    def score_qualities(self) -> list[ScoreQuality]:
        """How far each score is to be trusted, by the trials trained so far; the method's own score first."""
        return qualities(self.trials(), SEARCHERS[self.spec.method].score)

    def explanation(self) -> list[str]:
        """What the method has to say about its trials, in lines for people.  Errors as ``open``."""
        searcher = self._searcher(None)
        if not isinstance(searcher, Explains):
            return []
        searcher.replay(_history(self.trials()))
        return searcher.explanation()

    def _check(self) -> Dataset:
        """The dataset; refuses what cannot come to an end before anything is started or written."""
        self._searcher(None)
        dataset = Dataset.open(self.spec.dataset)
        for name in SPLITS:
            dataset.split(name)
        if self.spec.minimize == "band_energy_mae" and any(s.band_energy is None for s in dataset.split("validation")):
            raise StudyError(
                f"{dataset.path}: has no reference band energies to minimize; use minimize = 'validation_loss'"
            )
        return dataset

    def _searcher(self, scorer: "ClusterScorer | None") -> Searcher:
        spec = self.spec
        try:
            return SEARCHERS[spec.method].build(spec.space, spec.seed, scorer, spec.method_options)
        except ValueError as error:
            raise StudyError(f"method {spec.method}: {error}") from error

    def _run(self, ledger: Ledger, dataset: Dataset, address: str | None, progress: Progress) -> "Conclusion":
        started = time.perf_counter()
        progress.say(f"study {self.spec.name}: method {self.spec.method}, dataset {dataset.path}")
        with closing(progress), _interruptible(self.spec.name, progress) as interrupted, connected(address):
            import ray
            from ray import tune

            from ..cluster.descriptors import compute_descriptors
            from ..cluster.resources import most_cpus, slots
            from ..cluster.study_data import publish

            resources = self.spec.resources
            concurrent = slots(resources.cpus, resources.gpus, resources.concurrent)
            final_cpus = most_cpus(resources.cpus, resources.gpus)

            def described_one(done: int, total: int, text: str) -> None:
                progress.update("descriptors", done, total, text)
                if interrupted.is_set():
                    raise _stopped(self.spec.name)

            descriptors = compute_descriptors(dataset, self.spec.descriptors, progress=described_one)
            progress.end("descriptors")
            described = time.perf_counter()
            try:
                data = publish(dataset, descriptors)
                scoring = self._search(ledger, data, concurrent, interrupted, progress)
                searched = time.perf_counter()
                best = self._best(ledger)
                seconds = {"descriptors": described - started, "scores": scoring, "search": searched - described}
                return self._conclude(ledger, best, dataset, data, seconds, final_cpus, interrupted, progress)
            except (ray.exceptions.RayError, tune.TuneError) as error:
                cause = " ".join(str(error).split())[:300]
                raise StudyError(
                    f"Ray gave up: {cause}; finished trials are kept, with more memory or on another cluster go on "
                    f"with `dftune study resume {self.spec.name}`"
                ) from error
            finally:
                descriptors.close()

    def _search(
        self, ledger: Ledger, data: "StudyData", concurrent: int, interrupted: threading.Event, progress: Progress
    ) -> float:
        """Train trials until the method has no more; returns the CPU seconds that scores took."""
        from ray import tune

        from ..cluster.scoring import ClusterScorer
        from ..cluster.training import train_trial
        from ..searchers.tune_searcher import COMPLETE, FAILURE, TuneSearcher
        from ..trainables.scores import SCORES, TRIVIAL

        spec, method = self.spec, SEARCHERS[self.spec.method]
        training_data = data.training_data()
        rng = np.random.default_rng([spec.seed, 1])
        names = [n for n in (method.score, *TRIVIAL) if n is not None]
        batches = {n: training_data.sample(SCORES[n].n_points, rng) for n in names}
        scorer: ClusterScorer | None = None
        if method.score is not None:
            scorer = ClusterScorer(
                method.score,
                batches,
                spec.config,
                spec.seed,
                known=self._known_scores(),
                progress=lambda done, total: self._scored(scorer, done, total, progress),
            )

        def scores_of(config: Config) -> dict[str, float]:
            full = SurrogateConfig.of({**spec.config, **config})
            found = {n: SCORES[n].function([full], batches[n], spec.seed)[0] for n in TRIVIAL}
            if scorer is not None and method.score is not None:
                found[method.score] = scorer.known[_key(config)]
            return found

        record = _Record(ledger, spec, scores_of, progress)
        searcher = TuneSearcher(
            self._searcher(scorer),
            metric=spec_metric(spec),
            max_trials=spec.trials,
            record=record,
            history=_history(ledger.trials()),
            interrupted=interrupted.is_set,
            hold=lambda: record.hopeless,
            package=lambda trial, config: {
                "config": {**spec.config, **config},
                "seed": trial_seed(spec.seed, trial),
                "cpus": spec.resources.cpus,
                "failure_key": FAILURE,
                "complete_key": COMPLETE,
            },
        )

        class Stop(tune.Stopper):
            def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
                return False

            def stop_all(self) -> bool:
                return interrupted.is_set() or searcher.error is not None

            def __reduce__(self) -> tuple[Any, ...]:
                return tune.stopper.NoopStopper, ()  # Ray Tune pickles it into a folder that nobody reads

        scratch = tempfile.mkdtemp(prefix="dftune-")
        try:
            trainable = tune.with_resources(
                tune.with_parameters(train_trial, data=data), {"CPU": spec.resources.cpus, "GPU": spec.resources.gpus}
            )
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher, num_samples=-1, max_concurrent_trials=concurrent, reuse_actors=True
                ),
                run_config=tune.RunConfig(name=spec.name, storage_path=scratch, verbose=0, stop=Stop()),
            ).fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if scorer is not None:
                scorer.close()
        progress.end("trials")
        if searcher.error is not None:
            if isinstance(searcher.error, InputError):
                raise searcher.error
            raise StudyError(f"method {spec.method} stopped: {searcher.error!r}") from searcher.error
        if interrupted.is_set():
            raise _stopped(spec.name)
        return 0.0 if scorer is None else scorer.seconds

    def _scored(self, scorer: "ClusterScorer | None", done: int, total: int, progress: Progress) -> None:
        """Some more scores are known: store them, so that a study killed now does not compute them again."""
        progress.update("scores", done, total)
        if scorer is not None:
            rows = [{"config": dict(key), "score": score} for key, score in scorer.known.items()]
            write_text(self.folder / "scores.json", json.dumps(rows))
        if done == total:
            progress.end("scores")

    def _known_scores(self) -> "dict[ConfigKey, float]":
        try:
            rows = json.loads((self.folder / "scores.json").read_text(encoding="utf-8"))
            return {_key(row["config"]): float(row["score"]) for row in rows}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(
                f"{self.folder / 'scores.json'}: damaged; remove it to have the scores computed again"
            ) from error

    def _best(self, ledger: Ledger) -> LedgerTrial:
        trials = ledger.trials()
        done = [t for t in trials if t.value is not None]
        if not done:
            causes = [f"trial {t.number}: {t.failure}" for t in trials if t.failure]
            first = causes[0] if causes else "the method proposed no config"
            raise StudyError(
                f"all {len(causes)} trials failed; {first}; mend [space] or [config] and start a new study"
            )
        return min(done, key=lambda t: (t.value, t.number))

    def _conclude(
        self,
        ledger: Ledger,
        best: LedgerTrial,
        dataset: Dataset,
        data: "StudyData",
        seconds: dict[str, float],
        cpus: int,
        interrupted: threading.Event,
        progress: Progress,
    ) -> "Conclusion":
        """Retrain the best config T times, judge it on the test snapshots, save model and figures."""
        import ray

        from ..cluster.training import Retrainer
        from .figures import dos_comparison, score_against_value
        from .model import Model, card_for

        spec, started = self.spec, time.perf_counter()
        config = SurrogateConfig.of({**spec.config, **best.config})
        seeds = [trial_seed(spec.seed, 1_000_000 + t) for t in range(spec.initializations)]
        progress.say(
            f"trial {best.number} is best: {describe(best.config)}; training {len(seeds)} initialisations of it"
        )
        retrainer = Retrainer.options(num_cpus=cpus, num_gpus=spec.resources.gpus).remote()  # type: ignore[attr-defined]
        try:
            job, asked = retrainer.run.remote(config.model_dump(), data, seeds, cpus), None
            while not ray.wait([job], timeout=0.5)[0]:
                if interrupted.is_set():
                    raise _stopped(spec.name)
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
        label = "validation LDOS loss, 1 - R²" if spec.minimize == "validation_loss" else "band-energy error [meV/atom]"
        score_against_value(ledger.trials(), SEARCHERS[spec.method].score, label, self.folder / "figures" / "score.png")
        dos_comparison(data.energy_grid.energy, found.dos, found.errors, self.folder / "figures" / "dos.png")
        return conclusion


class _Record:
    """Writes trials to the ledger and to the progress, as they are asked for, report and end."""

    def __init__(
        self, ledger: Ledger, spec: StudySpec, scores_of: Callable[[Config], dict[str, float]], progress: Progress
    ) -> None:
        self._ledger, self._spec, self._scores_of, self._progress = ledger, spec, scores_of, progress
        self._states = {t.number: t.state for t in ledger.trials()}
        self._metric = spec_metric(spec)

    @property
    def hopeless(self) -> bool:
        states = list(self._states.values())
        return states.count("failed") >= HOPELESS and "finished" not in states

    def asked(self, trial: int, config: Config) -> None:
        self._ledger.asked(trial, config, seed=trial_seed(self._spec.seed, trial), scores=self._scores_of(config))
        self._states[trial] = "running"

    def reported(self, trial: int, result: Mapping[str, Any]) -> None:
        self._ledger.reported(trial, result["epoch"], result[self._metric])
        self._show(f"trial {trial}: epoch {result['epoch']}, loss {result['validation_loss']:.4g}")

    def told(self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None) -> None:
        kept = ("epoch", "train_loss", "best_loss", "best_band_energy_mae", "seconds", "points_per_second", "memory_mb")
        numbers = {k: result[k] for k in kept if k in result and math.isfinite(result[k])}
        self._ledger.told(trial, value, numbers, failure)
        self._states[trial] = "failed" if value is None else "finished"
        if failure is not None:
            self._progress.say(f"trial {trial} failed: {failure}")
        elif value is not None:
            unit = UNITS[self._spec.minimize]
            seconds = result.get("seconds", float("nan"))
            self._progress.say(f"trial {trial}: {self._spec.minimize} {value:.4g}{unit} in {seconds:.1f} s")
        self._show("")

    def _show(self, text: str) -> None:
        ended = sum(s != "running" for s in self._states.values())
        self._progress.update("trials", ended, None, text)  # how many there will be, the method alone knows


def spec_metric(spec: StudySpec) -> str:
    """The reported number that a study minimises: that of the weights kept, not of the last epoch."""
    return {"validation_loss": "best_loss", "band_energy_mae": "best_band_energy_mae"}[spec.minimize]


def trial_seed(study_seed: int, trial: int) -> int:
    """Seed of a trial's initial weights: a function of study and trial number, whatever ran before."""
    return int(np.random.SeedSequence([study_seed, trial]).generate_state(1)[0])


def _history(trials: list[LedgerTrial]) -> list[PastTrial]:
    return [PastTrial(str(t.number), t.config, t.state != "running", t.value) for t in trials]


def describe(config: Mapping[str, Any]) -> str:
    """A config in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in config.items()
    )


def _key(config: Mapping[str, Any]) -> "ConfigKey":
    from ..cluster.scoring import key_of

    return key_of(config)


def _stopped(name: str) -> StudyInterrupted:
    return StudyInterrupted(f"stopped; finished trials are kept, go on with `dftune study resume {name}`")


@contextmanager
def _interruptible(name: str, progress: Progress) -> Iterator[threading.Event]:
    """Ctrl-C sets the event; a second one ends the process at once, Ray's processes with it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_signal(number: int, frame: object) -> None:
        if event.is_set():
            progress.say(f"killed; go on with `dftune study resume {name}`")
            os._exit(1)
        event.set()
        progress.say("stopping (Ctrl-C again to kill) ...")

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
