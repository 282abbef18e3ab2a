"""What a study minimises: one value, or a weighted sum of several."""

import math

import pytest

from dftune.platform.objective import WEIGHTED, measure_of, report_weights, weights_of
from dftune.platform.spec import SpecError, StudySpec
from dftune.trainables.kinds import KINDS
from dftune.trainables.weighted import with_weighted

LDOS = KINDS["ldos"]


@pytest.mark.parametrize(
    "text, weights",
    [
        ("forces_mae", {"forces_mae": 1.0}),
        ("free_energy_mae + 50 forces_mae", {"free_energy_mae": 1.0, "forces_mae": 50.0}),
        ("1e+3*forces_mae+.5 * band_energy_mae", {"forces_mae": 1000.0, "band_energy_mae": 0.5}),
    ],
)
def test_a_sum_is_read_with_its_weights(text, weights):
    assert weights_of(text, LDOS) == weights


@pytest.mark.parametrize(
    "text, message",
    [
        ("forces_mea", "minimize = 'forces_mea' is unknown; did you mean 'forces_mae'?"),
        ("forces_mae + 2 forces_mae", "'forces_mae' stands in it twice"),
        ("-1 forces_mae", "the weight of 'forces_mae' must be above 0"),
        ("0 forces_mae", "the weight of 'forces_mae' must be above 0"),
        ("1e999 forces_mae", "the weight of 'forces_mae' must be above 0"),
        ("1.2.3 forces_mae", "'1.2.3' is no number"),
        ("forces_mae +", "'' is not a value with a weight before it"),
        ("forces_mae - band_energy_mae", "is not a value with a weight before it"),
        ("", "is not a value with a weight before it"),
    ],
)
def test_what_is_no_sum_is_refused_with_its_part(text, message):
    with pytest.raises(ValueError, match="minimize") as error:
        weights_of(text, LDOS)
    assert message in str(error.value)
    with pytest.raises(SpecError):
        StudySpec.of({"name": "a", "dataset": "al4", "kind": "ldos", "minimize": text})


def test_a_value_by_itself_is_reported_as_it_was():
    assert measure_of("forces_mae", LDOS) is LDOS.values["forces_mae"]
    assert report_weights("forces_mae", LDOS) == {}
    report = {"epoch": 1, "best_loss": 0.5}
    assert with_weighted(report, WEIGHTED, {}) == report


def test_a_report_has_the_sum_and_no_number_where_a_part_is_missing():
    weights = report_weights("free_energy_mae + 50 forces_mae", LDOS)
    report = {"best_free_energy_mae": 2.0, "best_forces_mae": 0.01}
    assert with_weighted(report, WEIGHTED, weights) == {**report, WEIGHTED: 2.5}
    del report["best_forces_mae"]
    assert math.isnan(with_weighted(report, WEIGHTED, weights)[WEIGHTED])


def test_values_and_costs_stand_beside_each_other_in_a_list():
    given = {"name": "a", "dataset": "al4", "kind": "ldos", "method": "optuna"}
    spec = StudySpec.of(given | {"minimize": ["free_energy_mae + 50 forces_mae", "band_energy_mae", "n_parameters"]})
    assert (spec.value_measure.report, spec.metric) == (WEIGHTED, WEIGHTED)
    assert spec.other_measures == [LDOS.values["band_energy_mae"], LDOS.costs["n_parameters"]]
    assert StudySpec.of(given | {"minimize": "forces_mae"}) == StudySpec.of(given | {"minimize": ["forces_mae"]})
    with pytest.raises(SpecError, match="'forces_mae' is minimised already"):
        StudySpec.of(given | {"minimize": ["free_energy_mae + 50 forces_mae", "forces_mae"]})
    with pytest.raises(SpecError, match="'2 forces_mae' is unknown beside 'validation_loss'"):
        StudySpec.of(given | {"minimize": ["validation_loss", "2 forces_mae"]})


def test_a_study_that_began_with_a_cost_is_read_and_a_new_one_is_told_the_words_of_today():
    given = {"name": "a", "dataset": "al4", "kind": "ldos", "method": "optuna", "minimize": "validation_loss"}
    earlier = {**given, "cost": "n_parameters", "cost_tolerance": 0.2}
    spec = StudySpec.of(earlier, as_it_was=True)
    assert (spec.minimize, spec.tolerance) == (("validation_loss", "n_parameters"), 0.2)
    assert StudySpec.of({**given, "cost": None, "cost_tolerance": 0.05}, as_it_was=True) == StudySpec.of(given)
    with pytest.raises(SpecError, match="unknown key 'cost'; name it in a list, as minimize = "):
        StudySpec.of(earlier)
