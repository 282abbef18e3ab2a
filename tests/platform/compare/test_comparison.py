"""Methods compared at equal budgets: a real comparison with its report, and what it computes from ledgers."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.compare.comparison import Comparison
from dftune.platform.compare.outcome import BASELINES, busy_seconds
from dftune.platform.compare.report import method_rows
from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.methods import method_names
from dftune.platform.spec import SpecError, StudySpec
from dftune.platform.study import session
from dftune.platform.study.errors import StudyError
from dftune.platform.study.study import Study
from dftune.tests.toy_kind import Numbers
from dftune.trainables.errors import DatasetError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.baselines import fit_kernel_ridge, judge_kernel_ridge
from dftune.trainables.ldos.training_data import read_split, read_training_data

LDOS_SPACE = {
    "width": {"type": "int", "low": 4, "high": 32, "log": True, "n_levels": 2},
    "activation": {"type": "choice", "values": ["relu", "tanh"]},
}
EPOCH = 6 * 20**3  # training grid points of the example
POINTS = 4 * 3  # training points x epochs of a trial of the toy kind
OPTIONS = {
    "rate": {"candidates": 4, "top": 2, "calibration": 0},
    "optuna+rate": {"threshold": 1e9, "most_pruned": 3},  # nothing passes
}


def toy_spec(numbers, **changes) -> StudySpec:
    values = {
        "name": "small", "dataset": numbers, "initializations": 2, "resources": {"concurrent": 1},
        "config": {"pause": 0.01},
        "compare": {
            "methods": ["random", "rate", "optuna+rate"], "budget": {"points": 2.5 * POINTS}, "options": OPTIONS,
        },
    }  # fmt: skip
    return StudySpec.of(values | changes)


def ldos_spec(dataset, **changes) -> StudySpec:
    """Of a comparison that trains nothing."""
    values = {
        "name": "small", "dataset": dataset.path, "descriptors": {"cutoff": 4.0, "two_j_max": 4}, "space": LDOS_SPACE,
        "config": {"n_layers": 1, "epochs": 2}, "compare": {"methods": ["random"]},
    }  # fmt: skip
    return StudySpec.of(values | changes)


def test_data_without_a_test_split_compare_nothing(toy, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(Numbers, "judged_on", "validation")
    with pytest.raises(DatasetError, match=r"has no test data, and methods are compared by these; `dftune data split`"):
        Comparison(toy_spec(numbers), tmp_path)


@pytest.fixture(scope="module")
def compared(local_ray, toy, numbers, tmp_path_factory):
    """A comparison that has run to its report."""
    return Comparison(toy_spec(numbers), tmp_path_factory.mktemp("comparisons")).run()


def test_every_method_ends_at_its_budget_or_by_itself(compared):
    random, scored, pruned = compared.outcomes
    assert (random.method, scored.method, pruned.method) == ("random", "rate", "optuna+rate")
    assert (random.trained, random.work) == (3, 3 * POINTS), "the third began within the budget"
    assert (scored.trained, scored.work) == (2, 2 * POINTS)
    assert (pruned.trained, pruned.pruned, pruned.work) == (0, 3, 0)


def test_a_winner_is_judged_as_its_study_judged_it(compared):
    for outcome in compared.outcomes[:2]:
        study = Study.open(outcome.study, compared.folder)
        accuracy = study.spec.of_kind.accuracy(study.conclusion().accuracy)
        assert outcome.tested == accuracy.numbers()
        assert outcome.error("error") > 0
        assert outcome.value == min(t.value for t in study.trials() if t.value is not None)
        assert outcome.trace[-1][2] == outcome.value
        assert outcome.trace[-1][0] == outcome.work
        assert [step[2] for step in outcome.trace] == sorted((step[2] for step in outcome.trace), reverse=True)
        assert 0 < outcome.speed_up <= 1.25


def test_a_method_that_fails_is_in_the_report_with_its_reason(compared):
    text = r"threshold 1e\+09 pruned all of 3 candidates, whose scores lie between"
    assert re.search(text, compared.outcomes[2].failure)
    report = (compared.folder / "report.md").read_text()
    assert f"optuna.rate-0: {compared.outcomes[2].failure}" in report


def test_the_baselines_are_a_default_and_the_largest_network_and_those_of_the_kind(compared, toy, numbers):
    none, untuned, largest, exact = compared.baselines
    assert (none.config, none.trained) == ({"rate": 1.0, "epochs": 1}, 1)
    assert none.error("error") == pytest.approx(exact.error("error"), rel=1e-9), "it is the least squares, too"
    assert (untuned.config, largest.config) == ({"rate": 0.5}, {"rate": 0.5}), "all are of one size"
    assert largest.trained == untuned.trained == 1
    x, y = np.array(toy.open(str(numbers)).split("train")).T
    test_x, test_y = np.array(toy.open(str(numbers)).split("test")).T
    (slope,) = np.linalg.lstsq(x[:, None], y, rcond=None)[0]
    assert exact.error("error") == pytest.approx(np.mean((slope * test_x - test_y) ** 2), rel=1e-9)
    assert (exact.method, exact.spread("error"), exact.costs) == ("exact", None, {})


def test_the_baseline_of_the_ldos_is_kernel_ridge(described, tmp_path):
    found = Comparison(ldos_spec(described), tmp_path)
    settings = found.spec.settings
    data, test = read_training_data(described, settings), read_split(described, settings, "test")
    (ridge,) = found._kind_baselines(data, test)
    judged = judge_kernel_ridge(fit_kernel_ridge(data, seed=0), data, test)
    assert ridge.error("test_loss") == pytest.approx(1 - judged.ldos_r2, rel=1e-9)
    assert ridge.error("band_energy_mae") == pytest.approx(judged.band_energy_mae, rel=1e-9)
    assert (ridge.method, ridge.spread("test_loss"), ridge.costs) == ("kernel ridge", None, {})
    assert 0.5 < judged.ldos_r2 < 1


def test_all_trained_trials_are_scored(compared):
    trials = [t for o in compared.outcomes for t in Study.open(o.study, compared.folder).trials() if t.value]
    assert len(trials) == sum(o.trained for o in compared.outcomes) == 5
    assert set(compared.scores) == {"rate"}
    assert compared.scores["rate"].scores == [t.config["rate"] for t in trials]
    assert compared.scores["rate"].values == [t.value for t in trials]


def test_the_trials_of_a_comparison_are_scored_by_every_score_of_the_ldos(local_ray, described, tmp_path):
    found = Comparison(ldos_spec(described), tmp_path)
    configs = [{"width": width, "activation": "tanh"} for width in (8, 32)]
    trials = [LedgerTrial(n, config, "finished", value=0.1 + n) for n, config in enumerate(configs)]
    scores = found._scores(trials, read_training_data(described, found.spec.settings))
    assert set(scores) == {"rfr", "rfr30", "naswot", "first_width", "n_parameters"}
    for scored in scores.values():
        assert len(scored.scores) == len(scored.values) == 2
    assert scores["first_width"].scores == [8.0, 32.0]


def test_the_report_stands_as_text_page_and_figures(compared):
    text, page = ((compared.folder / name).read_text() for name in ("report.md", "report.html"))
    for name in ("random", "rate", "untuned", "largest", "exact"):
        assert re.search(rf"^\| {name} \|", text, re.MULTILINE), name
        assert f"<td>{name}</td>" in page
    assert "error [cm]" in text
    for name in ("methods", "compute", "wall", "score", "networks"):
        assert (compared.folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(figures/{name}.png)" in text
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page, "the page needs no network"
    stored = json.loads((compared.folder / "comparison.json").read_text())
    assert [o["study"] for o in stored["outcomes"]] == [o.study for o in compared.outcomes]


def test_rows_are_ordered_by_test_error_and_average_over_seeds(compared):
    best, other = sorted(compared.outcomes[:2], key=lambda o: o.error("error"))
    assert [row["method"] for row in method_rows(compared)] == [best.method, other.method, "optuna+rate"]
    mean, spread = best.tested["error"]
    twin = dataclasses.replace(best, seed=1, tested=best.tested | {"error": (3 * mean, spread)})
    row = method_rows(dataclasses.replace(compared, outcomes=[best, twin]))[0]
    assert row["error [cm]"] == f"{2 * mean:.4g} ({spread:.2g})"
    assert row["price"] == f"{best.costs['price']:,.3g}"


def test_a_comparison_whose_studies_cannot_begin_says_so(compared, numbers, tmp_path, monkeypatch):
    def refuse(spec, own):
        raise StudyError(f"{spec.method} may not")

    monkeypatch.setattr(session, "_checked", refuse)
    found = Comparison(toy_spec(numbers), tmp_path).run()
    assert [o.failure for o in found.outcomes] == ["random may not", "rate may not", "optuna+rate may not"]
    assert found.scores == {}
    assert "- rate-0: rate may not" in (found.folder / "report.md").read_text()


def test_a_folder_of_another_comparison_is_refused(compared, numbers):
    with pytest.raises(StudyError, match="holds a comparison of other settings; choose another name"):
        Comparison(toy_spec(numbers, initializations=1), compared.folder.parent).run()


def test_a_comparison_that_began_with_other_defaults_says_which(toy, compared, numbers, monkeypatch):
    class Later(toy.config):
        epochs: int = 9

    monkeypatch.setattr(KINDS["toy"], "config", Later, raising=False)
    began = r"other settings, which began with epochs = 3; say so in \[config\], choose another name or remove"
    with pytest.raises(StudyError, match=began):
        Comparison(toy_spec(numbers), compared.folder.parent).run()


def test_methods_that_cannot_work_in_the_space_are_left_out_unless_named(al4, tmp_path):
    compare = {"budget": {"grid_points": 1e6}}
    found = Comparison(ldos_spec(al4, compare=compare), tmp_path)
    assert {m for m, _, _ in found.studies} == set(method_names(found.spec.of_kind)) - {
        f"{score}>optuna" for score in ("rfr", "rfr30", "naswot")
    }
    assert "Optuna has nothing to choose" in found.left_out["rfr>optuna"]
    with pytest.raises(SpecError, match="rfr>optuna: Optuna has nothing to choose"):
        Comparison(ldos_spec(al4, compare={**compare, "methods": ["rfr>optuna"]}), tmp_path)


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
        Comparison(ldos_spec(al4, compare=compare), tmp_path)


def test_the_default_budget_is_twenty_trainings(al4, tmp_path):
    budget = Comparison(ldos_spec(al4, compare={"methods": ["random"]}), tmp_path).budget
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
    found = Comparison(ldos_spec(al4, **changes), tmp_path)
    none, untuned, largest = ({n: v.values[0] for n, v in found._baseline_spec(b).space.items()} for b in BASELINES)
    assert none == found.spec.of_kind.untrained, "whatever the space"
    assert untuned == {"n_layers": 2, "activation": "gelu", "learning_rate": 3e-3}
    assert largest.pop("learning_rate") == pytest.approx(1e-3)
    assert largest == {"n_layers": 3, "width_1": 64, "width_2": 48, "activation": "tanh"}
    changes["space"] = {"width_1": space["width_1"]}
    changes["config"] |= {"n_layers": 1}
    (middle,) = Comparison(ldos_spec(al4, **changes), tmp_path)._baseline_spec("untuned").space["width_1"].values
    assert middle == 36, "without any default"


def test_busy_time_is_the_length_of_the_union_up_to_each_moment():
    rng = np.random.default_rng(0)
    for _ in range(20):
        starts = rng.integers(0, 80, size=6)
        intervals = [(int(s), int(s + rng.integers(1, 20))) for s in starts]
        seconds = {t for start, end in intervals for t in range(start, end)}
        moments = range(0, 100, 7)
        assert busy_seconds(intervals, moments) == [sum(t < moment for t in seconds) for moment in moments]


def test_the_command_prints_tables_and_trains_nothing_again_where_all_has_ended(compared, numbers, tmp_path):
    def trials():
        return [Study.open(outcome.study, compared.folder).trials() for outcome in compared.outcomes]

    before = trials()
    toml = tmp_path / "small.toml"
    toml.write_text(
        f'name = "small"\ndataset = "{numbers}"\ninitializations = 2\n'
        "[resources]\nconcurrent = 1\n[config]\npause = 0.01\n"
        f'[compare]\nmethods = ["random", "rate", "optuna+rate"]\nbudget = {{ points = {2.5 * POINTS} }}\n'
        "[compare.options.rate]\ncandidates = 4\ntop = 2\ncalibration = 0\n"
        '[compare.options."optuna+rate"]\nthreshold = 1e9\nmost_pruned = 3\n'
    )
    result = CliRunner().invoke(cli, ["compare", str(toml), "--output", str(compared.folder.parent)])
    assert result.exit_code == 0, result.output
    assert "exact" in result.stdout
    assert str(Path(compared.folder) / "report.html") in result.stdout
    assert trials() == before
    again = json.loads((compared.folder / "comparison.json").read_text())["outcomes"]
    assert [o["value"] for o in again] == [o.value for o in compared.outcomes]
