"""What is said of a prediction before it starts; the model of ``conftest`` has T = 2 and two layers of 48."""

import time
from types import SimpleNamespace

import ase
import numpy as np
import pytest

from dftune.trainables.errors import InputError, TooLarge
from dftune.trainables.ldos import forecast as forecasts
from dftune.trainables.ldos import passes


@pytest.fixture(scope="module")
def atoms(al4) -> ase.Atoms:
    s = al4["010"]
    return ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)


def test_memory_grows_with_the_densities_and_not_with_the_energies(model, atoms, monkeypatch):
    monkeypatch.setattr(forecasts, "_time", lambda _: 1e-3)  # each pass takes as long, whatever else the machine does
    large = model.prepare(atoms.repeat((8, 8, 8)))
    larger = model.prepare(atoms.repeat((16, 8, 8)))
    one, two = large.forecast(cpus=1), larger.forecast(cpus=1)
    more = (two.memory - one.memory) / (larger.size - large.size)
    assert more == 2 * 8 + 110, "bytes a grid point: T densities, and the work on one of them"
    assert two.disk == 4 * larger.size * 30, "the descriptors wait on disk"
    forces = model.prepare(atoms.repeat((16, 8, 8)), forces="mean").forecast(cpus=1)
    assert forces.memory - two.memory == 2 * 2 * 8 * larger.size
    assert forces.seconds > 1.2 * two.seconds, "forces are further passes"


def test_a_forecast_is_near_what_a_prediction_takes(model, atoms, monkeypatch):
    clock = SimpleNamespace(perf_counter=time.process_time)  # the machine does other things too
    monkeypatch.setattr(forecasts, "time", clock)
    monkeypatch.setattr(passes, "time", clock)
    job = model.prepare(atoms.repeat((2, 1, 1)), forces="mean")
    job.run(cpus=1)  # what is compiled or imported once is not foretold
    assert 0.2 < job.forecast(cpus=1).seconds / sum(job.run(cpus=1).seconds.values()) < 5


def test_what_does_not_fit_is_refused_before_it_starts(model, atoms, monkeypatch):
    job, begun = model.prepare(atoms.repeat((8, 8, 8))), []
    monkeypatch.setattr(passes, "bispectrum", lambda *_: begun.append(1))
    monkeypatch.setattr(forecasts, "free_memory", lambda: 300_000_000)
    for ask in (job.forecast, job.run):
        with pytest.raises(TooLarge, match=r"needs 1\.0 GB of memory, and 0\.3 GB are free here; use a smaller cell"):
            ask(cpus=1)
    monkeypatch.undo()
    monkeypatch.setattr(passes, "bispectrum", lambda *_: begun.append(1))
    monkeypatch.setattr(forecasts.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**8))
    for ask in (job.forecast, job.run):
        with pytest.raises(TooLarge, match=r"needs 0\.5 GB of temporary files, and \S+ has 0\.1 GB left; set TMPDIR"):
            ask(cpus=1)
    assert not begun


def test_a_disk_that_fills_up_meanwhile_ends_in_one_line(model, atoms, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(passes, "SLAB", 700)
    monkeypatch.setattr(passes.tempfile, "SpooledTemporaryFile", lambda max_size: Waiting(full))
    with pytest.raises(InputError, match=r"has no room for the descriptors \(No space left on device\); set TMPDIR"):
        model.predict(atoms)


class Waiting:
    def __init__(self, write):
        self.write = write

    def close(self):
        pass


def test_a_small_cell_repeated_has_as_many_times_the_energies(model, atoms):
    small = model.predict(atoms, forces="mean", stress=True)
    n_a, n_b, n_c = small.grid
    large = model.predict(atoms.repeat((2, 2, 1)), grid=[2 * n_a, 2 * n_b, n_c], forces="mean", stress=True)
    for name in ("free_energy", "band_energy", "entropy_term", "hartree_energy", "xc_energy", "ewald_energy"):
        assert getattr(large, name) == pytest.approx(4 * getattr(small, name), rel=1e-8), name
    assert large.fermi_level == pytest.approx(small.fermi_level, rel=1e-8)
    np.testing.assert_allclose(large.forces, np.tile(small.forces, (4, 1)), atol=1e-5)
    np.testing.assert_allclose(large.stress, small.stress, atol=1e-7)
