"""Tables over many splits."""

import numpy as np
import pytest

from dftune.trainables.alloys.accuracy import accuracy_of
from dftune.trainables.alloys.baselines import composition
from dftune.trainables.alloys.config import AlloyConfig
from dftune.trainables.alloys.over_splits import CURVE, FOUND, PAPER, OverSplits, planned
from dftune.trainables.alloys.repeated import Repeated, papers_rows, repeated, repeated_baseline, splits_of
from dftune.trainables.alloys.splits import SplitSettings
from dftune.trainables.alloys.training import predict, train
from dftune.trainables.errors import DatasetError


@pytest.fixture(scope="module")
def splits(fept):
    return splits_of(fept, 3, SplitSettings(rows=30))


def test_the_rows_are_those_of_the_paper(splits, cuau):
    rows = papers_rows(AlloyConfig.of({"epochs": 7, "alpha_charge": 3.0}), splits[0][0].varying)
    assert [(c.architecture, c.tasks) for c in rows] == [
        *(("single", task) for task in "ECM"),
        *(("multi", tasks) for tasks in ("EC", "EM", "CM", "ECM")),
    ]
    assert {(c.depth, c.width, c.epochs, *c.weights.values()) for c in rows[:3]} == {(2, 300, 7, 1.0)}
    assert rows[-1].weights == pytest.approx({"E": 1 / 3, "C": 1 / 3, "M": 1 / 3})
    (without_moments, _), *_ = splits_of(cuau, 1)
    of_cuau = papers_rows(AlloyConfig.of({}), without_moments.varying)
    assert [(c.tasks, c.width) for c in of_cuau] == [("E", 200), ("C", 200), ("EC", 200)]


def test_a_row_is_the_mean_over_the_splits_each_judged_on_its_own_test_data(splits):
    config = AlloyConfig.of({"tasks": "EM", "width": 8, "epochs": 2, "images": 1})
    found = repeated(config, splits, judge_epochs=1)
    alone = []
    for seed, (data, test) in enumerate(splits):
        one = train(config, [data], seeds=[seed])
        alone.append(accuracy_of(predict(one.network, one.scaling, test.sigma), test).values["moment_mae"][0])
    assert found.values["moment_mae"] == pytest.approx((np.mean(alone), np.std(alone)), rel=1e-3)
    assert found.each["moment_mae"] == pytest.approx(alone, rel=1e-3)
    assert len(alone) == 3
    assert "charge_mae" not in found.values
    assert found.microseconds is not None
    assert found.microseconds[0] > found.microseconds[1] > 0  # one at a time costs more


def test_baselines_are_judged_alike(splits):
    found = repeated_baseline("line", composition, splits)
    by_hand = [composition(data, test, 0).values["energy_mae"][0] for data, test in splits]
    assert found.values["energy_mae"] == pytest.approx((np.mean(by_hand), np.std(by_hand)))
    mean, std = np.mean(by_hand), np.std(by_hand)
    assert found.row()["formation energy [mRy/atom]"] == f"{mean:.4g} ± {std:.2g}"
    assert found.row()["total energy, 1 - R²"].endswith("e-14"), "1.0000 would say nothing"


def made_up(name, group, tasks, orbits=None, **each) -> Repeated:
    return Repeated(name, group, tasks, orbits, {f"{number}_mae": values for number, values in each.items()}, 0.1)


def test_what_was_found_stands_beside_equal_weights_split_by_split():
    alone = made_up("single E", PAPER, "E", energy=[0.2, 0.3])
    equal = made_up("multi EC", PAPER, "EC", energy=[0.4, 0.4], charge=[0.1, 0.2])
    found = made_up("optuna", FOUND, "EC", energy=[0.3, 0.6], charge=[0.05, 0.1])
    _, beside, several = OverSplits([alone, equal, found], 2).tables
    assert beside[2] == [
        {
            "model": "optuna",
            "formation energy [mRy/atom]": "+0.05 ± 0.15, better in 1 of 2",
            "charge [e]": "-0.075 ± 0.025, better in 2 of 2",
        }
    ]
    assert several[2][0]["formation energy [mRy/atom]"] == "+0.15 ± 0.05, better in 0 of 2"


def test_splits_on_which_a_training_failed_are_not_compared():
    equal = made_up("multi EC", PAPER, "EC", energy=[0.4, 0.4])
    some = made_up("optuna", FOUND, "EC", energy=[0.3])
    assert some.beside([equal], 2) == {"model": "optuna"}
    # each failed once, and perhaps on another split
    assert some.beside([made_up("multi EC", PAPER, "EC", energy=[0.4])], 2) == {"model": "optuna"}


def test_all_rows_and_curves_are_planned_with_the_epochs_of_the_study(cuau):
    found = AlloyConfig.of({"width": 5, "epochs": 9})
    plan = planned(cuau, SplitSettings(), {"epochs": 9, "width": 5}, {"rfr": found}, {"line": composition}, 4, (20, 30))
    rows = [task for task in plan.tasks if task.group != CURVE]
    assert [task.name for task in rows] == [
        "line", "clusters EC in 6 shells", "single E", "single C", "multi EC", "rfr: multi EC 2 x 5 gelu",
    ]  # fmt: skip
    assert [task.config.width for task in rows[2:]] == [200, 200, 200, 5]
    assert {task.config.epochs for task in rows[2:]} == {9}
    assert [task.settings.rows for task in plan.tasks if task.group == CURVE] == 4 * [20] + 4 * [30]
    assert len({task.key for task in plan.tasks}) == len(plan.tasks)


def test_a_curve_has_no_point_beyond_the_orbits_there_are(cuau):
    """Such a point would be drawn there, of a training on all."""
    ((data, _),) = splits_of(cuau, 1)
    assert planned(cuau, SplitSettings(rows=20), {}, {}, {}, 2, (len(data.train),)).tasks
    with pytest.raises(DatasetError, match=f"{len(data.train)} orbits to train on; a curve cannot have a point at"):
        planned(cuau, SplitSettings(), {}, {}, {}, 2, (20, len(data.train) + 1))


def test_a_task_on_fewer_orbits_is_judged_on_the_same_test_data(cuau):
    plan = planned(cuau, SplitSettings(), {}, {}, {"line": composition}, 2, (20,))
    line = next(task for task in plan.tasks if task.name == "line")
    ((data, test), *_) = splits_of(cuau, 2, SplitSettings(rows=20))
    assert len(data.train) == 20
    assert (splits_of(cuau, 2)[0][1].species == test.species).all()
    assert plan.work(line)["each"]["energy_mae"][0] == pytest.approx(
        composition(*splits_of(cuau, 1)[0], 0).values["energy_mae"][0]
    )


def test_learning_curves_are_drawn_of_each_quantity(tmp_path):
    curve = [made_up("one", CURVE, "EC", n, energy=[2.0 / n, 3.0 / n], charge=[0.1, 0.2]) for n in (10, 20)]
    ((name, _, _),) = OverSplits(curve, 2).draw(tmp_path)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert OverSplits([], 2).draw(tmp_path) == []
