"""Methods compared at equal budgets: a real comparison with its report, and what it computes from ledgers."""

import dataclasses
import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.compare.comparison import Comparison
from dftune.platform.compare.outcome import BASELINES, busy_seconds
from dftune.platform.compare.report import method_rows
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.methods import method_names
from dftune.platform.spec import SpecError, StudySpec
from dftune.platform.study import session
from dftune.platform.study.errors import StudyError
from dftune.platform.study.study import Study
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.baselines import fit_kernel_ridge, judge_kernel_ridge
from dftune.trainables.ldos.training_data import read_split, read_training_data

CHEAP = {"cutoff": 4.0, "two_j_max": 4}
EPOCH = 6 * 20**3  # training grid points
SETTINGS = {
    "descriptors": CHEAP,
    "space": {
        "width": {"type": "int", "low": 4, "high": 32, "log": True, "n_levels": 2},
        "activation": {"type": "choice", "values": ["relu", "tanh"]},
    },
    "config": {"n_layers": 1, "epochs": 2, "batch_size": 512, "learning_rate": 3e-3},
    "initializations": 2,
    "resources": {"concurrent": 1},
    "compare": {
        "methods": ["random", "rfr", "optuna+rfr"],
        "budget": {"grid_points": 6 * EPOCH},
        "options": {
            "rfr": {"candidates": 4, "top": 2, "calibration": 0},
            "optuna+rfr": {"threshold": 1e9, "most_pruned": 3},  # nothing passes
        },
    },
}


def spec_of(dataset, **changes) -> StudySpec:
    return StudySpec.of({"name": "small", "dataset": dataset.path, **SETTINGS, **changes})


@pytest.fixture(scope="module")
def compared(described, tmp_path_factory):
    """A comparison that has run to its report."""
    return Comparison(spec_of(described), tmp_path_factory.mktemp("comparisons")).run()


def test_every_method_ends_at_its_budget_or_by_itself(compared):
    random, rfr, pruned = compared.outcomes
    assert (random.trained, random.work) == (3, 6 * EPOCH), "a trial costs 2 epochs"
    assert (rfr.trained, rfr.work) == (2, 4 * EPOCH)
    assert (pruned.trained, pruned.pruned, pruned.work) == (0, 3, 0)


def test_a_winner_is_judged_as_its_study_judged_it(compared):
    for outcome in compared.outcomes[:2]:
        study = Study.open(outcome.study, compared.folder)
        accuracy = study.conclusion().accuracy
        assert outcome.tested == {
            "test_loss": (1 - accuracy["ldos_r2"], accuracy["ldos_r2_std"]),
            "band_energy_mae": (accuracy["band_energy_mae"], accuracy["band_energy_mae_std"]),
        }
        assert outcome.value == min(t.value for t in study.trials() if t.value is not None)
        assert outcome.trace[-1][2] == outcome.value
        assert outcome.trace[-1][0] == outcome.work
        assert [step[2] for step in outcome.trace] == sorted((step[2] for step in outcome.trace), reverse=True)
        assert 0 < outcome.speed_up <= 1.25


def test_a_method_that_fails_is_in_the_report_with_its_reason(compared):
    text = r"threshold 1e\+09 pruned all of 3 candidates, whose scores lie between"
    assert re.search(text, compared.outcomes[2].failure)
    report = (compared.folder / "report.md").read_text()
    assert f"optuna.rfr-0: {compared.outcomes[2].failure}" in report


def test_the_baselines_are_a_default_and_the_largest_network_and_kernel_ridge(compared, al4):
    untuned, largest, ridge = compared.baselines
    assert (untuned.config, largest.config) == (
        {"width": 128, "activation": "gelu"},
        {"width": 32, "activation": "relu"},
    )
    assert (untuned.network, largest.network) == ("1 x 128 gelu", "1 x 32 relu")
    assert largest.trained == 1
    settings = BispectrumSettings(**CHEAP)
    data, test = read_training_data(al4, settings), read_split(al4, settings, "test")
    judged = judge_kernel_ridge(fit_kernel_ridge(data, seed=0), data, test)
    assert ridge.error("test_loss") == pytest.approx(1 - judged.ldos_r2, rel=1e-9)
    assert ridge.error("band_energy_mae") == pytest.approx(judged.band_energy_mae, rel=1e-9)
    assert (ridge.method, ridge.spread("test_loss"), ridge.costs) == ("kernel ridge", None, {})
    assert 0.5 < judged.ldos_r2 < 1


def test_all_trained_trials_are_scored_by_every_score(compared):
    n_trained = sum(o.trained for o in compared.outcomes)
    assert set(compared.scores) == {"rfr", "naswot", "first_width", "n_parameters"}
    for scored in compared.scores.values():
        assert len(scored.scores) == len(scored.values) == n_trained
    widths = [t.config["width"] for o in compared.outcomes for t in Study.open(o.study, compared.folder).trials()]
    assert compared.scores["first_width"].scores == [float(w) for w in widths[:n_trained]]


def test_the_report_stands_as_text_page_and_figures(compared):
    text, page = ((compared.folder / name).read_text() for name in ("report.md", "report.html"))
    for name in ("random", "rfr", "untuned", "largest", "kernel ridge", "first_width"):
        assert re.search(rf"^\| {name} \|", text, re.MULTILINE), name
        assert f"<td>{name}</td>" in page
    for name in ("methods", "compute", "wall", "score", "networks"):
        assert (compared.folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(figures/{name}.png)" in text
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page, "the page needs no network"
    stored = json.loads((compared.folder / "comparison.json").read_text())
    assert [o["study"] for o in stored["outcomes"]] == [o.study for o in compared.outcomes]


def test_rows_are_ordered_by_test_error_and_average_over_seeds(compared):
    best, other = sorted(compared.outcomes[:2], key=lambda o: o.error("test_loss"))
    assert [row["method"] for row in method_rows(compared)] == [best.method, other.method, "optuna+rfr"]
    mean, spread = best.tested["test_loss"]
    twin = dataclasses.replace(best, seed=1, tested=best.tested | {"test_loss": (3 * mean, spread)})
    row = method_rows(dataclasses.replace(compared, outcomes=[best, twin]))[0]
    assert row["test LDOS error, 1 - R²"] == f"{2 * mean:.4g} ± {spread:.2g}"
    assert row["parameters of the network"] == f"{best.costs['n_parameters']:,.0f}"


def test_a_comparison_whose_studies_cannot_begin_says_so(al4, compared, tmp_path, monkeypatch):
    def refuse(spec, own):
        raise StudyError(f"{spec.method} may not")

    monkeypatch.setattr(session, "_checked", refuse)
    found = Comparison(spec_of(al4), tmp_path).run()
    assert [o.failure for o in found.outcomes] == ["random may not", "rfr may not", "optuna+rfr may not"]
    assert found.scores == {}
    assert "- rfr-0: rfr may not" in (found.folder / "report.md").read_text()


def test_a_folder_of_another_comparison_is_refused(compared, al4):
    with pytest.raises(StudyError, match="holds a comparison of other settings; choose another name"):
        Comparison(spec_of(al4, initializations=1), compared.folder.parent).run()


def test_methods_that_cannot_work_in_the_space_are_left_out_unless_named(al4, tmp_path):
    compare = {"budget": {"grid_points": 1e6}}
    found = Comparison(spec_of(al4, compare=compare), tmp_path)
    assert {m for m, _, _ in found.studies} == set(method_names(found.spec.of_kind)) - {"rfr>optuna", "naswot>optuna"}
    assert "Optuna has nothing to choose" in found.left_out["rfr>optuna"]
    with pytest.raises(SpecError, match="rfr>optuna: Optuna has nothing to choose"):
        Comparison(spec_of(al4, compare={**compare, "methods": ["rfr>optuna"]}), tmp_path)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ({"methods": ["randon"]}, "unknown method 'randon'; did you mean 'random'?"),
        ({"methods": ["random", "random"]}, "a method stands there twice"),
        ({"method": ["random"]}, "unknown key 'compare.method'; did you mean 'methods'?"),
        ({"budget": {}}, "needs grid_points or seconds"),
        ({"budget": {"grid_points": 0}}, "greater than 0"),
        ({"options": {"rf": {}}}, r"\[compare.options\]: unknown method 'rf'; did you mean 'rfr'?"),
        ({"methods": ["rfr"], "options": {"rfr": {"tops": 1}}}, "options. of method rfr: unknown key 'tops'; did you"),
        ({"methods": ["oat"], "trials": 3}, "method oat with these options needs at least 5 trials, and trials = 3"),
    ],
)
def test_a_wrong_comparison_is_refused_with_the_remedy(al4, tmp_path, compare, message):
    with pytest.raises(SpecError, match=message):
        Comparison(spec_of(al4, compare=compare), tmp_path)


def test_the_default_budget_is_twenty_trainings(al4, tmp_path):
    budget = Comparison(spec_of(al4, compare={"methods": ["random"]}), tmp_path).budget
    assert budget.grid_points == budget.work == 20 * 2 * EPOCH


def test_baselines_follow_the_space(al4, tmp_path):
    """Of layers with widths of their own the largest are taken, and the default ones have the default width."""
    space = {
        "n_layers": {"type": "int", "low": 1, "high": 3},
        "width_1": {"type": "int", "low": 8, "high": 64},
        "width_2": {"type": "choice", "values": [16, 48, 32], "when": {"n_layers": [2, 3]}},
        "activation": {"type": "choice", "values": ["tanh", "relu"]},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    }
    changes = {"space": space, "config": {"epochs": 2}, "compare": {"methods": ["random"]}}
    found = Comparison(spec_of(al4, **changes), tmp_path)
    untuned, largest = ({n: v.values[0] for n, v in found._baseline_spec(b).space.items()} for b in BASELINES)
    assert untuned == {"n_layers": 2, "activation": "gelu", "learning_rate": 1e-3}
    assert largest.pop("learning_rate") == pytest.approx(1e-3)
    assert largest == {"n_layers": 3, "width_1": 64, "width_2": 48, "activation": "tanh"}
    changes["space"] = {"width_1": space["width_1"]}
    changes["config"] |= {"n_layers": 1}
    (middle,) = Comparison(spec_of(al4, **changes), tmp_path)._baseline_spec("untuned").space["width_1"].values
    assert middle == 36, "without any default"


def test_busy_time_is_the_length_of_the_union_up_to_each_moment():
    rng = np.random.default_rng(0)
    for _ in range(20):
        starts = rng.integers(0, 80, size=6)
        intervals = [(int(s), int(s + rng.integers(1, 20))) for s in starts]
        seconds = {t for start, end in intervals for t in range(start, end)}
        moments = range(0, 100, 7)
        assert busy_seconds(intervals, moments) == [sum(t < moment for t in seconds) for moment in moments]


def test_the_command_prints_tables_and_trains_nothing_again_where_all_has_ended(compared, al4, tmp_path):
    def trials():
        for outcome in compared.outcomes:
            with closing(Ledger.open(compared.folder / outcome.study / "ledger.db")) as ledger:
                yield ledger.trials()

    before = list(trials())
    toml = tmp_path / "small.toml"
    toml.write_text(
        f'name = "small"\ndataset = "{al4.path}"\ninitializations = 2\n'
        "[resources]\nconcurrent = 1\n[descriptors]\ncutoff = 4.0\ntwo_j_max = 4\n"
        '[space]\nwidth = { type = "int", low = 4, high = 32, log = true, n_levels = 2 }\n'
        'activation = { type = "choice", values = ["relu", "tanh"] }\n'
        "[config]\nn_layers = 1\nepochs = 2\nbatch_size = 512\nlearning_rate = 3e-3\n"
        f'[compare]\nmethods = ["random", "rfr", "optuna+rfr"]\nbudget = {{ grid_points = {6 * EPOCH} }}\n'
        "[compare.options.rfr]\ncandidates = 4\ntop = 2\ncalibration = 0\n"
        '[compare.options."optuna+rfr"]\nthreshold = 1e9\nmost_pruned = 3\n'
    )
    result = CliRunner().invoke(cli, ["compare", str(toml), "--output", str(compared.folder.parent)])
    assert result.exit_code == 0, result.output
    assert "kernel ridge" in result.stdout
    assert str(Path(compared.folder) / "report.html") in result.stdout
    assert list(trials()) == before
    again = json.loads((compared.folder / "comparison.json").read_text())["outcomes"]
    assert [o["value"] for o in again] == [o.value for o in compared.outcomes]
