import numpy as np
import pytest

from dftune.trainables.physics import phases
from dftune.trainables.physics.phases import phase_forces, structure_factor
from dftune.trainables.physics.reciprocal import reciprocal

TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.1, 3.7, 0.5], [-0.6, 0.9, 4.4]])
ORDERS = [
    (np.arange(-2.0, 3.0), np.arange(-3.0, 4.0), np.arange(4.0)),
    (np.rint(np.fft.fftfreq(6, 1 / 6)), np.rint(np.fft.fftfreq(9, 1 / 9)), np.arange(6.0)),  # as DensitySphere has them
]


@pytest.mark.parametrize("many", [1, 500], ids=["mesh", "direct"])
@pytest.mark.parametrize("orders", ORDERS, ids=["centred", "fft"])
def test_structure_factors_are_the_sums_of_phases_they_say_they_are(monkeypatch, orders, many):
    rng = np.random.default_rng(0)
    fractional, charges = rng.uniform(-1.0, 2.0, size=(7, 3)), rng.normal(size=7)
    fractional[0] = 0.0, 1.0, -1e-18  # on the rim of the cell
    m = np.stack(np.meshgrid(*orders, indexing="ij"), axis=-1)
    each = np.exp(-2j * np.pi * np.einsum("xyzc,ac->axyz", m, fractional))
    c = rng.normal(size=m.shape[:3]) + 1j * rng.normal(size=m.shape[:3])
    forces = -np.einsum("xyzc,axyz->ac", m @ reciprocal(TRICLINIC), (c.conj() * each).imag)
    monkeypatch.setattr(phases, "MANY", many)
    for chunk in (2**20, 100):  # all atoms at once, and a few at a time
        monkeypatch.setattr(phases, "CHUNK", chunk)
        monkeypatch.setattr(phases.mesh, "CHUNK", chunk // 50)
        found = structure_factor(fractional, orders, charges)
        np.testing.assert_allclose(found, np.einsum("a,axyz->xyz", charges, each), atol=3e-12)
        np.testing.assert_allclose(phase_forces(fractional, orders, c, TRICLINIC), forces, atol=1e-9)


def test_a_mesh_serves_many_atoms_alone(monkeypatch):
    def refuse(*_):
        raise AssertionError("the other way")

    few, many = np.full((499, 3), 0.3), np.full((500, 3), 0.3)
    monkeypatch.setattr(phases.mesh, "structure_factor", refuse)
    found = structure_factor(few, ORDERS[0], np.ones(499))
    monkeypatch.undo()
    monkeypatch.setattr(phases, "_phases", refuse)
    np.testing.assert_allclose(structure_factor(many, ORDERS[0], np.ones(500)), found * 500 / 499, atol=1e-9)
