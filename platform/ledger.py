"""The ledger: the durable record of a study and its trials, an Optuna storage that any Optuna tool can open.

Every trial is one row, created in one write before it starts and ended in one write before the method is told.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import SQLAlchemyError

from ..searchers.optuna_search import distribution
from ..searchers.searcher import PastTrial
from ..searchers.space import Config
from ..trainables.errors import InputError
from ..trainables.files import atomic
from .lease import Lease, LeaseLost
from .spec import SpecError, StudySpec

VERSION = 2
REPORT_SECONDS = 1.0  # a trial's epochs are recorded no more often than this
LOCKED_SECONDS = 5.0  # SQLite itself waits so long for another program that has the file locked
RETRY_SECONDS = 60.0  # then, or when storage fails, it is tried again for so long, with a message
_PASSING = ("is locked", "unable to open", "disk I/O error", "disk is full", "is not there")  # storage may come back
_HOLDER = "dftune:lease"  # number of the lease of the process that may write
T = TypeVar("T")

State = Literal["running", "finished", "failed", "pruned", "stopped"]
_STATES: dict[TrialState, State] = {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}

logging.getLogger("optuna").setLevel(logging.WARNING)


class LedgerError(InputError):
    """The ledger is missing, damaged, of another version, or cannot be written."""


@dataclass(frozen=True)
class LedgerTrial:
    """One trial as the ledger has it.

    ``pruned`` by its score, it was never trained; ``stopped`` by a scheduler, it did not come to its end, and has no
    value to compare.  ``cost`` is there where the study weighs one.  ``scores`` are training-free scores by name;
    ``result`` is the last report of a trial that ended.  ``started_at`` and ``ended_at`` are seconds of the epoch.
    ``lost`` says why it was begun again: each time that its process or node was lost.
    """

    number: int
    config: Config
    state: State
    value: float | None
    cost: float | None
    scores: dict[str, float]
    seed: int | None
    seconds: float | None
    failure: str | None
    result: dict[str, Any]
    started_at: float
    ended_at: float | None
    lost: tuple[str, ...] = ()

    def reached(self, metric: str) -> float | None:
        """Its value; of a stopped trial the best of the ``metric`` that it had reported."""
        return self.result.get(metric) if self.state == "stopped" else self.value


class Ledger:
    """The record of one study.

    Args:
        path: SQLite file.
        storage: the open Optuna storage.
        study_id: of the study in it.
        spec: what the study is.
        dataset_sha256: fingerprint of the dataset it is on.
    """

    def __init__(
        self, path: Path, storage: optuna.storages.RDBStorage, study_id: int, spec: StudySpec, dataset_sha256: str
    ) -> None:
        self.path, self.spec, self.dataset_sha256 = path, spec, dataset_sha256
        self._storage, self._study_id = storage, study_id
        self._ids = {t.number: t._trial_id for t in storage.get_all_trials(study_id, deepcopy=False)}
        self._reported: dict[int, float] = {}
        self._say: Callable[[str], None] = lambda text: None
        self._file = _identity(path)

    @classmethod
    def create(cls, path: Path, spec: StudySpec, dataset_sha256: str) -> "Ledger":
        """Make the ledger of a new study on the dataset of the given fingerprint.

        Raises:
            LedgerError: the file cannot be written.
        """
        header = {"spec": spec.model_dump(mode="json"), "dataset_sha256": dataset_sha256}
        try:
            with atomic(path) as temporary:
                storage = _storage(temporary)
                objectives = [spec.minimize, *([spec.cost] if spec.cost else [])]
                study_id = storage.create_new_study([StudyDirection.MINIMIZE] * len(objectives), spec.name)
                storage.set_study_system_attr(study_id, "study:metric_names", objectives)  # as Study.set_metric_names
                storage.set_study_user_attr(study_id, "dftune", {**header, "version": VERSION})
                _close(storage)
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise LedgerError(f"{path}: the ledger cannot be made: {_cause(error)}") from error
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open the ledger of a study.

        Raises:
            LedgerError: missing, damaged, or written by another version.
        """
        if not path.is_file():
            raise LedgerError(f"{path}: no ledger; `dftune study list` shows the studies there are")
        try:
            storage = _storage(path)
            (study,) = storage.get_all_studies()
            header = study.user_attrs["dftune"]
            version, values, dataset = header["version"], header["spec"], header["dataset_sha256"]
        except (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            cause = _cause(error)
            remedy = "try again" if any(p in cause for p in _PASSING) else "restore it from a backup"
            raise LedgerError(f"{path}: the ledger cannot be read: {cause}; {remedy}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{path}: an Optuna storage, but not the ledger of one dftune study") from error
        if version != VERSION:
            raise LedgerError(
                f"{path}: ledger of another version ({version}, this dftune writes {VERSION}); "
                "use the dftune that wrote it, or start a new study"
            )
        try:
            spec = StudySpec.of(values)
        except SpecError as error:
            raise LedgerError(f"{path}: its study specification is not of this version: {error}") from error
        return cls(path, storage, study._study_id, spec, dataset)

    def claim(self, lease: Lease, say: Callable[[str], None] = lambda text: None) -> None:
        """Write as the holder of ``lease``: whoever holds an earlier one can write no more.

        That is decided by the database, in the transaction of each write: between a look at the lease and the write
        a process may be frozen for any time.

        Args:
            lease: of the folder.
            say: told when the database is locked or away, and tried again.

        Raises:
            LeaseLost: a later one has been claimed.
            LedgerError: it cannot be written.
        """
        self._say = say
        attributes = self._again(lambda: self._storage.get_study_system_attrs(self._study_id))
        if attributes.get(_HOLDER, 0) > lease.number:
            raise LeaseLost(f"{self.path}: another process has taken the study over; nothing is written")
        self._again(lambda: self._storage.set_study_system_attr(self._study_id, _HOLDER, lease.number))

        @event.listens_for(self._storage.engine, "commit")
        def refuse_if_lost(connection: Connection) -> None:
            found = connection.execute(
                text("SELECT value_json FROM study_system_attributes WHERE study_id = :study AND key = :key"),
                {"study": self._study_id, "key": _HOLDER},
            ).scalar()
            if found is not None and int(found) > lease.number:
                lease.check()  # says who, if it can be seen already
                raise LeaseLost(f"{self.path}: another process has taken the study over; nothing more is written")

    def _again(self, act: Callable[[], T]) -> T:
        """Do ``act``; where the database is locked or away, again for RETRY_SECONDS."""
        until: float | None = None
        while True:
            try:
                found = _identity(self.path)
                if found is None:  # SQLite would go on writing to a file that has no name any more
                    raise sqlite3.OperationalError("the file is not there")
                if found != self._file:
                    raise LedgerError(f"{self.path}: has been replaced by another file meanwhile; resume the study")
                result = act()
            except (SQLAlchemyError, optuna.exceptions.OptunaError, sqlite3.OperationalError) as error:
                cause, now = _cause(error), time.monotonic()
                if not any(p in cause for p in _PASSING):
                    raise LedgerError(f"{self.path}: cannot be written: {cause}") from error
                if until is None:
                    until = now + RETRY_SECONDS
                    self._say(f"the ledger {self.path} cannot be used: {cause}; trying for {RETRY_SECONDS:.0f} s")
                if now >= until:
                    raise LedgerError(
                        f"{self.path}: could not be used for {RETRY_SECONDS:.0f} s: {cause}; mend that, then "
                        f"`dftune study resume {self.spec.name}`"
                    ) from error
                time.sleep(min(1.0, RETRY_SECONDS / 10))
            else:
                if until is not None:
                    self._say(f"the ledger {self.path} can be used again")
                return result

    def asked(self, trial: int, config: Config, *, seed: int, scores: Mapping[str, float]) -> None:
        """Create a trial, in one durable write, before it starts.

        Raises:
            LedgerError: it cannot be written, or another process has written to the study.
        """
        self._create(trial, config, TrialState.RUNNING, seed, scores)

    def pruned(self, trial: int, config: Config, *, scores: Mapping[str, float]) -> None:
        """Record, in one durable write, a candidate that its score ruled out.  Errors as ``asked``."""
        self._create(trial, config, TrialState.PRUNED, None, scores)

    def _create(
        self, trial: int, config: Config, state: TrialState, seed: int | None, scores: Mapping[str, float]
    ) -> None:
        template = create_trial(
            state=state,
            params=dict(config),
            distributions={name: distribution(self.spec.space[name]) for name in config},
            user_attrs=({} if seed is None else {"seed": seed})
            | {f"score:{name}": value for name, value in scores.items()},
        )
        trial_id = self._again(lambda: self._storage.create_new_trial(self._study_id, template))
        number = self._again(lambda: self._storage.get_trial_number_from_id(trial_id))
        if number != trial:
            raise LedgerError(f"{self.path}: another process has added trials to this study; run one at a time")
        self._ids[trial] = trial_id

    def reported(self, trial: int, epoch: int, value: float) -> None:
        """Record the value an epoch reached, at most once a second."""
        now = time.monotonic()
        if now - self._reported.get(trial, -1e9) < REPORT_SECONDS:
            return
        self._reported[trial] = now
        self._again(lambda: self._storage.set_trial_intermediate_value(self._ids[trial], epoch, value))

    def lost(self, trial: int, cause: str) -> None:
        """Record that a trial is begun again, since its process or node was lost.  Errors as ``told``."""
        trial_id = self._ids[trial]
        known = self._again(lambda: self._storage.get_trial(trial_id)).user_attrs.get("lost", [])
        self._again(lambda: self._storage.set_trial_user_attr(trial_id, "lost", [*known, cause]))

    def told(
        self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None, *, stopped: bool = False
    ) -> None:
        """End a trial, durably, before the method is told.

        The state is the last write: a crash before it leaves the trial unfinished, to be run again.

        Args:
            trial: its number.
            value: what it reached, None if it failed.
            result: its last report, which holds the cost where the study weighs one.
            failure: why it failed.
            stopped: it was stopped before its end, after ``epoch`` of ``result``.

        Raises:
            LedgerError: it cannot be written.
        """
        trial_id, storage = self._ids[trial], self._storage
        self._again(lambda: storage.set_trial_user_attr(trial_id, "result", dict(result)))
        state, values = TrialState.COMPLETE, None if value is None else [value]
        if value is None:
            self._again(lambda: storage.set_trial_user_attr(trial_id, "failure", failure or "unknown"))
            state = TrialState.FAIL
        elif stopped:
            self._again(lambda: storage.set_trial_intermediate_value(trial_id, int(result["epoch"]), value))
            state = TrialState.PRUNED
            values = [value] if self.spec.cost is None else None  # as Optuna's own Study.tell
        elif self.spec.cost is not None:
            values = [value, float(result[self.spec.cost])]
        self._again(lambda: storage.set_trial_state_values(trial_id, state, values))

    def trials(self) -> list[LedgerTrial]:
        """All trials by number."""
        found = self._again(lambda: self._storage.get_all_trials(self._study_id, deepcopy=False))
        return [_from_optuna(t) for t in found]

    def history(self) -> list[PastTrial]:
        """All trials as a method is told of them: a stopped one with the best value it had reached."""
        return [
            PastTrial(
                str(t.number),
                t.config,
                t.state != "running",
                t.reached(self.spec.metric),
                t.cost if t.state == "finished" else t.result.get(self.spec.cost or ""),
                t.state == "pruned",
            )
            for t in self.trials()
        ]

    def placed(self, placement: dict[str, Any]) -> None:
        """Record where trials run from now on; errors as ``told``."""
        self._again(lambda: self._storage.set_study_user_attr(self._study_id, "placement", placement))

    def placement(self) -> dict[str, Any] | None:
        """Where trials ran last, or None before the first."""
        return self._again(lambda: self._storage.get_study_user_attrs(self._study_id)).get("placement")

    def conclude(self, result: dict[str, Any]) -> None:
        """Record what the study came to."""
        self._again(lambda: self._storage.set_study_user_attr(self._study_id, "result", result))

    def conclusion(self) -> dict[str, Any] | None:
        """What the study came to, or None while it has not ended."""
        return self._again(lambda: self._storage.get_study_user_attrs(self._study_id)).get("result")

    def close(self) -> None:
        """Release the file."""
        _close(self._storage)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCKED_SECONDS}})


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where there is none, or storage does not answer."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _close(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _from_optuna(trial: FrozenTrial) -> LedgerTrial:
    attributes = trial.user_attrs
    if trial.state == TrialState.PRUNED:
        state: State = "stopped" if "result" in attributes else "pruned"
    else:
        state = _STATES.get(trial.state, "running")
    values = trial.values if trial.state == TrialState.COMPLETE else [None, None]
    return LedgerTrial(
        number=trial.number,
        config=dict(trial.params),
        state=state,
        value=values[0],
        cost=values[1] if len(values) > 1 else None,
        scores={k.removeprefix("score:"): v for k, v in attributes.items() if k.startswith("score:")},
        seed=attributes.get("seed"),
        seconds=attributes.get("result", {}).get("seconds"),
        failure=attributes.get("failure") if trial.state == TrialState.FAIL else None,
        result=attributes.get("result", {}),
        started_at=trial.datetime_start.timestamp() if trial.datetime_start else float("nan"),
        ended_at=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        lost=tuple(attributes.get("lost", ())),
    )


def _cause(error: Exception) -> str:
    """The database's own words, without SQLAlchemy's."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return " ".join(str(getattr(inner, "orig", None) or inner).split())
