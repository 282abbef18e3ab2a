"""Studies from specification to model, on real data, with a real local Ray."""

import json
import os
from contextlib import closing

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from dftune import Model, Study
from dftune.cluster.resources import slots
from dftune.platform.ledger.lease import Held, held
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.score_quality import score_quality
from dftune.platform.progress import Silent
from dftune.platform.study.errors import StudyError
from dftune.trainables.data.snapshot import SNAPSHOTS
from dftune.trainables.errors import DatasetError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import read_training_data

CHEAP = {"cutoff": 4.0, "two_j_max": 4}
QUICK = {
    "descriptors": CHEAP,
    "space": {
        "width": {"type": "int", "low": 4, "high": 32, "log": True},
        "activation": {"type": "choice", "values": ["relu", "tanh"]},
    },
    "config": {"n_layers": 1, "epochs": 3, "batch_size": 512, "learning_rate": 3e-3},
    "initializations": 2,
}


@pytest.fixture(scope="session")
def ended(described, local_ray, tmp_path_factory) -> Study:
    """A study that has run to its end."""
    study = Study(
        "quick", described, studies=tmp_path_factory.mktemp("studies"), method="rfr",
        options={"candidates": 12, "top": 2, "calibration": 3}, resources={"concurrent": 1}, **QUICK,
    )  # fmt: skip
    study.run(defaults=False)
    return study


def test_a_study_trains_the_best_scored_candidates_and_chooses_the_best_value(ended):
    trials, conclusion = ended.trials(), ended.conclusion()
    assert 3 <= len(trials) <= 5
    assert all(t.state == "finished" and t.value > 0 and t.seconds > 0 for t in trials)
    assert conclusion.value == min(t.value for t in trials)
    best = trials[conclusion.trial]
    assert {**QUICK["config"], **best.config}.items() <= conclusion.config.items()
    scores = json.loads((ended.folder / "scores.json").read_text())
    assert len(scores) == 12
    ranked = sorted(scores, key=lambda row: -row["score"])
    trained = {((t.config["width"],), t.config["activation"]) for t in trials}
    assert {(tuple(hidden), activation) for hidden, activation in (row["seen"] for row in ranked[:2])} <= trained


def test_a_trials_value_is_what_training_it_alone_gives(ended, described):
    trial = ended.trials()[1]
    data = read_training_data(described, ended.spec.descriptors)
    config = SurrogateConfig.of({**QUICK["config"], **trial.config})
    assert trial.seed == ended.spec.trial_seed(trial.number)
    assert train(config, data, seeds=[trial.seed]).best_loss[0] == pytest.approx(trial.value, rel=1e-3)


def test_a_study_of_data_larger_than_object_store_and_memory_streams_them_and_says_so(
    described, local_ray, tmp_path, monkeypatch
):
    class Lines(Silent):
        def __init__(self):
            self.said = []

        def say(self, text):
            self.said.append(text)

    monkeypatch.setattr("dftune.cluster.descriptors.grid_points.OBJECT_STORE", 0.0)
    memory = 5e-3  # GB; all training and validation points need 0.024
    study = Study(
        "large", described, studies=tmp_path, method="random", trials=2,
        resources={"memory": memory, "concurrent": 1}, **QUICK,
    )  # fmt: skip
    lines = Lines()
    conclusion = study.run(progress=lines, defaults=False)
    assert "the grid points do not fit into Ray's object store: workers read them from the dataset" in lines.said
    share = int(1e9 * memory) // (2 * 4 * (14 + 37)) / 48_000  # two buffers
    (said,) = [line for line in lines.said if "streamed" in line]
    assert f"are streamed, {share:.1%} of them shuffled at a time; memory in [resources] sets" in said
    trials = study.trials()
    assert [t.result["share_in_memory"] for t in trials] == pytest.approx([share] * 2)
    data = read_training_data(described, study.spec.descriptors)
    config = SurrogateConfig.of({**QUICK["config"], **trials[1].config})
    alone = train(config, data, seeds=[trials[1].seed], memory=1e9 * memory)
    assert alone.best_loss[0] == pytest.approx(trials[1].value, rel=1e-3)
    accuracy = study.model().check(described).accuracy
    assert accuracy.ldos_r2 == pytest.approx(conclusion.accuracy["ldos_r2"], abs=1e-6)


def test_the_ledger_is_an_optuna_study_that_optuna_tools_can_open(ended):
    loaded = optuna.load_study(study_name="quick", storage=f"sqlite:///{ended.folder / 'ledger.db'}")
    assert loaded.best_value == ended.conclusion().value
    assert loaded.best_trial.number == ended.conclusion().trial
    for trial in loaded.trials:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert set(trial.params) == set(QUICK["space"])
        assert {"seed", "result", "score:rfr", "score:first_width", "score:n_parameters"} <= set(trial.user_attrs)
        assert trial.intermediate_values


def test_the_quality_of_each_score_is_reported_beside_the_trivial_ones(ended):
    qualities = ended.score_qualities()
    assert [q.name for q in qualities] == ["rfr", "first_width", "n_parameters"]
    trials = ended.trials()
    expected = score_quality("rfr", [t.scores["rfr"] for t in trials], [t.value for t in trials])
    assert qualities[0] == expected


def test_figures_are_drawn(ended):
    for name in ("score.png", "dos.png"):
        assert (ended.folder / "figures" / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_exported_model_confirms_its_stated_accuracy(ended, described, tmp_path):
    exported = ended.export(tmp_path / "out.model")
    model = Model.open(tmp_path / "out.model")
    assert model.card == exported.card
    judgement = model.check(described).judgement
    assert model.differences(judgement.accuracy) == []
    stated = ended.conclusion().accuracy
    assert judgement.accuracy.ldos_r2 == pytest.approx(stated["ldos_r2"], abs=1e-6)
    assert model.card.n_initializations == 2
    assert {s.split for s in (e.snapshot for e in judgement.errors)} == {"test"}


def test_a_study_that_ended_is_not_run_again(ended):
    before = ended.trials()
    assert ended.resume() == ended.conclusion()
    assert ended.trials() == before
    with pytest.raises(StudyError, match="go on with `dftune study resume quick`"):
        ended.run()


@pytest.mark.parametrize("scheduler", [pytest.param("asha", marks=pytest.mark.slow), "hyperband"])
def test_a_scheduler_stops_what_falls_behind_and_never_chooses_it(scheduler, described, local_ray, tmp_path):
    # Half of the learning rates are a thousand times too small, which shows after one epoch.
    study = Study(
        "early", described, studies=tmp_path, method="random", trials=8, seed=1,
        scheduler={"type": scheduler, "reduction_factor": 2}, descriptors=CHEAP, initializations=1,
        space={"learning_rate": {"type": "choice", "values": [3e-3, 3e-6]}},
        config={"n_layers": 1, "width": 8, "epochs": 4, "batch_size": 512}, resources={"concurrent": 1},
    )  # fmt: skip
    (study.folder / ".tune-left").mkdir(parents=True)  # of a session that was killed
    conclusion = study.run(defaults=False)
    trials = study.trials()
    stopped = [t for t in trials if t.state == "stopped"]
    assert stopped
    assert {t.state for t in trials} == {"finished", "stopped"}
    assert trials[conclusion.trial].state == "finished"
    assert all(t.result["epoch"] == 4 for t in trials if t.state == "finished")
    for trial in stopped:
        assert trial.value is None
        assert trial.result["epoch"] < 4
        assert trial.result["grid_points"] == trial.result["epoch"] * 6 * 8000
    assert all(q.n_trials == len(trials) - len(stopped) for q in study.score_qualities())
    loaded = optuna.load_study(study_name="early", storage=f"sqlite:///{study.folder / 'ledger.db'}")
    for trial in stopped:
        frozen = loaded.trials[trial.number]
        assert frozen.state == optuna.trial.TrialState.PRUNED
        assert frozen.value == frozen.intermediate_values[trial.result["epoch"]] == trial.result["best_loss"]
    assert not list(study.folder.glob(".tune-*")), "checkpoints are gone"
    with closing(Ledger.open(study.folder / "ledger.db")) as ledger:
        told = {int(past.trial): past.value for past in ledger.history()}
    assert all(told[t.number] == t.result["best_loss"] for t in trials)


@pytest.mark.filterwarnings("ignore:overflow")
def test_failed_trials_are_recorded_with_their_cause_and_do_not_stop_the_study(local_ray, toy, numbers, tmp_path):
    study = Study(
        "some", numbers, studies=tmp_path, method="random", trials=6, seed=1, initializations=1,
        space={"rate": {"type": "choice", "values": [0.5, 1e200]}}, resources={"concurrent": 1},
    )  # fmt: skip
    study.run()
    assert {t.config["rate"]: t.state for t in study.trials()} == {0.5: "finished", 1e200: "failed"}
    failures = {t.failure for t in study.trials() if t.state == "failed"}
    assert failures == {"the slopes are not finite; lower the rate"}
    assert study.trials()[study.conclusion().trial].state == "finished"


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_study_whose_trials_all_fail_stops_early_with_the_cause(local_ray, toy, numbers, tmp_path):
    study = Study(
        "none", numbers, studies=tmp_path, method="random", trials=30, initializations=1,
        space={"rate": {"type": "float", "low": 1e200, "high": 2e200}}, resources={"concurrent": 1},
    )  # fmt: skip
    with pytest.raises(StudyError, match=r"all \d+ trials failed; trial 0: the slopes are not finite") as error:
        study.run()
    assert len(study.trials()) < 10
    assert "\n" not in str(error.value)


def test_a_split_that_is_missing_is_said_before_anything_starts(fresh_al4, tmp_path):
    path = fresh_al4.path / "snapshots.parquet"
    rows = [row | {"split": "train"} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=SNAPSHOTS), path)
    with pytest.raises(DatasetError, match=r"has no validation snapshot; `dftune data split .*al4 NEW` makes"):
        Study("none", fresh_al4.path, studies=tmp_path / "studies", **QUICK).run()
    assert not (tmp_path / "studies").exists()


def test_a_dataset_that_changed_since_is_not_resumed_on(fresh_al4, tmp_path):
    study = Study("changed", fresh_al4, studies=tmp_path, method="random", trials=1, **QUICK)
    study.folder.mkdir()
    Ledger.create(study.folder / "ledger.db", study.spec, "0" * 64).close()
    with pytest.raises(StudyError, match="has changed since this study began"):
        study.resume()


def test_studies_of_other_descriptors_in_one_process_do_not_share_their_data(ended, described, tmp_path):
    other = QUICK | {"descriptors": {"cutoff": 3.0, "two_j_max": 6}, "initializations": 1}
    options = {"candidates": 3, "top": 1, "calibration": 0}
    study = Study(
        "other", described, studies=tmp_path, method="rfr", options=options, minimize="band_energy_mae",
        resources={"concurrent": 1}, **other,
    )  # fmt: skip
    conclusion = study.run(defaults=False)
    (trial,) = study.trials()
    assert conclusion.value == trial.value == trial.result["best_band_energy_mae"], "which is the value here"
    data = read_training_data(described, study.spec.descriptors)
    config = SurrogateConfig.of({**QUICK["config"], **trial.config})
    assert train(config, data, seeds=[trial.seed]).best_loss[0] == pytest.approx(trial.result["best_loss"], rel=1e-3)
    batch = data.sample(SCORES["rfr"].n_points, np.random.default_rng([study.spec.seed, 1]))
    assert trial.scores["rfr"] == pytest.approx(SCORES["rfr"].function([config], batch, study.spec.seed)[0], rel=1e-6)


def test_a_healthy_trial_is_waited_for_and_a_study_says_where_trials_ran(local_ray, toy, numbers, tmp_path):
    # Three fail in their second epochs while the fourth, in the other slot, still learns: for six seconds.
    study = Study(
        "slow", numbers, studies=tmp_path, method="grid", initializations=1, seed=3,
        config={"pause": 0.4, "epochs": 16}, space={"rate": {"type": "choice", "values": [1e200, 2e200, 3e200, 0.5]}},
    )  # fmt: skip
    study.run()
    assert study.trials()[study.conclusion().trial].config == {"rate": 0.5}
    assert [t.state for t in study.trials()].count("failed") == 3
    with study.reading() as ledger:
        placement = ledger.placement()
    if not ray.cluster_resources().get("GPU"):
        assert placement["explanation"] == "trials run on CPUs: no node has a GPU"
        assert placement["gpus"] == 0
    assert placement["concurrent"] == slots(study.spec.resources.cpus, placement["gpus"])


def test_a_study_that_another_process_holds_is_neither_run_nor_resumed(ended):
    with (
        held(ended.folder),
        pytest.raises(Held, match=rf"held by process {os.getpid()} on .+ since .+; stop it, or wait"),
    ):
        ended.resume()


def test_kendalls_tau_and_its_error_against_their_definitions():
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=12), rng.random(12)
    pairs = [(i, j) for i in range(12) for j in range(i)]
    concordant = sum((scores[i] - scores[j]) * (values[j] - values[i]) > 0 for i, j in pairs)
    quality = score_quality("s", list(scores), list(values))
    assert quality.tau == pytest.approx((2 * concordant - len(pairs)) / len(pairs))
    # The variance of τ over random rankings is 2 (2n + 5) / (9 n (n - 1)).
    drawn = [score_quality("s", list(rng.random(12)), list(values)).tau for _ in range(4000)]
    assert np.std(drawn) == pytest.approx(quality.tau_error, rel=0.05)
    assert quality.regret == pytest.approx(values[np.argmax(scores)] / values.min() - 1)
