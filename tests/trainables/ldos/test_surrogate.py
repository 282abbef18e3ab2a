import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dftune.trainables.ldos import inference
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.inference import (
    CHUNK,
    LastLayer,
    inference_time,
    integrated,
    last_hidden,
    predict_ldos,
    pull_back,
)
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.training_data import Scaling, SnapshotData
from dftune.trainables.physics.energies import energies

N_COMPONENTS = 5


def descriptors(n_points, seed):
    return np.random.default_rng(seed).normal(3.0, 2.0, size=(n_points, N_COMPONENTS)).astype(np.float32)


@pytest.fixture(scope="module")
def snapshots(al4):
    """Two aluminium snapshots with their LDOS, and descriptors that know nothing of it."""
    return [
        SnapshotData(al4[name], np.array_split(descriptors(8000, i), [3000]), np.array_split(ldos, [3000]))
        for i, name in enumerate(("006", "007"))
        for ldos in [al4.ldos(al4[name]).array()]
    ]


@pytest.fixture(scope="module")
def surrogate(snapshots):
    """Three untrained networks with the readout so small that they predict about the mean LDOS."""
    network = Network(SurrogateConfig(widths=(8,)), N_COMPONENTS, 37, seeds=[1, 2, 3])
    with torch.no_grad():
        network.weights[-1] *= 0.05
        network.biases[-1] *= 0.05
    return network, Scaling.fit(snapshots)


def by_hand(network, scaling, x):
    """LDOS of each initialisation in double precision."""
    standardised = (x.astype(float) - scaling.descriptor_mean) / scaling.descriptor_std
    with torch.no_grad():
        scaled = network(torch.from_numpy(standardised.astype(np.float32))).double().numpy()
    return scaled * scaling.ldos_scale + scaling.ldos_mean


def test_predictions_are_the_networks_with_the_scaling_undone(surrogate):
    x = descriptors(100, 9)
    (found,) = predict_ldos(*surrogate, [x])
    assert found.shape == (3, 100, 37)
    np.testing.assert_allclose(found, by_hand(*surrogate, x), rtol=1e-4, atol=1e-7)


def test_predictions_come_in_grid_order_and_in_chunks(surrogate):
    x = descriptors(2 * CHUNK + 10, 9)
    chunks = list(predict_ldos(*surrogate, [x[: CHUNK + 3], x[CHUNK + 3 :]]))
    assert [c.shape[1] for c in chunks] == [CHUNK, 3, CHUNK, 7]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), by_hand(*surrogate, x), rtol=1e-4, atol=1e-7)


def test_layers_of_wide_networks_are_of_fewer_points(surrogate, monkeypatch):
    monkeypatch.setattr(inference, "LAYER", 4 * 3 * 8 * 100)  # three networks of eight neurons at 100 points
    sizes = [hidden.shape[1] for hidden in last_hidden(*surrogate, descriptors(250, 9))]
    assert sizes == [100, 100, 50]


def test_sums_of_the_ldos_are_those_of_the_last_hidden_layer(surrogate):
    x, weights = descriptors(50, 9), np.random.default_rng(5).normal(size=(3, 37))
    last, ldos = LastLayer.of(*surrogate), by_hand(*surrogate, x)
    (hidden,) = last_hidden(*surrogate, x)
    np.testing.assert_allclose(last.total(hidden), ldos.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(last.mean(hidden), ldos.mean(axis=0), rtol=1e-4, atol=1e-7)
    integrals = last.integrals([lambda values, w=w: values @ w for w in weights])
    expected = np.einsum("tpj,tj->tp", ldos, weights)
    found = integrated(hidden, [integrals, tuple(2 * part for part in integrals)])
    np.testing.assert_allclose(found, [expected, 2 * expected], rtol=1e-4, atol=1e-6)


def test_a_derivative_with_respect_to_descriptors_is_that_of_finite_differences(surrogate, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", 7)
    x, rng = descriptors(20, 9), np.random.default_rng(5)
    constant, slope, potential = rng.normal(size=(3, 37)), rng.normal(size=(3, 37)), rng.normal(size=(3, 20))
    found = pull_back(*surrogate, x, LastLayer.of(*surrogate).by_hidden(constant, slope, 0.0), potential)
    assert found.shape == (3, *x.shape)
    direction = rng.normal(size=x.shape) * surrogate[1].descriptor_std
    step = 1e-2
    change = by_hand(*surrogate, x + step * direction) - by_hand(*surrogate, x - step * direction)
    by_ldos = constant[:, None] + slope[:, None] * potential[:, :, None]
    expected = (by_ldos * change).sum(axis=(1, 2)) / (2 * step)
    np.testing.assert_allclose((found * direction).sum(axis=(1, 2)), expected, rtol=2e-3)


def test_predicting_leaves_the_descriptors_as_they_were(surrogate):
    x = descriptors(50, 9)
    before = x.copy()
    list(predict_ldos(*surrogate, [x]))
    np.testing.assert_array_equal(x, before)


def test_a_judgement_is_that_of_all_points_at_once(al4, surrogate, snapshots):
    grid = al4.info.energy_grid
    found = judge(*surrogate, grid, snapshots)
    true = [np.concatenate(s.ldos).astype(float) for s in snapshots]
    predicted = [by_hand(*surrogate, np.concatenate(s.descriptors)) for s in snapshots]
    band, squares = np.zeros((2, 3)), np.zeros(3)
    for i, s in enumerate(snapshots):
        squares += ((predicted[i] - true[i]) ** 2).sum(axis=(1, 2))
        for t in range(3):
            curve = predicted[i][t].mean(axis=0) * s.snapshot.volume
            computed = energies(curve, grid.quadrature(), electrons=12.0, temperature=s.snapshot.temperature)
            band[i, t] = 1e3 * (computed.band - s.snapshot.band_energy) / 4
            np.testing.assert_allclose(found.dos[i][0][t], curve, rtol=1e-5)
        np.testing.assert_allclose(found.dos[i][1], al4.dos(s.snapshot))
        np.testing.assert_allclose(found.errors[i].band_energy, band[i], rtol=1e-3)
    everything = np.concatenate(true)
    r2 = 1 - squares / ((everything - everything.mean(axis=0)) ** 2).sum()
    accuracy = found.accuracy
    assert accuracy.ldos_r2 == pytest.approx(r2.mean(), abs=1e-5)
    assert accuracy.ldos_r2_std == pytest.approx(r2.std(), abs=1e-5)
    assert accuracy.band_energy_mae == pytest.approx(np.abs(band).mean(), rel=1e-3)
    assert accuracy.band_energy_mae_std == pytest.approx(np.abs(band).mean(axis=0).std(), rel=1e-3)


def test_a_shard_larger_than_a_chunk_is_judged_in_grid_order(al4, surrogate, snapshots):
    # Each plane of the grid three times over: 24,000 points in one shard, and the same DOS.
    data = snapshots[0]
    fine = SnapshotData(
        dataclasses.replace(data.snapshot, grid=(60, 20, 20)),
        *([np.repeat(np.concatenate(a).reshape(20, 400, -1), 3, axis=0).reshape(24_000, -1)]
          for a in (data.descriptors, data.ldos)),
    )  # fmt: skip
    assert len(fine.ldos[0]) > CHUNK
    once, thrice = (judge(*surrogate, al4.info.energy_grid, [d]) for d in (data, fine))
    np.testing.assert_allclose(thrice.errors[0].squared_error, 3 * once.errors[0].squared_error, rtol=1e-5)
    np.testing.assert_allclose(thrice.errors[0].band_energy, once.errors[0].band_energy, rtol=1e-4)
    assert thrice.accuracy.ldos_r2 == pytest.approx(once.accuracy.ldos_r2, abs=1e-6)


def test_a_network_of_nonsense_has_no_band_energy(al4, surrogate, snapshots):
    network, scaling = surrogate
    nonsense = dataclasses.replace(scaling, ldos_mean=-scaling.ldos_mean)
    found = judge(network, nonsense, al4.info.energy_grid, snapshots)
    assert np.isnan(found.errors[0].band_energy).all()
    assert found.accuracy.band_energy_mae is None


def test_inference_time_follows_the_arithmetic_of_the_network():
    # 1024 x 1024 weights against 256 x 256: measured 13 times as long, 16 by the count of products.
    small, large = (inference_time(SurrogateConfig(widths=(w, w)), 64, 64) for w in (256, 1024))
    assert 5 < large / small < 40
    # A core multiplies between 1e9 and 1e12 pairs of numbers a second: 0.001 to 1 µs for 1e3 to 1e6 of them.
    n = 64 * 1024 + 1024 * 1024 + 1024 * 64
    assert 1e-6 * n < large < 1e-3 * n


def test_inference_time_is_the_same_beside_other_work():
    def best() -> float:
        return min(inference_time(SurrogateConfig(widths=(256, 256)), 91, 37) for _ in range(3))

    alone = best()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
    try:
        beside = best()
    finally:
        for process in busy:
            process.kill()
    assert 0.4 * alone < beside < 2.5 * alone  # wall time would be at least three times as long
