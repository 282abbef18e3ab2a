"""The search of a study: trials asked for, trained by Ray Tune and written down, until the method has no more."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...cluster.trials.trial_watch import TrialWatch
from ...searchers.searcher import SearchError
from ...searchers.space import Config
from ...searchers.tune_searcher import COMPLETE, FAILURE, TuneSearcher
from ...trainables.errors import InputError
from ...trainables.kind import StudyData
from ..bugs import write_traceback
from ..ledger.ledger import Ledger
from ..methods import NOTHING, Own
from ..objective import WEIGHTED, report_weights
from ..progress import Progress
from ..spec import StudySpec
from .errors import SearchStopped
from .record import Record
from .scores import StudyScores
from .tuner import scheduler_of, tune_trials


def search(
    spec: StudySpec,
    ledger: Ledger,
    data: StudyData,
    *,
    sizes: Mapping[str, int],
    concurrent: int,
    gpus: float,
    folder: Path,
    interrupted: Callable[[], bool],
    progress: Progress,
    own: Own = NOTHING,
) -> float:
    """Train trials until the method has no more, or trials and budget are used up.

    Args:
        spec: of the study.
        ledger: of the study; its trials are the history the method starts from.
        data: to train and score with.
        sizes: of the data, as ``Kind.sizes``.
        concurrent: most trials at once.
        gpus: share of a GPU of each.
        folder: of the study.
        interrupted: once True, trials are cut off and stay unfinished.
        progress: where to say how far it is.
        own: scores and searcher of the script.

    Returns:
        The CPU seconds that scores took.

    Raises:
        SearchStopped: the method cannot go on.
        InputError: the ledger or the scores cannot be read or written.
    """
    scores = StudyScores(
        spec, ledger, data.training_data(), folder / "scores.json", own=own, interrupted=interrupted, progress=progress
    )
    scheduler, pauses = scheduler_of(spec, concurrent)
    watch = TrialWatch(spec.resources.time_limit)
    record = Record(ledger, spec, scores.of, progress)
    searcher = TuneSearcher(
        spec.searcher(scores.scorer, own),
        metric=spec.metric,
        others=[measure.report for measure in spec.other_measures],
        max_trials=spec.trials,
        record=record,
        history=ledger.history(),
        interrupted=interrupted,
        death=watch.death,
        hold=lambda: record.hopeless or record.budget_used_up,
        package=lambda trial, config: _task(spec, trial, config, sizes, pauses),
    )
    try:
        tune_trials(
            spec, data, searcher, watch, scheduler,
            gpus=gpus, concurrent=concurrent, folder=folder, pauses=bool(pauses),
            stop=lambda: interrupted() or searcher.error is not None,
        )  # fmt: skip
    finally:
        scores.close()
    progress.end("trials")
    if searcher.error is not None:
        raise _stopped_by(searcher.error, spec.method, folder) from searcher.error
    return scores.seconds


def _task(
    spec: StudySpec, trial: int, config: Config, sizes: Mapping[str, int], pauses: Sequence[int]
) -> dict[str, Any]:
    """The task of a trial, for ``train_trial``."""
    return {
        "trial": trial,
        "config": {**spec.config, **config},
        "seed": spec.trial_seed(trial),
        "cpus": spec.resources.cpus,
        "sizes": dict(sizes),
        "failure_key": FAILURE,
        "complete_key": COMPLETE,
        "pauses": pauses,
        "weighted": (WEIGHTED, report_weights(spec.value_name, spec.of_kind)),
    }


def _stopped_by(error: Exception, method: str, folder: Path) -> Exception:
    """What ends a search whose method or record raised an error."""
    if isinstance(error, SearchError):
        return SearchStopped(f"method {method}: {error}")
    if isinstance(error, InputError):
        return error
    return SearchStopped(f"method {method} stopped: {error!r}; its traceback is in {write_traceback(error, folder)}")
