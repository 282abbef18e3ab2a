"""All that dftune uses of Optuna without its promise: private names, its database's tables, marks on its trials.

They were seen in Optuna 5.0, to which pyproject.toml pins it; each has a test that fails if Optuna changes it.
"""

import json
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial, Trial

# Tables of an RDBStorage.  A study is known by its number, ``:study``, or its name, ``:name``.
TABLE_OF_STUDIES = "studies"
STUDY_OF_NAME = "SELECT study_id FROM studies WHERE study_name = :name"
RENAME_STUDY = "UPDATE studies SET study_name = :name WHERE study_name = :temporary"
# Names of the studies with a user attribute ``:key``.
STUDIES_WITH_ATTRIBUTE = "SELECT study_name FROM studies JOIN study_user_attributes USING (study_id) WHERE key = :key"
LATEST_NUMBER = "SELECT number FROM trials WHERE study_id = :study ORDER BY trial_id DESC LIMIT 1"
# A study's system attribute ``:key`` that is a whole number: read, and raised to ``:number`` if it is less.
SYSTEM_ATTRIBUTE = "SELECT value_json FROM study_system_attributes WHERE study_id = :study AND key = :key"
RAISE_SYSTEM_ATTRIBUTE = (
    "UPDATE study_system_attributes SET value_json = CAST(:number AS VARCHAR) WHERE study_id = :study AND key = :key "
    "AND CAST(value_json AS INTEGER) < :number"
)

# The version of an RDBStorage's tables, and how it is noted in a database that is still empty.
TABLES_VERSION = "v3.2.0.a"
NOTE_VERSION = (
    "CREATE TABLE IF NOT EXISTS alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    f"INSERT INTO alembic_version SELECT '{TABLES_VERSION}' WHERE NOT EXISTS (SELECT 1 FROM alembic_version)",
)

TABLE_OF_VERSION = "alembic_version"
VERSION = f"SELECT version_num FROM {TABLE_OF_VERSION}"

# Samplers that write what they have drawn into a trial under way, and under which name.
_DRAWN = ("tpe:relative_params:0", "gp:relative_params:0")


def cached(storage: "RDBStorage") -> "BaseStorage":
    """A reader of a storage that reads a trial that has ended only once."""
    from optuna.storages import _CachedStorage

    return _CachedStorage(storage)


def filled(url: str) -> str:
    """A URL of a storage as the database takes it."""
    from optuna.storages import RDBStorage

    return RDBStorage._fill_storage_url_template(url)


def storage_of(url: str, settings: "dict[str, Any]", engine: "Any", session: "Any") -> "RDBStorage":
    """A storage in a database with tables of ``TABLES_VERSION``, with an engine and its sessions.

    Its own ``__init__`` asks the database for the version of the tables, and does not believe it.
    """
    storage = _writing_trials_at_once().__new__(_writing_trials_at_once())
    storage.url, storage.engine_kwargs, storage.skip_compatibility_check = filled(url), settings, True
    storage.heartbeat_interval = storage.grace_period = None
    storage.heartbeat_stale_trial_callback = storage.failed_trial_callback = None
    storage.engine, storage.scoped_session = engine, session
    storage._version_manager = None  # type: ignore[assignment]
    return storage


@cache
def _writing_trials_at_once() -> "type[RDBStorage]":
    """Storages that write a new trial with all it has: Optuna's ask the database twice for each entry of it."""
    from optuna.distributions import distribution_to_json
    from optuna.storages import RDBStorage
    from optuna.storages._rdb.models import TrialModel, TrialParamModel, TrialUserAttributeModel

    class Storage(RDBStorage):
        def _get_prepared_new_trial(self, study: int, template: "FrozenTrial | None", session: "Any") -> TrialModel:
            if template is None or template.values or template.system_attrs or template.intermediate_values:
                return super()._get_prepared_new_trial(study, template, session)
            made = TrialModel(
                study_id=study, number=None, state=template.state, datetime_start=template.datetime_start,
                datetime_complete=template.datetime_complete,
            )  # fmt: skip
            session.add(made)
            session.flush()  # which gives it its number
            for name, value in template.params.items():
                drawn_from = template.distributions[name]
                session.add(
                    TrialParamModel(
                        trial_id=made.trial_id, param_name=name, param_value=drawn_from.to_internal_repr(value),
                        distribution_json=distribution_to_json(drawn_from),
                    )
                )  # fmt: skip
            for key, value in template.user_attrs.items():
                session.add(TrialUserAttributeModel(trial_id=made.trial_id, key=key, value_json=json.dumps(value)))
            made.number = made.count_past_trials(session)
            return made

    return Storage


def trial_id(trial: "Trial | FrozenTrial") -> int:
    """The storage's number of a trial; it differs from the trial's number where a storage has several studies."""
    return trial._trial_id


def study_id(study: "FrozenStudy") -> int:
    """The storage's number of a study that it has listed."""
    return study._study_id


def set_metric_names(storage: "RDBStorage", study: int, names: "Sequence[str]") -> None:
    """Name what a study minimises, as ``optuna.Study.set_metric_names`` does, without loading the study."""
    storage.set_study_system_attr(study, "study:metric_names", list(names))


def on_stop(study: "Study", call: "Callable[[], None]") -> None:
    """Call a function where a sampler finds that nothing is left to propose.

    Such a sampler (``BruteForceSampler``) stops the study, which raises an error where it is asked and told one by one.
    """
    study.stop = call  # type: ignore[method-assign]


def reseed(sampler: "BaseSampler", seed: int) -> bool:
    """Let a sampler draw as one that is made anew with this seed; False where we do not know how."""
    from optuna.samplers import RandomSampler, TPESampler

    if type(sampler) is TPESampler:
        sampler._rng.rng.seed(seed)
        return reseed(sampler._random_sampler, seed)
    if type(sampler) is RandomSampler:
        sampler._rng.rng.seed(seed)
        return True
    return False


def forget_drawn(trial: "Trial") -> None:
    """Make TPE and GP judge a trial under way by its hyperparameters alone.

    They also draw hyperparameters that do not exist in this trial, and write them into it.  There they would steer the
    next proposals while the trial runs, and a history does not have them.
    """
    for name in _DRAWN:
        trial.storage.set_trial_system_attr(trial_id(trial), name, "")
