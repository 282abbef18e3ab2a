"""Derivatives of the descriptors in slabs, some of them kept."""

import dataclasses
import resource
import signal

import numpy as np
import pytest

from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout import evaluate, motions
from dftune.trainables.ldos.readout.electrons import Ions
from dftune.trainables.ldos.readout.features import random_network
from dftune.trainables.scratch import kept_in


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(motions, "_kept", type(motions._kept)())


def test_images_of_an_atom_at_a_point_are_one_pair():
    point, atom = np.array([0, 0, 0, 1, 1]), np.array([1, 0, 1, 1, 0])
    first, second = motions.merged(point, atom, np.arange(5.0)[:, None, None] * np.ones((5, 3, 2)))
    assert (first.atom, first.point.tolist(), first.values[2, :, 1].tolist()) == (0, [0, 1], [1, 4])
    assert (second.atom, second.point.tolist(), second.values[0, :, 0].tolist()) == (1, [0, 1], [2, 3])


@pytest.mark.parametrize("grid", [(4, 6, 2), (4, 6, 3), (4, 3, 5)], ids=str)
def test_thinned_points_are_those_of_a_chessboard(grid):
    i, j, k = np.unravel_index(motions.thinned(grid), grid)
    here = set(zip(i.tolist(), j.tolist(), k.tolist(), strict=True))
    wanted = {tuple(p) for p in np.ndindex(grid) if grid[1] == 3 or (p[0] + p[1] + p[2] * (grid[2] == 2)) % 2 == 0}
    assert here == wanted
    assert (np.diff(motions.thinned(grid)) > 0).all()


def test_they_are_differences_of_the_descriptors(data):
    """At grid points of both shards, in slabs that are not full."""
    snapshot, settings, step = data.train[0], data.descriptors, 1e-4
    s, points = snapshot.snapshot, np.arange(3, 8000, 7)

    def moved(by):
        positions = s.positions.copy()
        positions[1, 2] += by
        return bispectrum(s.cell, positions, s.numbers, s.grid, settings, dtype=np.float64)

    expected = (moved(step) - moved(-step)) / (2 * step)
    found, seen = np.zeros_like(expected), []
    whole = np.concatenate(snapshot.descriptors)
    for slab, values in motions.slabs(snapshot, settings, points):
        seen += slab.points.tolist()
        np.testing.assert_array_equal(values, whole[slab.points])
        for motion in slab.motions:
            if motion.atom == 1:
                found[slab.points[motion.point]] += motion.values[2]
    assert seen == points.tolist()
    np.testing.assert_allclose(found[points], expected[points], atol=1e-5 * np.abs(expected).max())


def test_those_of_small_cells_are_kept_and_the_oldest_go_first(data, monkeypatch):
    s, settings, first, second = data.train[0].snapshot, data.descriptors, np.arange(64), np.arange(64, 128)
    one = motions._slabs(s, settings, first)
    assert motions._slabs(s, settings, first) is one
    other = dataclasses.replace(s, positions=s.positions + 0.01)
    assert motions._slabs(other, settings, first) is not one
    monkeypatch.setattr(motions, "KEPT", 2.5 * sum(slab.size for slab in one))
    monkeypatch.setattr(motions, "is_small", lambda snapshot, settings: True)
    again = motions._slabs(s, settings, first)
    two = motions._slabs(s, settings, second)
    assert again is one
    assert (motions._slabs(s, settings, first), motions._slabs(s, settings, second)) == (one, two)
    assert len(motions._kept) == 2, "the other one, not asked for since, has gone"


def test_forces_of_thinned_points_are_those_of_the_adjoint_on_all(data, monkeypatch):
    """The first to a part in 1e3, and the same to a part in 1e5 where no point is left out."""
    snapshot, settings = data.train[0], data.descriptors
    network = random_network(SurrogateConfig.of({"training": "none", "width": 8}), 14, 37, [1, 2])
    ions = Ions(snapshot.snapshot, data.energy_grid, data.dft, data.species)
    network.biases[-1].data += 1.0  # states enough for the electrons

    def forces():
        return evaluate.evaluate(network, data.scaling, snapshot, ions, settings=settings, forces=True).forces

    thin = forces()
    assert motions._kept
    monkeypatch.setattr(evaluate, "thinned", lambda grid: np.arange(8000))
    kept = forces()
    monkeypatch.setattr(evaluate, "is_small", lambda snapshot, settings: False)
    expected = forces()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(kept, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(thin, expected, atol=1e-3 * np.abs(expected).max())
    assert np.abs(thin - expected).max() > 1e-6


def test_another_process_of_a_run_finds_what_one_has_made(data, monkeypatch, tmp_path):
    s, settings, points = data.train[0].snapshot, data.descriptors, np.arange(0, 600, 2)
    (tmp_path / ".of_another.part").symlink_to(tmp_path / "gone")  # listed, and then renamed by who wrote it
    with kept_in(tmp_path):
        made = motions._slabs(s, settings, points)
        monkeypatch.setattr(motions, "_kept", type(motions._kept)())  # that of another process
        monkeypatch.setattr(motions, "_made", None)
        found = motions._slabs(s, settings, points)
    assert len(found) == len(made) == 2
    for slab, same in zip(found, made, strict=True):
        np.testing.assert_array_equal(slab.points, same.points)
        assert [m.atom for m in slab.motions] == [m.atom for m in same.motions] == [0, 1, 2, 3]
        for motion, other in zip(slab.motions, same.motions, strict=True):
            np.testing.assert_array_equal(motion.point, other.point)
            np.testing.assert_array_equal(motion.values, other.values)
    with kept_in(tmp_path), pytest.raises(TypeError):  # of other points there is nothing
        motions._slabs(s, settings, points + 1)


@pytest.mark.parametrize("at", ["no room", "another machine", "outside of a run"])
def test_derivatives_are_made_where_they_cannot_be_stored(data, monkeypatch, tmp_path, at):
    monkeypatch.setattr(motions, "STORED", 1000 if at == "no room" else 2**32)
    folder = {"another machine": tmp_path / "gone", "outside of a run": None}.get(at, tmp_path)
    with kept_in(folder):
        assert motions._slabs(data.train[0].snapshot, data.descriptors, np.arange(8))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_time_only(data, tmp_path):
    """Files of this process may have 1000 bytes, for which a write fails as on a full disk."""
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with kept_in(tmp_path):
            assert motions._slabs(data.train[0].snapshot, data.descriptors, np.arange(1, 9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())
