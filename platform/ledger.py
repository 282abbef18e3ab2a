"""The ledger: the durable record of a study and its trials, an Optuna storage that any Optuna tool can open.

Every trial is one row, created in one write before it starts and ended in one write before the method is told.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from ..searchers.optuna_search import distribution
from ..searchers.space import Config
from ..trainables.errors import InputError
from ..trainables.files import atomic
from .spec import SpecError, StudySpec

VERSION = 1
REPORT_SECONDS = 1.0  # a trial's epochs are recorded no more often than this

State = Literal["running", "finished", "failed"]
_STATES: dict[TrialState, State] = {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}

logging.getLogger("optuna").setLevel(logging.WARNING)


class LedgerError(InputError):
    """The ledger is missing, damaged, of another version, or cannot be written."""


@dataclass(frozen=True)
class LedgerTrial:
    """One trial as the ledger has it.

    ``scores`` are training-free scores by name; ``result`` the last report of a finished trial.
    """

    number: int
    config: Config
    state: State
    value: float | None
    scores: dict[str, float]
    seed: int
    seconds: float | None
    failure: str | None
    result: dict[str, Any]


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

    @classmethod
    def create(cls, path: Path, spec: StudySpec, dataset_sha256: str) -> "Ledger":
        """Make the ledger of a new study on the dataset of the given fingerprint.

        Raises:
            LedgerError: the file cannot be written.
        """
        header = {"spec": spec.model_dump_json(), "dataset_sha256": dataset_sha256}
        try:
            with atomic(path) as temporary:
                storage = _storage(temporary)
                study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], spec.name)
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
            version, text, dataset = header["version"], header["spec"], header["dataset_sha256"]
        except (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            raise LedgerError(
                f"{path}: the ledger cannot be read: {_cause(error)}; restore it from a backup"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{path}: an Optuna storage, but not the ledger of one dftune study") from error
        if version != VERSION:
            raise LedgerError(
                f"{path}: ledger of another version ({version}, this dftune writes {VERSION}); "
                "use the dftune that wrote it, or start a new study"
            )
        try:
            spec = StudySpec.of(json.loads(text))
        except (SpecError, ValueError) as error:
            raise LedgerError(f"{path}: its study specification is not of this version: {error}") from error
        return cls(path, storage, study._study_id, spec, dataset)

    def asked(self, trial: int, config: Config, *, seed: int, scores: Mapping[str, float]) -> None:
        """Create a trial, in one durable write, before it starts.

        Raises:
            LedgerError: it cannot be written, or another process has written to the study.
        """
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(config),
            distributions={name: distribution(self.spec.space[name]) for name in config},
            user_attrs={"seed": seed} | {f"score:{name}": value for name, value in scores.items()},
        )
        try:
            trial_id = self._storage.create_new_trial(self._study_id, template)
            number = self._storage.get_trial_number_from_id(trial_id)
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise LedgerError(f"{self.path}: cannot be written: {_cause(error)}") from error
        if number != trial:
            raise LedgerError(f"{self.path}: another process has added trials to this study; run one at a time")
        self._ids[trial] = trial_id

    def reported(self, trial: int, epoch: int, value: float) -> None:
        """Record the value an epoch reached, at most once a second."""
        now = time.monotonic()
        if now - self._reported.get(trial, -1e9) < REPORT_SECONDS:
            return
        self._reported[trial] = now
        try:
            self._storage.set_trial_intermediate_value(self._ids[trial], epoch, value)
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise LedgerError(f"{self.path}: cannot be written: {_cause(error)}") from error

    def told(self, trial: int, value: float | None, result: Mapping[str, Any], failure: str | None) -> None:
        """End a trial, durably, before the method is told.

        The state is the last write: a crash before it leaves the trial unfinished, to be run again.

        Raises:
            LedgerError: it cannot be written.
        """
        trial_id = self._ids[trial]
        try:
            self._storage.set_trial_user_attr(trial_id, "result", dict(result))
            if value is None:
                self._storage.set_trial_user_attr(trial_id, "failure", failure or "unknown")
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
            else:
                self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [value])
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise LedgerError(f"{self.path}: cannot be written: {_cause(error)}") from error

    def trials(self) -> list[LedgerTrial]:
        """All trials by number."""
        return [_from_optuna(t) for t in self._storage.get_all_trials(self._study_id, deepcopy=False)]

    def conclude(self, result: dict[str, Any]) -> None:
        """Record what the study came to."""
        try:
            self._storage.set_study_user_attr(self._study_id, "result", result)
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise LedgerError(f"{self.path}: cannot be written: {_cause(error)}") from error

    def conclusion(self) -> dict[str, Any] | None:
        """What the study came to, or None while it has not ended."""
        return self._storage.get_study_user_attrs(self._study_id).get("result")

    def close(self) -> None:
        """Release the file."""
        _close(self._storage)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 30}})


def _close(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _from_optuna(trial: FrozenTrial) -> LedgerTrial:
    attributes = trial.user_attrs
    return LedgerTrial(
        number=trial.number,
        config=dict(trial.params),
        state=_STATES.get(trial.state, "running"),
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        scores={k.removeprefix("score:"): v for k, v in attributes.items() if k.startswith("score:")},
        seed=attributes["seed"],
        seconds=attributes.get("result", {}).get("seconds"),
        failure=attributes.get("failure") if trial.state == TrialState.FAIL else None,
        result=attributes.get("result", {}),
    )


def _cause(error: Exception) -> str:
    """The database's own words, without SQLAlchemy's."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return " ".join(str(getattr(inner, "orig", None) or inner).split())
