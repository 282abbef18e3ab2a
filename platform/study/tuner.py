"""Ray Tune's part in a study: it starts trials, shares resources among them, compares and stops them."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from ...cluster.ray_private import deaths_by_memory
from ...cluster.resources import GB, MemoryShare
from ...cluster.trials.schedulers import InOrder, asha, hyperband, median, pause_epochs
from ...cluster.trials.training import train_trial
from ...cluster.trials.trial_watch import TrialWatch
from ...searchers.tune_searcher import TuneSearcher
from ...trainables.kind import StudyData
from ...trainables.temporary import temporary_folder
from ..spec import StudySpec
from .errors import SearchStopped
from .loggers import callbacks_of


def scheduler_of(spec: StudySpec, concurrent: int) -> tuple[TrialScheduler, list[int]]:
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


class StopAll(tune.Stopper):
    """Ends all trials once asked to.

    Args:
        stop: whether to.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Ray Tune after each result."""
        return self._stop()

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.stopper.NoopStopper, ()  # Ray Tune pickles it into a folder that nobody reads


def tune_trials(
    spec: StudySpec,
    data: StudyData,
    searcher: TuneSearcher,
    watch: TrialWatch,
    scheduler: TrialScheduler,
    *,
    gpus: float,
    concurrent: int,
    folder: Path,
    pauses: bool,
    stop: Callable[[], bool],
) -> None:
    """Train trials until the searcher has no more, or ``stop`` says so.

    Args:
        spec: of the study.
        data: to train with.
        searcher, watch, scheduler: what proposes trials, looks after them, and compares them.
        gpus: share of a GPU of each trial.
        concurrent: most trials at once.
        folder: of the study.
        pauses: whether the scheduler pauses trials, so that their checkpoints must be seen by all nodes.
        stop: asked after each report.

    Raises:
        SearchStopped: Ray Tune cannot write beside its folder.
    """
    cpus = spec.resources.cpus
    memory = MemoryShare.of_trials(spec.resources.memory, cpus, gpus, concurrent)
    resources: dict[str, float] = {"CPU": cpus, "GPU": gpus}
    if spec.resources.memory is not None:
        resources["memory"] = spec.resources.memory * GB
    with _scratch(folder, shared=pauses) as scratch:
        loggers = callbacks_of(spec.loggers, folder / "logs", spec.name)
        trainable = tune.with_parameters(train_trial, kind=spec.of_kind, data=data, memory=memory)
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=str(scratch),
                verbose=0,
                callbacks=[watch, *loggers],
                stop=StopAll(stop),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        try:
            with deaths_by_memory():
                tuner.fit()
        except OSError as error:
            raise SearchStopped(
                f"Ray Tune cannot write beside {scratch}: {error.strerror or error}; make room, or set TMPDIR to a "
                f"folder that has it, then `dftune study resume {spec.name}`"
            ) from error


@contextmanager
def _scratch(folder: Path, *, shared: bool) -> Any:
    """A folder for what Ray Tune writes, removed at the end; those that killed sessions left, too.

    Args:
        folder: of the study.
        shared: lie in it, which all nodes see.
    """
    for left in folder.glob(".tune-*"):
        shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as stack:
        try:
            if shared:
                made = tempfile.TemporaryDirectory(prefix=".tune-", dir=folder, ignore_cleanup_errors=True)
                path = Path(stack.enter_context(made))
            else:
                path = stack.enter_context(temporary_folder("tune"))
        except OSError as error:
            raise SearchStopped(
                f"no folder for Ray Tune can be made ({error.strerror}); make room, or set TMPDIR"
            ) from error
        yield path
