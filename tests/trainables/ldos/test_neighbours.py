"""Distances from the training in whitened descriptors."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dftune.trainables.errors import ModelError
from dftune.trainables.ldos.neighbours import FLOOR, Neighbours
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData


def on_a_line(rng, n, spread, width=0.02):
    """Two components that vary together: along the diagonal by ``spread``, across it by ``width``."""
    along, across = spread * rng.normal(size=n), width * rng.normal(size=n)
    return np.stack([along + across, along - across], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def data(al4) -> TrainingData:
    rng = np.random.default_rng(1)

    def snapshots(count):
        return [SnapshotData(al4["000"], [on_a_line(rng, 700, 1.0)], [np.ones((700, 2))]) for _ in range(count)]

    train = snapshots(2)
    return TrainingData(train, snapshots(3), al4.info.energy_grid, Scaling.fit(train))


@pytest.fixture(scope="module")
def near(data) -> Neighbours:
    return Neighbours.fit(data)


def distance(near, data, values):
    return np.sqrt(near.squares(data.scaling.descriptors(values)).mean()) / near.usual


def test_distances_are_those_of_a_search_over_all_pairs(data, near):
    x = data.scaling.descriptors(on_a_line(np.random.default_rng(2), 3000, 1.0))
    expected = cdist(x @ near.directions, near.points).min(axis=1)
    np.testing.assert_allclose(np.sqrt(near.squares(x)), expected, atol=2e-3)
    covariance = np.cov(data.scaling.descriptors(data.train[0].descriptors[0]), rowvar=False)
    variances = np.linalg.eigvalsh(covariance)
    stretched = np.linalg.svd(near.directions, compute_uv=False)
    np.testing.assert_allclose(np.sort(1 / stretched**2), variances + FLOOR, rtol=0.1)


def test_what_is_inside_each_range_and_far_from_all_points_is_seen(data, near):
    """Both components are within their range, which a check component by component passes; together they are not."""
    values = np.array([[0.6, -0.6]] * 50, dtype=np.float32)
    assert data.scaling.beyond(values).max() == 0
    assert distance(near, data, values) > 5 * near.largest


def test_snapshots_like_those_of_the_training_are_near(data, near):
    again = on_a_line(np.random.default_rng(3), 2000, 1.0)
    assert distance(near, data, again) < 2.0
    assert near.largest >= 1
    assert distance(near, data, on_a_line(np.random.default_rng(3), 2000, 3.0)) > 1.5 * near.largest


def test_neighbours_are_the_same_again_and_after_a_file(data, near):
    tensors = Neighbours.fit(data).tensors()
    for name, values in Neighbours.of(tensors, 2).tensors().items():
        np.testing.assert_array_equal(values, near.tensors()[name])
    assert Neighbours.of({}, 2) is None
    with pytest.raises(ModelError, match="the model has 3 components"):
        Neighbours.of(tensors, 3)
    with pytest.raises(ModelError, match="neighbours of the shapes"):
        Neighbours.of({"neighbours.points": near.points}, 2)
