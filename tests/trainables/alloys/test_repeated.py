"""Tables over many splits."""

import numpy as np
import pytest

from dftune.trainables.alloys.accuracy import accuracy_of
from dftune.trainables.alloys.baselines import composition
from dftune.trainables.alloys.config import AlloyConfig
from dftune.trainables.alloys.figures import learning_curve
from dftune.trainables.alloys.repeated import papers_rows, repeated, repeated_baseline, splits_of
from dftune.trainables.alloys.splits import SplitSettings
from dftune.trainables.alloys.training import predict, train


@pytest.fixture(scope="module")
def splits(fept):
    return splits_of(fept, 3, SplitSettings(rows=30))


def test_the_rows_are_those_of_the_paper(splits, cuau):
    rows = papers_rows(AlloyConfig.of({"width": 300}), splits[0][0])
    assert [(c.architecture, c.tasks) for c in rows] == [
        *(("single", task) for task in "ECM"),
        *(("multi", tasks) for tasks in ("EC", "EM", "CM", "ECM")),
    ]
    (without_moments, _), *_ = splits_of(cuau, 1)
    assert [c.tasks for c in papers_rows(AlloyConfig.of({}), without_moments)] == ["E", "C", "EC"]


def test_a_row_is_the_mean_over_the_splits_each_judged_on_its_own_test_data(splits):
    config = AlloyConfig.of({"tasks": "EM", "width": 8, "epochs": 2, "images": 1})
    found = repeated(config, splits, judge_epochs=1)
    alone = []
    for seed, (data, test) in enumerate(splits):
        one = train(config, [data], seeds=[seed])
        alone.append(accuracy_of(predict(one.network, one.scaling, test.sigma), test).values["moment_mae"][0])
    assert found.values["moment_mae"] == pytest.approx((np.mean(alone), np.std(alone)), rel=1e-3)
    assert (found.n_splits, found.row()["splits"]) == (3, 3)
    assert "charge_mae" not in found.values
    assert found.microseconds is not None
    assert found.microseconds[0] > found.microseconds[1] > 0  # one at a time costs more


def test_baselines_are_judged_alike(splits):
    found = repeated_baseline("line", composition, splits)
    by_hand = [composition(data, test, 0).values["energy_mae"][0] for data, test in splits]
    assert found.values["energy_mae"] == pytest.approx((np.mean(by_hand), np.std(by_hand)))
    assert found.row()["energy_mae"].startswith(f"{np.mean(by_hand):.4g} ±")


def test_a_learning_curve_is_drawn(tmp_path):
    learning_curve({"one": [(10, 2.0, 0.1), (20, 1.0, 0.1)]}, "error", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
