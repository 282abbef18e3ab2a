"""Each private part of Optuna that dftune uses still does what it is used for."""

import shutil

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from dftune.searchers import optuna_private
from dftune.tests.places import ROOT


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A database with Optuna's tables and no study."""
    path = tmp_path_factory.mktemp("tables") / "ledger.db"
    optuna.storages.RDBStorage(f"sqlite:///{path}").engine.dispose()
    return path


@pytest.fixture
def storage(tables, tmp_path):
    shutil.copy(tables, tmp_path / "ledger.db")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def new_study(storage, name):
    return storage.create_new_study([StudyDirection.MINIMIZE], name)


def scalars(storage, query, **values):
    with storage.engine.begin() as connection:
        return list(connection.execute(text(query), values).scalars())


def test_optuna_is_pinned_to_the_minor_version_these_were_seen_in():
    assert '"optuna>=5.0,<5.1"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert optuna.__version__.startswith("5.0.")


def test_a_sampler_with_nothing_left_calls_instead_of_an_error():
    study, ends = optuna.create_study(sampler=optuna.samplers.GridSampler({"x": [1, 2]})), []
    optuna_private.on_stop(study, lambda: ends.append(len(study.trials)))
    for _ in range(2):
        trial = study.ask()
        study.tell(trial, trial.suggest_categorical("x", [1, 2]))
    assert ends == [2]


@pytest.mark.parametrize("kind", [optuna.samplers.TPESampler, optuna.samplers.RandomSampler])
def test_a_reseeded_sampler_draws_as_a_new_one(kind):
    def drawn(sampler_of):
        study = optuna.create_study()
        for number in range(20):  # TPE has learnt something from the eleventh on
            study.sampler = sampler_of(number)
            trial = study.ask({"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)})
            study.tell(trial, trial.params["x"])
        return [trial.params for trial in study.trials]

    def reseeded(seed):
        assert optuna_private.reseed(kept, seed)
        return kept

    kept = kind(seed=99)
    assert drawn(reseeded) == drawn(lambda seed: kind(seed=seed))
    assert not optuna_private.reseed(optuna.samplers.NSGAIISampler(), 1)


def test_a_cached_reader_reads_ended_trials_once_and_the_others_again(storage, monkeypatch):
    study = new_study(storage, "a")
    reader = optuna_private.cached(storage)
    for state in (TrialState.COMPLETE, TrialState.RUNNING):
        value = 1.0 if state == TrialState.COMPLETE else None
        storage.create_new_trial(study, create_trial(state=state, value=value))
    first = reader.get_all_trials(study, deepcopy=False)
    storage.set_trial_state_values(optuna_private.trial_id(first[1]), TrialState.COMPLETE, [2.0])
    again = reader.get_all_trials(study, deepcopy=False)
    assert [t.value for t in again] == [1.0, 2.0]
    assert again[0] is first[0], "read once"
    assert again[1] is not first[1]


def test_a_trial_has_the_number_by_which_the_storage_knows_it(storage):
    for name in "ab":  # so that it is not the trial's number in its study
        study = new_study(storage, name)
        for _ in range(2):
            storage.create_new_trial(study)
    trial = storage.get_all_trials(study)[1]
    assert trial.number == 1
    assert optuna_private.trial_id(trial) != 1
    assert storage.get_trial(optuna_private.trial_id(trial)) == trial
    asked = optuna.load_study(study_name="b", storage=storage).ask()
    assert storage.get_trial(optuna_private.trial_id(asked)).number == asked.number == 2


def test_a_study_has_the_number_by_which_the_storage_knows_it(storage):
    new_study(storage, "a")
    number = new_study(storage, "b")
    assert [optuna_private.study_id(s) for s in storage.get_all_studies() if s.study_name == "b"] == [number]


def test_metric_names_are_those_that_a_study_reads(storage):
    study = storage.create_new_study([StudyDirection.MINIMIZE] * 2, "a")
    optuna_private.set_metric_names(storage, study, ["error", "time"])
    assert optuna.load_study(study_name="a", storage=storage).metric_names == ["error", "time"]


@pytest.mark.parametrize(
    "sampler",
    [
        lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=4, multivariate=True),
        lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=4),
    ],
    ids=["tpe", "gp"],
)
def test_a_trial_under_way_shows_what_was_drawn_until_that_is_forgotten(sampler):
    # x and y are drawn together; the trial under way then takes x alone, which is all that a history knows of it.
    space = {name: FloatDistribution(0, 1) for name in "xy"}

    def drawn(study):
        return [key for key, text in study.trials[-1].system_attrs.items() if "relative_params" in key and text]

    def next_one(under_way, *, forget):
        study = optuna.create_study(sampler=sampler(0))
        for x, y in ((0.1, 0.9), (0.5, 0.5), (0.8, 0.1), (0.3, 0.2), (0.6, 0.7), (0.2, 0.4)):
            study.add_trial(create_trial(params={"x": x, "y": y}, distributions=space, value=(x - 0.4) ** 2 + y**2))
        if under_way == "asked":
            running = study.ask()
            x = running.suggest_float("x", 0, 1)
            assert len(drawn(study)) == 1, "what was drawn is written into the trial"
            if forget:
                optuna_private.forget_drawn(running)
                assert drawn(study) == []
        else:
            study.enqueue_trial({"x": under_way})
            running = study.ask()
            x = running.suggest_float("x", 0, 1)
            optuna_private.forget_drawn(running)
        study.sampler = sampler(1)
        return x, study.ask(space).params

    x, proposal = next_one("asked", forget=True)
    assert next_one(x, forget=True) == (x, proposal), "as in a history"
    assert next_one("asked", forget=False) != (x, proposal), "what was drawn steers the next proposal"


def test_the_ledgers_statements_fit_the_tables(storage):
    a, b = new_study(storage, "a"), new_study(storage, "b")
    assert scalars(storage, f"SELECT study_id FROM {optuna_private.TABLE_OF_STUDIES} ORDER BY study_id") == [a, b]
    assert scalars(storage, optuna_private.STUDY_OF_NAME, name="b") == [b]
    assert scalars(storage, optuna_private.STUDY_OF_NAME, name="c") == []
    storage.set_study_user_attr(b, "dftune", {"version": 2})
    storage.set_study_user_attr(a, "other", 1)
    assert scalars(storage, optuna_private.STUDIES_WITH_ATTRIBUTE, key="dftune") == ["b"]
    with storage.engine.begin() as connection:
        connection.execute(text(optuna_private.RENAME_STUDY), {"name": "c", "temporary": "b"})
    assert storage.get_study_name_from_id(b) == "c"
    for study in (a, b, b):
        storage.create_new_trial(study)
    assert scalars(storage, optuna_private.LATEST_NUMBER, study=b) == [1]


@pytest.mark.parametrize("number, expected", [(4, 7), (7, 7), (12, 12), (100, 100)])
def test_a_system_attribute_is_raised_and_never_lowered(storage, number, expected):
    study = new_study(storage, "a")
    storage.set_study_system_attr(study, "lease", 7)
    storage.set_study_system_attr(study, "other", 1)
    with storage.engine.begin() as connection:
        values = {"study": study, "key": "lease", "number": number}
        connection.execute(text(optuna_private.RAISE_SYSTEM_ATTRIBUTE), values)
    assert [int(v) for v in scalars(storage, optuna_private.SYSTEM_ATTRIBUTE, study=study, key="lease")] == [expected]
    assert storage.get_study_system_attrs(study) == {"lease": expected, "other": 1}
