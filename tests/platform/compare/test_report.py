"""The report of a comparison of another kind of surrogates, whose trials and outcomes are made up."""

import re
from dataclasses import replace
from types import MappingProxyType

import pytest

from dftune.platform.compare.figures import methods_figure
from dftune.platform.compare.outcome import Compared, Outcome, ScoredTrials, outcome_of
from dftune.platform.compare.report import baseline_rows, method_rows, write_report
from dftune.platform.ledger.score_quality import score_quality
from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.spec import StudySpec
from dftune.platform.study.conclusion import Conclusion
from dftune.tests.toy_kind import ToyKind
from dftune.trainables.kind import Measure
from dftune.trainables.kinds import KINDS


@pytest.fixture
def spec(monkeypatch, tmp_path) -> StudySpec:
    """A study of the toy kind, which has no costs."""
    monkeypatch.setitem(KINDS._ours, "toy", ToyKind())
    values = {"name": "toys", "kind": "toy", "dataset": str(tmp_path), "budget": {"points": 40.0}}
    return StudySpec.of(values)


def trial(number: int, rate: float) -> LedgerTrial:
    result = {"points": 10.0, "best_error": 1 - rate, "seconds": 2.0, "epoch": 3, "size": 1e4 * rate}
    return LedgerTrial(
        number, {"rate": rate}, "finished", value=1 - rate, scores={"rate": rate}, seconds=2.0, result=result,
        started_at=float(number), ended_at=number + 1.0,
    )  # fmt: skip


def compared_of(spec: StudySpec, folder) -> Compared:
    trials = [trial(n, rate) for n, rate in enumerate((0.2, 0.8, 0.5))]
    ended = Conclusion(1, {"rate": 0.8}, 0.2, {"error": 0.25}, {"scores": 0.0, "search": 3.0})
    scores, values = [t.scores["rate"] for t in trials], [t.value for t in trials]
    return Compared(
        name="toys",
        kind="toy",
        dataset=spec.dataset,
        minimize="error",
        budget=spec.budget,
        outcomes=[outcome_of("random", 0, spec, trials, ended)],
        baselines=[
            outcome_of("untuned", 0, spec, trials[:1], None, "it burnt"),
            Outcome("mean", 0, "", about="the mean of all y", tested={"error": (0.5, None)}),
        ],
        scores={"rate": ScoredTrials(score_quality("rate", scores, values), "rate", False, scores, values)},
        left_out={},
        folder=folder,
    )


def test_an_outcome_has_what_its_kind_reports(spec, tmp_path):
    outcome = compared_of(spec, tmp_path).outcomes[0]
    assert (outcome.work, outcome.trained, outcome.costs) == (30.0, 3, {})
    assert outcome.trace == [(10.0, 1.0, 0.8), (20.0, 2.0, pytest.approx(0.2)), (30.0, 3.0, pytest.approx(0.2))]
    assert outcome.network == str(spec.full({"rate": 0.8}))
    assert (outcome.error("error"), outcome.spread("error"), outcome.error("nothing")) == (0.25, 0.0, None)


def test_tables_have_the_labels_and_units_of_the_kind(spec, tmp_path):
    compared = compared_of(spec, tmp_path)
    (row,) = method_rows(compared)
    assert (row["compute"], row["best value cm"], row["error [cm]"]) == ("75 %", "0.2", "0.25 (0)")
    untuned, mean = baseline_rows(compared)
    assert (untuned["error [cm]"], mean["error [cm]"], mean["what it is"]) == ("-", "0.5", "the mean of all y")


def test_a_kind_without_costs_has_a_report_without_networks(spec, tmp_path):
    write_report(compared_of(spec, tmp_path))
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"methods", "compute", "wall", "score"}
    text = (tmp_path / "report.md").read_text()
    assert "minimised: error [cm]." in text
    assert "budget of each: 40 trained points x epochs, summed over trials" in text
    assert "- toys: it burnt" in text


def test_methods_stand_as_dots_from_best_to_worst_and_baselines_as_lines(spec, tmp_path):
    compared = compared_of(spec, tmp_path)
    errors = {"random": [0.4, 0.6], "rfr": [0.3], "optuna": [0.2, 0.45], "failed": [None]}
    outcomes = [
        Outcome(method, seed, method, tested={} if error is None else {"error": (error, 0.02)})
        for method, some in errors.items()
        for seed, error in enumerate(some)
    ]
    figure = methods_figure(replace(compared, outcomes=outcomes))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rfr", "optuna", "random"], "by their means"
    top, bottom = axes.get_ylim()[::-1]
    assert top < 0 < bottom, "the best on top"
    (line,) = [line for line in axes.lines if line.get_label() == "mean"]
    assert set(line.get_xdata()) == {0.5}


def test_a_kind_with_a_cost_shows_its_networks_by_it(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyKind, "costs", MappingProxyType({"size": Measure("size", "size of the line", "B")}))
    compared = compared_of(spec, tmp_path)
    assert compared.outcomes[0].costs == {"size": 8000.0}
    assert method_rows(compared)[0]["size of the line [B]"] == "8,000"
    write_report(compared)
    assert (tmp_path / "figures" / "networks.png").read_bytes().startswith(b"\x89PNG")
    assert re.search("against the cost of using them: size of the line", (tmp_path / "report.md").read_text())
