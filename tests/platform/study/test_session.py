"""One run of a study, as far as it needs no Ray."""

from contextlib import closing

import pytest

from dftune import Study
from dftune.cluster.connection import ClusterError
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.study.errors import StudyError


def test_a_study_whose_ray_does_not_start_has_not_begun(toy, numbers, tmp_path):
    study = Study(
        "s",
        numbers,
        method="random",
        trials=1,
        space={"rate": {"type": "float", "low": 0, "high": 1}},
        studies=tmp_path,
    )
    for _ in range(2):  # so that the same command works when Ray does
        with pytest.raises(ClusterError, match="cannot reach Ray at a test without the mark ray"):
            study.run()
        assert not study.begun
        assert Study.names(tmp_path) == []


@pytest.mark.parametrize("minimize", ["error", "error + 2 bias", ["error", "bias"]])
def test_a_study_whose_trials_were_judged_by_another_value_is_not_resumed(minimize, toy, numbers, tmp_path):
    space = {"rate": {"type": "float", "low": 0, "high": 1}}
    study = Study("s", numbers, method="optuna", trials=12, space=space, minimize=minimize, studies=tmp_path)
    study.folder.mkdir()
    with closing(Ledger.create(study.place, study.spec, toy.open(str(numbers)).fingerprint)) as ledger:
        for number, report in enumerate(["best_error", "best_mean_error"]):  # the second is that of another version
            ledger.asked(number, {"rate": 0.5}, seed=number, scores={})
            result = {"epoch": 1, "seconds": 2.0, "points": 12, "weighted_value": 0.1, "best_bias": 0.1, report: 0.1}
            ledger.told(number, 0.1, result, None)
    with pytest.raises(StudyError, match=r"trial 1 was judged by another .error. than .*start a new"):
        study.resume()
    assert [t.state for t in study.trials()] == ["finished", "finished"]
