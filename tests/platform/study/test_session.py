"""One run of a study, as far as it needs no Ray."""

import pytest

from dftune import Study
from dftune.cluster.connection import ClusterError


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
