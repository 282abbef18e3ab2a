"""The search of a study: trials asked for, trained by Ray Tune and written down, until the method has no more."""

import json
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import TrialScheduler

from ...cluster.resources import GB, MemoryShare
from ...cluster.trials.schedulers import InOrder, asha, hyperband, median, pause_epochs
from ...cluster.trials.scoring import ClusterScorer
from ...cluster.trials.study_data import StudyData
from ...cluster.trials.training import train_trial
from ...cluster.trials.trial_watch import TrialWatch, deaths_by_memory
from ...searchers import SEARCHERS
from ...searchers.searcher import SearchError, no_scores
from ...searchers.space import Config
from ...searchers.tune_searcher import COMPLETE, FAILURE, TuneSearcher
from ...trainables.errors import InputError
from ...trainables.files import write_text
from ...trainables.ldos.config import Architecture, SurrogateConfig
from ...trainables.ldos.scores import SCORES, TRIVIAL
from ..ledger.ledger import Ledger, State
from ..progress import Progress
from ..spec import StudySpec
from .study import StudyError, ending, streamed

HOPELESS = 3  # this many failed trials and no finished one end a study
KEPT = (  # of a trial's last report
    "epoch",
    "train_loss",
    "best_loss",
    "best_band_energy_mae",
    "seconds",
    "points_per_second",
    "memory_mb",
    "share_in_memory",
    "grid_points",
    "n_parameters",
    "inference_time",
)
SAVE_SECONDS = 2.0  # scores are written to disk no more often than this


class SearchStopped(StudyError):
    """The method or Ray Tune could not go on."""


def search(
    spec: StudySpec,
    ledger: Ledger,
    data: StudyData,
    concurrent: int,
    *,
    gpus: float,
    scores: Path,
    interrupted: Callable[[], bool],
    progress: Progress,
) -> float:
    """Train trials until the method has no more, or trials and budget are used up.

    Args:
        spec: of the study.
        ledger: of the study; its trials are the history the method starts from.
        data: to train and score with.
        concurrent: most trials at once.
        gpus: share of a GPU of each.
        scores: JSON file of the scores known so far, kept so that a study killed now does not compute them again.
        interrupted: once True, trials are cut off and stay unfinished.
        progress: where to say how far it is.

    Returns:
        The CPU seconds that scores took.

    Raises:
        SearchStopped: the method cannot go on.
        InputError: the ledger or the scores cannot be read or written.
    """
    method = SEARCHERS[spec.method]
    training_data = data.training_data()
    rng = np.random.default_rng([spec.seed, 1])
    names = [n for n in (method.score, *TRIVIAL) if n is not None]
    batches = {n: training_data.sample(SCORES[n].n_points, rng) for n in names}
    scorer: ClusterScorer | None = None
    saved = _SavedScores(scores)
    if method.score is not None:
        known = saved.read() | {
            SurrogateConfig.of({**spec.config, **t.config}).architecture: t.scores[method.score]
            for t in ledger.trials()
            if method.score in t.scores
        }

        def scored(done: int, total: int) -> None:
            if not method.goes_on:  # scores along the way are in the ledger
                progress.update("scores", done, total)
                if scorer is not None and not interrupted():
                    saved.write(scorer.known, at_once=done == total)
                if done == total:
                    progress.end("scores")

        scorer = ClusterScorer(
            method.score,
            batches,
            spec.config,
            spec.seed,
            known=known,
            beside_trials=method.goes_on,
            progress=scored,
        )

    def scores_of(config: Config) -> dict[str, float]:
        full = SurrogateConfig.of({**spec.config, **config})
        found = {n: SCORES[n].function([full], batches[n], spec.seed)[0] for n in TRIVIAL}
        if scorer is not None and method.score is not None and (score := scorer.score_of(config)) is not None:
            found[method.score] = score
        return found

    scheduler, pauses = _scheduler(spec, concurrent)
    watch = TrialWatch(spec.resources.time_limit)
    record = _Record(ledger, spec, scores_of, progress)
    searcher = TuneSearcher(
        spec.searcher(scorer or no_scores),
        metric=spec.metric,
        cost=spec.cost,
        max_trials=spec.trials,
        record=record,
        history=ledger.history(),
        interrupted=interrupted,
        death=watch.death,
        hold=lambda: record.hopeless or record.budget_used_up,
        package=lambda trial, config: {
            "config": {**spec.config, **config},
            "seed": spec.trial_seed(trial),
            "cpus": spec.resources.cpus,
            "failure_key": FAILURE,
            "complete_key": COMPLETE,
            "pauses": pauses,
        },
    )

    class Stop(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return interrupted() or searcher.error is not None

        def __reduce__(self) -> tuple[Any, ...]:
            return tune.stopper.NoopStopper, ()  # Ray Tune pickles it into a folder that nobody reads

    # Checkpoints of paused trials are read on other nodes, which see the folder of the study.
    for left in scores.parent.glob(".tune-*"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = tempfile.mkdtemp(prefix=".tune-", dir=scores.parent) if pauses else tempfile.mkdtemp(prefix="dftune-")
    try:
        cpus = spec.resources.cpus
        memory = MemoryShare.of_trials(spec.resources.memory, cpus, gpus, concurrent)
        resources: dict[str, float] = {"CPU": cpus, "GPU": gpus}
        if spec.resources.memory is not None:
            resources["memory"] = spec.resources.memory * GB
        trainable = tune.with_resources(tune.with_parameters(train_trial, data=data, memory=memory), resources)
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[watch],
                stop=Stop(),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        with deaths_by_memory():
            tuner.fit()
    except OSError as error:
        raise SearchStopped(
            f"Ray Tune cannot write beside {scratch}: {error.strerror or error}; make room, or set TMPDIR to a folder "
            f"that has it, then `dftune study resume {spec.name}`"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if scorer is not None:
            scorer.close()
    progress.end("trials")
    if searcher.error is not None:
        if isinstance(searcher.error, SearchError):
            raise SearchStopped(f"method {spec.method}: {searcher.error}") from searcher.error
        if isinstance(searcher.error, InputError):
            raise searcher.error
        raise SearchStopped(f"method {spec.method} stopped: {searcher.error!r}") from searcher.error
    return 0.0 if scorer is None else scorer.seconds


def _scheduler(spec: StudySpec, concurrent: int) -> tuple[TrialScheduler, list[int]]:
    """The scheduler, and the epochs after which it may pause a trial."""
    options, metric, epochs = spec.scheduler, spec.metric, spec.epochs
    if options is None:
        return InOrder(), []
    grace, factor = options.grace_epochs or max(1, epochs // 8), options.reduction_factor or 3
    if options.type == "asha":
        return asha(metric, epochs, grace_epochs=grace, reduction_factor=factor), []
    if options.type == "median":
        return median(metric, epochs, grace_epochs=grace), []
    scheduler = hyperband(metric, epochs, reduction_factor=factor, concurrent=concurrent)
    return scheduler, pause_epochs(epochs, factor)


class _SavedScores:
    """Scores of candidates in a JSON file, written now and then."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, -math.inf

    def read(self) -> dict[Architecture, float]:
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return {(tuple(row["hidden"]), row["activation"]): float(row["score"]) for row in rows}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchStopped(f"{self._path}: damaged; remove it to have the scores computed again") from error

    def write(self, known: Mapping[Architecture, float], *, at_once: bool) -> None:
        if at_once or time.monotonic() - self._at > SAVE_SECONDS:
            rows = [{"hidden": hidden, "activation": name, "score": s} for (hidden, name), s in known.items()]
            write_text(self._path, json.dumps(rows))
            self._at = time.monotonic()


class _Record:
    """Writes trials to the ledger and to the progress, as they are asked for, report and end."""

    def __init__(
        self, ledger: Ledger, spec: StudySpec, scores_of: Callable[[Config], dict[str, float]], progress: Progress
    ) -> None:
        self._ledger, self._spec, self._scores_of, self._progress = ledger, spec, scores_of, progress
        self._states: dict[int, State] = {t.number: t.state for t in ledger.trials()}
        self._counts = Counter(self._states.values())
        self._reports: dict[int, dict[str, Any]] = {}  # the latest of each trial
        self._spent = {"grid_points": 0.0, "seconds": 0.0}  # by all trials, as they reported
        for trial in ledger.trials():
            self._keep(trial.number, trial.result)
        self._said_streamed = False

    @property
    def hopeless(self) -> bool:
        return self._counts["failed"] >= HOPELESS and not self._counts["finished"] + self._counts["stopped"]

    @property
    def budget_used_up(self) -> bool:
        limits = self._spec.budget.model_dump() if self._spec.budget is not None else {}
        return any(limit is not None and self._spent[name] >= limit for name, limit in limits.items())

    def _keep(self, trial: int, report: dict[str, Any]) -> None:
        before = self._reports.get(trial, {})
        for name in self._spent:
            self._spent[name] += report.get(name, 0) - before.get(name, 0)
        self._reports[trial] = report

    def _is_now(self, trial: int, state: State) -> None:
        if trial in self._states:
            self._counts[self._states[trial]] -= 1
        self._states[trial] = state
        self._counts[state] += 1

    def asked(self, trial: int, config: Config) -> None:
        self._ledger.asked(trial, config, seed=self._spec.trial_seed(trial), scores=self._scores_of(config))
        self._is_now(trial, "running")

    def pruned(self, trial: int, config: Config) -> None:
        self._ledger.pruned(trial, config, scores=self._scores_of(config))
        self._is_now(trial, "pruned")
        self._show(f"candidate {trial} pruned by its score")

    def reported(self, trial: int, result: Mapping[str, Any]) -> None:
        self._keep(trial, _kept(result))
        self._ledger.reported(trial, result["epoch"], result[self._spec.metric])
        if not self._said_streamed and (said := streamed([self._reports[trial]])):
            self._progress.say(said)
            self._said_streamed = True
        self._show(f"trial {trial}: epoch {result['epoch']}, loss {result['validation_loss']:.4g}")

    def lost(self, trial: int, cause: str) -> None:
        self._ledger.lost(trial, cause)
        self._progress.say(f"trial {trial}: {cause}; it is begun again")

    def told(
        self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None, stopped: bool
    ) -> None:
        # Of a trial that failed the last report says no more than why: what it has cost stands in the one before.
        numbers = self._reports.get(trial, {}) | _kept(result)
        self._ledger.told(trial, value, numbers, failure, stopped=stopped)
        self._is_now(trial, "failed" if value is None else "stopped" if stopped else "finished")
        self._keep(trial, numbers)
        if value is not None or failure is not None:
            self._progress.say(ending(trial, self._spec, value, result, failure, stopped=stopped))
        self._show("")

    def _show(self, text: str) -> None:
        ended = len(self._states) - self._counts["running"] - self._counts["pruned"]
        self._progress.update("trials", ended, None, text)  # how many there will be, the method alone knows


def _kept(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that the ledger keeps."""
    return {name: result[name] for name in KEPT if name in result and math.isfinite(result[name])}
