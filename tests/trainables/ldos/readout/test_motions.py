"""Derivatives of the descriptors in batches, some of them kept."""

import dataclasses

import numpy as np
import pytest

from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout import evaluate, motions
from dftune.trainables.ldos.readout.electrons import Ions
from dftune.trainables.ldos.readout.features import random_network


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(motions, "_kept", type(motions._kept)())


def test_images_of_an_atom_at_a_point_are_one_pair():
    point, atom = np.array([0, 0, 0, 1, 1]), np.array([1, 0, 1, 1, 0])
    found = motions.merged(point, atom, np.arange(5.0)[:, None, None] * np.ones((5, 3, 2)))
    assert (found.point.tolist(), found.atom.tolist()) == ([0, 1, 0, 1], [0, 0, 1, 1])
    assert found.values[:, 0, 0].tolist() == [1, 4, 2, 3]
    assert found.of_atoms == [(0, slice(0, 2)), (1, slice(2, 4))]


def test_they_are_differences_of_the_descriptors(data):
    s, settings, step = data.train[0].snapshot, data.descriptors, 1e-4

    def moved(by):
        positions = s.positions.copy()
        positions[1, 2] += by
        return bispectrum(s.cell, positions, s.numbers, s.grid, settings, dtype=np.float64)

    expected = (moved(step) - moved(-step)) / (2 * step)
    found = np.zeros_like(expected)
    for start, stop in ((0, 5000), (5000, s.n_points)):
        for motion in motions.motions(s, settings, start, stop):
            for atom, here in motion.of_atoms:
                if atom == 1:
                    found[motion.point[here]] += motion.values[here, 2]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_those_of_small_cells_are_kept_and_the_oldest_go_first(data, monkeypatch):
    s, settings = data.train[0].snapshot, data.descriptors
    first = motions.motions(s, settings, 0, 64)
    assert motions.motions(s, settings, 0, 64) is first
    other = dataclasses.replace(s, positions=s.positions + 0.01)
    assert motions.motions(other, settings, 0, 64) is not first
    size = sum(motion.values.nbytes for motion in first)
    monkeypatch.setattr(motions, "KEPT", 2.5 * size)
    monkeypatch.setattr(motions, "is_small", lambda snapshot, settings: True)
    again = motions.motions(s, settings, 0, 64)
    third = motions.motions(s, settings, 64, 128)
    assert again is first
    assert (motions.motions(s, settings, 0, 64), motions.motions(s, settings, 64, 128)) == (first, third)
    assert len(motions._kept) == 2, "the other one, not asked for since, has gone"


def test_forces_are_equal_by_kept_derivatives_and_by_the_adjoint(data, monkeypatch):
    snapshot, settings = data.train[0], data.descriptors
    network = random_network(SurrogateConfig.of({"training": "none", "width": 8}), 14, 37, [1, 2])
    ions = Ions(snapshot.snapshot, data.energy_grid, data.dft, data.species)
    network.biases[-1].data += 1.0  # states enough for the electrons

    def forces():
        return evaluate.evaluate(network, data.scaling, snapshot, ions, settings=settings, forces=True).forces

    kept = forces()
    assert motions._kept
    monkeypatch.setattr(evaluate, "is_small", lambda snapshot, settings: False)
    assert np.abs(kept).max() > 0.01
    np.testing.assert_allclose(kept, forces(), atol=1e-5 * np.abs(kept).max())
