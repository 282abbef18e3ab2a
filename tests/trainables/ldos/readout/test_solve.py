import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

from dftune.trainables.errors import InputError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout import solve
from dftune.trainables.ldos.readout.features import features, random_network
from dftune.trainables.ldos.readout.gram import Gram, gram
from dftune.trainables.ldos.readout.rows import Rows
from dftune.trainables.ldos.readout.solve import Solver

CONFIG = SurrogateConfig.of({"training": "none", "width": 8})


def test_sums_are_those_of_all_features_at_once_and_parts_add_up(data):
    network = random_network(CONFIG, 14, 37, [1, 2])
    parts = [gram(network, data.scaling, d) for d in data.train[:2]]
    found = parts[0] + parts[1]
    x = torch.from_numpy(np.concatenate([data.scaling.descriptors(a) for d in data.train[:2] for a in d.descriptors]))
    y = np.concatenate([data.scaling.ldos(a) for d in data.train[:2] for a in d.ldos]).astype(float)
    with torch.no_grad():
        phi = features(network, x).double().numpy()
    assert (found.n_points, phi.shape) == (16_000, (2, 16_000, 9))
    np.testing.assert_allclose(found.phi_phi, phi.swapaxes(1, 2) @ phi, rtol=1e-6)
    np.testing.assert_allclose(found.phi_y, phi.swapaxes(1, 2) @ y, rtol=1e-6, atol=1e-4)
    weights = np.random.default_rng(0).normal(size=(2, 9, 37))
    np.testing.assert_allclose(found.loss(weights), ((phi @ weights - y) ** 2).mean(axis=(1, 2)), rtol=1e-6)


def problem(rng, n_rows=5, p=6, n_energy=4):
    """Sums and rows of two initialisations, and their points."""
    phi = rng.normal(size=(2, 30, p))
    phi[..., -1] = 1
    y = rng.normal(size=(30, n_energy))
    sums = Gram(30, phi.swapaxes(1, 2) @ phi, phi.swapaxes(1, 2) @ y, float((y**2).sum()))
    kinds = ("free_energy", "electrons", "band_energy", "free_energy", "electrons")[:n_rows]
    return sums, Rows(
        kinds, rng.normal(size=(2, n_rows, 2, p)), rng.normal(size=(n_rows, 2, n_energy)), rng.normal(size=n_rows)
    )


@pytest.mark.parametrize("block", [2, 512])
def test_the_solution_is_that_of_the_normal_equations_of_all_weights(rng, monkeypatch, block):
    monkeypatch.setattr(solve, "BLOCK", block)
    sums, rows = problem(rng)
    kappa = {"free_energy": 3.0, "electrons": 0.5}
    found = Solver(sums, rows, 0.7).solve(kappa, shift=np.full((2, 5), 0.1))
    for t in range(2):
        penalty = np.diag([0.7] * 5 + [0.0])
        matrix = np.kron(sums.phi_phi[t] + penalty, np.eye(4))
        right = sums.phi_y[t].reshape(-1)
        for k, kind in enumerate(rows.kinds):
            row = np.einsum("ip,ij->pj", rows.left[t, k], rows.right[k]).reshape(-1)
            matrix += kappa.get(kind, 0) * np.outer(row, row)
            right = right + kappa.get(kind, 0) * row * (rows.target[k] + 0.1)
        np.testing.assert_allclose(found[t].reshape(-1), np.linalg.solve(matrix, right), rtol=1e-9, atol=1e-12)


def test_products_of_rows_are_held_once_and_once_more_while_they_are_solved(rng):
    n, (sums, few) = 2000, problem(rng)
    left, right = np.repeat(few.left[:1], n // 5, axis=1), np.repeat(few.right, n // 5, axis=0)
    sums, rows = sums.only(0), Rows(("free_energy",) * n, left, right, np.repeat(few.target, n // 5))
    tracemalloc.start()
    try:
        solver = Solver(sums, rows, 0.7)
        once = tracemalloc.get_traced_memory()[1]
        solver.solve({"free_energy": 1.0})
        twice = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert once < 1.9 * 8 * n**2
    assert twice < 2.4 * 8 * n**2


def test_rows_without_a_weight_change_nothing(rng):
    sums, rows = problem(rng)
    plain = Solver(sums, Rows((), rows.left[:, :0], rows.right[:0], rows.target[:0]), 0.1).solve({"free_energy": 1.0})
    np.testing.assert_array_equal(Solver(sums, rows, 0.1).solve({"free_energy": 0.0}), plain)


def test_a_large_weight_makes_a_row_right(rng):
    sums, rows = problem(rng, n_rows=1)
    weights = Solver(sums, rows, 0.1).solve({"free_energy": 1e9})
    np.testing.assert_allclose(rows.of(weights), np.tile(rows.target, (2, 1)), atol=1e-6)


def test_a_singular_matrix_and_values_that_are_not_finite_are_refused(rng):
    sums, rows = problem(rng)
    double = sums.phi_phi.copy()
    double[:, 1], double[:, :, 1] = double[:, 0], double[:, :, 0]
    with pytest.raises(InputError, match=r"singular at penalty = 1e-18.*raise penalty or lower width"):
        Solver(dataclasses.replace(sums, phi_phi=double), rows, 1e-18)
    Solver(dataclasses.replace(sums, phi_phi=double), rows, 1e-3)
    double[0, 2, 2] = np.nan
    with pytest.raises(InputError, match="not finite; check the data"):
        Solver(dataclasses.replace(sums, phi_phi=double), rows, 1e-3)
