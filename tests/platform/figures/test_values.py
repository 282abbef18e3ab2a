"""Values of trials against each other, and the trials that none beats in all of them."""

from dataclasses import replace

import numpy as np
import pytest

from dftune.platform.figures.draw import draw
from dftune.platform.figures.page import compute_page
from dftune.platform.figures.png import compute_figure
from dftune.platform.figures.trials import NotDrawn, compute, pareto_front
from dftune.platform.figures.values import pareto, values
from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.spec import StudySpec

SPEC = StudySpec.of({"name": "FePt", "kind": "alloys", "dataset": "nowhere"})


def trial(number: int, energy: float, charge: float, moment: float) -> LedgerTrial:
    result = {
        "best_geometric_error": energy + charge,
        "best_energy_mae": energy, "best_charge_mae": charge, "best_moment_mae": moment,
        "configurations": 8, "seconds": 1.0, "epoch": 1, "n_parameters": 10, "inference_time": 1.0,
    }  # fmt: skip
    return LedgerTrial(number, {"width": 30 + number}, "finished", value=energy + charge, result=result, seconds=1.0)


TRIALS = [trial(0, 0.2, 0.1, 0.3), trial(1, 0.1, 0.2, 0.3), trial(2, 0.2, 0.2, 0.3), trial(3, 0.3, 0.3, 0.1)]


def test_the_front_of_several_values_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    for n_values in (2, 3):
        rows = [tuple(row) for row in rng.integers(0, 4, size=(30, n_values)).astype(float)]
        array = np.array(rows)
        by_hand = [not ((array <= row).all(axis=1) & (array < row).any(axis=1)).any() for row in array]
        front = pareto_front(rows)
        assert [n in front for n in range(30)] == by_hand
        assert 1 <= sum(by_hand) < 30


def test_energy_charge_and_moment_stand_in_three_panels():
    data = values(TRIALS, SPEC)
    assert [label.split()[1] for label in data.labels] == ["formation-energy", "charge", "moment"]
    assert data.pairs == [(0, 1), (0, 2), (1, 2)]
    assert data.points[3] == (TRIALS[3], (0.3, 0.3, 0.1))
    assert data.front == [True, True, False, True]


def test_a_value_equal_in_all_trials_has_no_panel():
    without = [trial(n, 0.1 * n, 0.2 / n, 0.0) for n in (1, 2)]
    assert len(values(without, SPEC).labels) == 2
    with pytest.raises(NotDrawn, match="fewer than two values besides the first differ between trials"):
        values([trial(n, 0.1 * n, 0.2, 0.0) for n in (1, 2)], SPEC)


def test_a_study_that_minimises_all_values_has_one_figure_of_them():
    spec = SPEC.model_copy(update={"minimize": ("energy_mae", "charge_mae", "moment_mae")})
    trials = [replace(t, value=row[0], others=row[1:]) for t, row in values(TRIALS, SPEC).points]
    assert pareto(trials, spec).front == [True, True, False, True]
    assert pareto(trials, spec).points[3][1] == (0.3, 0.1, 0.3), "charge, moment, energy"
    with pytest.raises(NotDrawn, match="they are what the study minimises"):
        values(trials, spec)


def test_they_are_drawn_as_png_and_on_the_page(tmp_path):
    drawn = draw(TRIALS, SPEC, tmp_path, names=["values"])
    assert [path.name for path in drawn.paths] == ["values.png", "plots.html"]
    page = (tmp_path / "plots.html").read_text()
    assert page.count('"name":"Pareto front"') == 1, "one of the panels names it in the legend"


def test_a_title_longer_than_its_axis_stands_in_lines():
    title = "validation error, geometric mean of 1 - R²<br>over energy, charges, moments"
    assert compute_page(compute(TRIALS, SPEC), SPEC).layout.yaxis.title.text == title
    axes = compute_figure(compute(TRIALS, SPEC), SPEC.value_measure.axis).axes[0]
    assert axes.get_ylabel() == title.replace("<br>", "\n")
    assert axes.get_xlabel() == "trained configurations and images x\nepochs, summed over trials"
