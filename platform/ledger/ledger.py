"""The ledger: the durable record of a study and its trials, an Optuna storage that any Optuna tool can open.

Every trial is one row, created in one write before it starts and ended in one write before the method is told.
"""

import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import SQLAlchemyError

from ...searchers import optuna_private
from ...searchers.optuna_search import distribution
from ...searchers.searcher import PastTrial
from ...searchers.space import Config
from ..spec import SpecError, StudySpec
from .as_it_began import as_it_began, defaults_of, defaults_then
from .lease import Lease, LeaseLost
from .places import OURS, Database, LedgerAway, LedgerError, LedgerFile, Place
from .storage import close
from .trial import LedgerTrial, from_optuna

VERSION = 2
REPORT_SECONDS = 1.0  # a trial's epochs are recorded no more often than this
RETRY_SECONDS = 60.0  # a ledger that is locked, full or away is tried again for so long, with a message
_LEASE = "dftune:lease"  # number of the lease of the process that may write
T = TypeVar("T")


class _Numbered(Exception):
    """The trial that is being written would not have the number it was given."""


class Ledger:
    """The record of one study.

    Args:
        place: where it is kept.
        storage: the open Optuna storage.
        study_id: of the study in it.
        spec: what the study is.
        header: what else was written down when it began: ``dataset_sha256``, the fingerprint of the dataset it is on,
            ``id``, which no other study has, and ``defaults``, as ``defaults_of``.
    """

    def __init__(
        self,
        place: Place,
        storage: optuna.storages.RDBStorage,
        study_id: int,
        spec: StudySpec,
        header: Mapping[str, Any],
    ) -> None:
        then = defaults_then(spec, header.get("defaults"))
        self.place, self.spec, self.defaults = place, as_it_began(spec, then), then["all"]
        self.dataset_sha256, self.id = str(header["dataset_sha256"]), str(header.get("id", ""))
        self.patience = RETRY_SECONDS  # s, for a place that is locked or away
        self._storage, self._study_id = storage, study_id
        self._reader = optuna_private.cached(storage)
        self._guard = place.guard()
        self._reported: dict[int, float] = {}
        self._say: Callable[[str], None] = lambda text: None
        self._lease: Lease | None = None
        self._asking: int | None = None  # number of the trial that is being written
        event.listen(storage.engine, "commit", self._refuse)
        self._ids: dict[int, int] = {}  # of the storage, by the trial's number

    @classmethod
    def create(cls, place: Place | Path, spec: StudySpec, dataset_sha256: str) -> "Ledger":
        """Make the ledger of a new study on the dataset of the given fingerprint.

        Raises:
            InputError: the place cannot be written, or the database has a study of this name.
        """
        logging.getLogger("optuna").setLevel(logging.WARNING)  # it would tell that a study was made
        place = LedgerFile(place) if isinstance(place, Path) else place
        header = {"spec": spec.model_dump(mode="json"), "dataset_sha256": dataset_sha256, "id": uuid.uuid4().hex}
        header["defaults"] = defaults_of(spec)
        try:
            with place.creating(spec.name) as (storage, name):
                study_id = storage.create_new_study([StudyDirection.MINIMIZE] * len(spec.minimize), name)
                optuna_private.set_metric_names(storage, study_id, spec.minimize)
                storage.set_study_system_attr(study_id, _LEASE, 0)
                storage.set_study_user_attr(study_id, OURS, {**header, "version": VERSION})
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise LedgerError(f"{place}: the ledger cannot be made: {place.cause(error)}") from error
        return cls.open(place, spec.name)

    @classmethod
    def open(cls, place: Place | Path, name: str | None = None) -> "Ledger":
        """Open the ledger of a study.

        Args:
            place: where it is kept.
            name: of the study, where there may be many.

        Raises:
            LedgerError: missing, damaged, or written by another version.
        """
        place = LedgerFile(place) if isinstance(place, Path) else place
        try:
            storage, study_id = place.open(name)
            header = storage.get_study_user_attrs(study_id)[OURS]
            version, values = header["version"], header["spec"]
            if version != VERSION:
                raise LedgerError(
                    f"{place}: ledger of another version ({version}, this dftune writes {VERSION}); "
                    "use the dftune that wrote it, or start a new study"
                )
            return cls(place, storage, study_id, StudySpec.of(values, as_it_was=True), header)
        except (OSError, sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            cause = f"{place}: the ledger cannot be read: {place.cause(error)}"
            if place.passes(error):
                raise LedgerAway(f"{cause}; try again") from error
            raise LedgerError(f"{cause}; restore it from a backup") from error
        except SpecError as error:
            raise LedgerError(f"{place}: its study specification is not of this version: {error}") from error
        except LedgerError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{place}: an Optuna storage, but not the ledger of one dftune study") from error

    def claim(self, lease: Lease, say: Callable[[str], None] = lambda text: None) -> None:
        """Write as the holder of ``lease``: whoever holds an earlier one can write no more.

        That is decided by the database, in the transaction of each write: between a look at the lease and the write
        a process may be frozen for any time.

        Args:
            lease: of the study.
            say: told when the database is locked or away, and tried again.

        Raises:
            LeaseLost: a later one has been claimed.
            LedgerError: it cannot be written.
        """
        self._say = say
        key = {"study": self._study_id, "key": _LEASE}

        def number_of_the_latest() -> int:
            with self._storage.engine.begin() as connection:
                raised = {**key, "number": lease.number}
                connection.execute(text(optuna_private.RAISE_SYSTEM_ATTRIBUTE), raised)
                return int(connection.execute(text(optuna_private.SYSTEM_ATTRIBUTE), key).scalar_one())

        if self._again(number_of_the_latest) > lease.number:
            raise LeaseLost(f"{self.place}: another process has taken the study over; nothing is written")
        self._lease = lease

    def _refuse(self, connection: Connection) -> None:
        """Before each commit, in its transaction: refuse what somebody else may write, or what has a wrong number."""
        key = {"study": self._study_id, "key": _LEASE}
        if self._lease is not None:
            # PostgreSQL lets writers look at the same time, and makes a claim wait for them, and them for it.
            lock = " FOR SHARE" if isinstance(self.place, Database) else ""
            query = f"{optuna_private.SYSTEM_ATTRIBUTE}{lock}"
            if int(connection.execute(text(query), key).scalar_one()) > self._lease.number:
                self._lease.check()  # says who, if it can be seen already
                raise LeaseLost(f"{self.place}: another process has taken the study over; nothing more is written")
        if self._asking is not None:
            query, values = optuna_private.LATEST_NUMBER, {"study": self._study_id}
            if connection.execute(text(query), values).scalar_one() != self._asking:
                raise _Numbered

    def _again(self, act: Callable[[], T]) -> T:
        """Do ``act``; where the place is locked or away, again for ``patience`` seconds."""
        until: float | None = None
        while True:
            try:
                self._guard()
                result = act()
            except (SQLAlchemyError, optuna.exceptions.OptunaError, sqlite3.OperationalError) as error:
                cause, now = self.place.cause(error), time.monotonic()
                if not self.place.passes(error):
                    raise LedgerError(f"{self.place}: cannot be written: {cause}") from error
                if until is None:
                    until = now + self.patience
                    self._say(f"the ledger {self.place} cannot be used: {cause}; trying for {self.patience:.0f} s")
                if now >= until and self._lease is None:
                    raise LedgerAway(f"{self.place}: cannot be used: {cause}") from error
                if now >= until:
                    raise LedgerAway(
                        f"{self.place}: could not be used for {self.patience:.0f} s: {cause}; mend that, then "
                        f"`dftune study resume {self.spec.name}`"
                    ) from error
                time.sleep(min(1.0, self.patience / 10))
            else:
                if until is not None:
                    self._say(f"the ledger {self.place} can be used again")
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

        def create() -> int:
            self._asking = trial
            try:
                return self._storage.create_new_trial(self._study_id, template)
            finally:
                self._asking = None

        try:
            self._ids[trial] = self._again(create)
        except _Numbered as error:
            # Perhaps an earlier attempt of ours came through, and only the answer was lost with the connection.
            found = next((t for t in self._frozen() if t.number == trial), None)
            if found is None or found.datetime_start != template.datetime_start or found.params != template.params:
                raise LedgerError(
                    f"{self.place}: another process has added trials to this study; run one at a time"
                ) from error
            self._ids[trial] = optuna_private.trial_id(found)

    def _id(self, trial: int) -> int:
        if trial not in self._ids:  # it is of an earlier session
            self._ids = {t.number: optuna_private.trial_id(t) for t in self._frozen()}
        return self._ids[trial]

    def reported(self, trial: int, epoch: int, value: float) -> None:
        """Record the value an epoch reached, at most once a second."""
        now = time.monotonic()
        if now - self._reported.get(trial, -1e9) < REPORT_SECONDS:
            return
        self._reported[trial] = now
        trial_id = self._id(trial)
        self._again(lambda: self._storage.set_trial_intermediate_value(trial_id, epoch, value))

    def lost(self, trial: int, cause: str) -> None:
        """Record that a trial is begun again, since its process or node was lost.  Errors as ``told``."""
        trial_id = self._id(trial)
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
            result: its last report, which holds the other objectives, too.
            failure: why it failed.
            stopped: it was stopped before its end, after ``epoch`` of ``result``.

        Raises:
            LedgerError: it cannot be written.
        """
        trial_id, storage = self._id(trial), self._storage
        self._again(lambda: storage.set_trial_user_attr(trial_id, "result", dict(result)))
        state, values = TrialState.COMPLETE, None
        if value is None:
            self._again(lambda: storage.set_trial_user_attr(trial_id, "failure", failure or "unknown"))
            state = TrialState.FAIL
        elif stopped:
            self._again(lambda: storage.set_trial_intermediate_value(trial_id, int(result["epoch"]), value))
            state = TrialState.PRUNED
            values = [value] if len(self.spec.minimize) == 1 else None  # as Optuna's own Study.tell
        else:
            values = [value, *(float(result[measure.report]) for measure in self.spec.other_measures)]

        def end() -> None:
            try:
                storage.set_trial_state_values(trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                # An earlier attempt came through, and only the answer was lost with the connection.
                found = storage.get_trial(trial_id)
                if (found.state, found.values) != (state, values):
                    raise

        self._again(end)

    def trials(self) -> list[LedgerTrial]:
        """All trials by number."""
        frozen = self._frozen()
        try:
            return [from_optuna(t) for t in frozen]
        except (AttributeError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def _frozen(self) -> list[FrozenTrial]:
        try:
            return self._again(lambda: self._reader.get_all_trials(self._study_id, deepcopy=False))
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, LedgerError):
                raise
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> LedgerError:
        return LedgerError(f"{self.place}: a trial in it is damaged ({error!r:.100}); restore the ledger from a backup")

    def history(self) -> list[PastTrial]:
        """All trials as a method is told of them: a stopped one with the best value it had reached."""
        others = [measure.report for measure in self.spec.other_measures]
        return [
            PastTrial(
                str(t.number),
                t.config,
                t.state != "running",
                t.reached(self.spec.metric),
                tuple(t.result[name] for name in others if name in t.result),
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
        """Release the file or the connections."""
        close(self._storage)
