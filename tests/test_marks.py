"""A test without the mark ``ray`` cannot start Ray, so that `make check` stays quick."""

import pytest
import ray

from dftune.cluster.connection import ClusterError, connected


def test_ray_does_not_start_in_a_test_without_its_mark():
    with pytest.raises(AssertionError, match="takes the fixture local_ray, or is marked"):
        ray.init(address="local")
    with pytest.raises(ClusterError, match="cannot reach Ray at a test without the mark ray"), connected():
        pass


@pytest.mark.usefixtures("local_ray")
def test_a_test_that_takes_the_local_ray_is_marked(request):
    assert request.node.get_closest_marker("ray") is not None
    assert ray.is_initialized()
