import dataclasses

import numpy as np
import pytest
import torch

from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.errors import DatasetError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.inference import predict_ldos
from dftune.trainables.ldos.readout.electrons import Ions, electrons_of
from dftune.trainables.ldos.readout.evaluate import evaluate
from dftune.trainables.ldos.readout.features import features, random_network, set_readout
from dftune.trainables.ldos.readout.gram import gram
from dftune.trainables.ldos.readout.motions import VOIGT, thinned
from dftune.trainables.ldos.readout.rows import Rows, dos_rows, energy_rows, force_rows, reference
from dftune.trainables.ldos.readout.solve import Solver
from dftune.trainables.ldos.readout.tangents import sums_of_tangents
from dftune.trainables.physics.energies import n_electrons

CONFIG = SurrogateConfig.of({"training": "none", "width": 24})


@pytest.fixture(scope="module")
def predicted(data):
    """A network, its weights, and a snapshot whose LDOS is what the network predicts: a row is exact there."""
    first = data.train[0]
    network = random_network(CONFIG, 14, 37, [3])
    none = Rows.none(network, first)
    weights = Solver(gram(network, data.scaling, first), none, 1.0).solve({})
    set_readout(network, weights)
    ldos = np.concatenate([chunk[0] for chunk in predict_ldos(network, data.scaling, first.descriptors)])
    ldos = np.split(ldos, [len(first.ldos[0])])
    return network, weights, dataclasses.replace(first, ldos=ldos)


def ions_of(data, snapshot, dft=True):
    return Ions(snapshot.snapshot, data.energy_grid, data.dft if dft else None, data.species)


def slope(data, predicted, ions, direction, value):
    """Central difference of a value of the electrons as the last layer moves along a direction."""
    network, weights, snapshot = predicted
    found = []
    for step in (-1e-2, 1e-2):
        set_readout(network, weights + step * direction)
        ldos = [chunk[0] for chunk in predict_ldos(network, data.scaling, snapshot.descriptors)]
        found.append(value(electrons_of(lambda ldos=ldos: ldos, ions, slopes=False)))
    set_readout(network, weights)
    return (found[1] - found[0]) / 2e-2


@pytest.mark.parametrize("dft", [True, False], ids=["free energy", "band energy"])
def test_a_row_of_an_energy_is_its_derivative(data, predicted, rng, dft):
    network, weights, snapshot = predicted
    s, ions = snapshot.snapshot, ions_of(data, snapshot, dft)
    known = electrons_of(lambda: snapshot.ldos, ions, slopes=dft)
    rows = energy_rows(network, data.scaling, snapshot, ions, known)
    assert rows.kinds == (("free_energy",) if dft else ("band_energy", "electrons"))
    direction = rng.normal(size=weights.shape) * 5e-2
    value = (lambda e: e.free_energy) if dft else (lambda e: e.levels.band)
    expected = slope(data, predicted, ions, direction, value) / s.n_atoms
    assert abs(expected) > 1e-2  # eV/atom: something to be right about
    assert rows.of(direction)[0, 0] == pytest.approx(expected, rel=2e-4)
    # At the weights whose LDOS it is, the row is as far from its target as the energy from the DFT's.
    true, reference = (known.free_energy, s.total_energy) if dft else (known.levels.band, s.band_energy)
    assert (rows.of(weights) - rows.target)[0, 0] == pytest.approx((true - reference) / s.n_atoms, abs=1e-5)


def test_a_row_of_the_electrons_counts_them_at_the_fermi_level_of_the_data(data, predicted, rng):
    network, weights, snapshot = predicted
    ions = ions_of(data, snapshot, dft=False)
    known = electrons_of(lambda: snapshot.ldos, ions, slopes=False)
    rows = energy_rows(network, data.scaling, snapshot, ions, known)
    direction = rng.normal(size=weights.shape) * 1e-2
    moved = weights + direction
    set_readout(network, moved)
    dos = evaluate(network, data.scaling, snapshot, ions).dos[0]
    set_readout(network, weights)

    at = {"fermi_level": known.levels.fermi_level, "temperature": snapshot.snapshot.temperature}
    counted = n_electrons(dos, data.energy_grid.quadrature(), **at) - snapshot.snapshot.n_electrons
    assert abs(counted) > 1e-3
    found = (rows.of(moved) - rows.target)[0, 1] * snapshot.snapshot.n_atoms
    assert found == pytest.approx(counted, rel=1e-3)


def test_rows_of_the_dos_are_what_the_network_integrates_to(data, predicted, rng):
    """Against the DOS that ``evaluate`` integrates over the grid, at any last layer, minus that of the data."""
    network, weights, snapshot = predicted
    s, ions = snapshot.snapshot, ions_of(data, snapshot)
    rows = dos_rows(network, data.scaling, snapshot)
    assert rows.kinds == ("dos",) * 37
    moved = weights + rng.normal(size=weights.shape) * 0.2
    set_readout(network, moved)
    dos = evaluate(network, data.scaling, snapshot, ions).dos[0]
    set_readout(network, weights)
    own = np.concatenate(snapshot.ldos).sum(axis=0, dtype=np.float64) * s.volume / s.n_points
    off = (dos - own) / s.n_atoms
    assert np.abs(off).max() > 1e-2  # 1/(eV atom): something to be right about
    np.testing.assert_allclose(rows.of(moved)[0] - rows.target, off, rtol=1e-4, atol=1e-5)


def test_energies_that_are_not_those_of_the_ldos_are_refused_with_the_snapshots_name(data):
    first = data.train[1]
    for energy, dft in (("total_energy", True), ("band_energy", False)):
        wrong = dataclasses.replace(first.snapshot, **{energy: getattr(first.snapshot, energy) + 0.08})
        snapshot = dataclasses.replace(first, snapshot=wrong)
        with pytest.raises(
            DatasetError, match=r"snapshot 001: its .* meV/atom from that of its own LDOS.*energy_weight"
        ):
            reference(snapshot, ions_of(data, snapshot, dft))
    reference(first, ions_of(data, first))


def test_an_ldos_that_cannot_hold_the_electrons_is_refused_with_the_snapshots_name(data):
    first = data.train[0]
    empty = dataclasses.replace(first, ldos=[np.zeros_like(shard) for shard in first.ldos])
    with pytest.raises(DatasetError, match="snapshot 000: its LDOS gives no energies"):
        reference(empty, ions_of(data, empty))


def test_a_snapshot_without_a_reference_has_no_row(data):
    first = data.train[0]
    for dft, energies in ((True, {"total_energy": None}), (False, {"band_energy": None})):
        snapshot = dataclasses.replace(first, snapshot=dataclasses.replace(first.snapshot, **energies))
        ions = ions_of(data, snapshot, dft)
        network = random_network(CONFIG, 14, 37, [3])
        assert energy_rows(network, data.scaling, snapshot, ions, reference(snapshot, ions)).kinds == ()


def test_a_row_of_a_force_is_the_force_that_is_predicted(data, predicted):
    """At the weights whose LDOS it is; the force comes back through the adjoint of network and descriptors."""
    network, weights, snapshot = predicted
    ions = ions_of(data, snapshot)
    known = electrons_of(lambda: snapshot.ldos, ions, slopes=True)
    rows = force_rows(network, data.scaling, snapshot, known, data.descriptors)
    assert rows.kinds == ("forces",) * 12
    error = evaluate(network, data.scaling, snapshot, ions, settings=data.descriptors, forces=True).forces[0]
    assert np.abs(error).max() > 0.05  # eV/Å: something to be right about
    np.testing.assert_allclose((rows.target - rows.of(weights))[0], error.ravel(), atol=2e-4)


STRESS = np.array([[0.02, 0.001, 0.0], [0.001, 0.03, -0.004], [0.0, -0.004, 0.01]])  # eV/Å³


def stressed(data):
    """A snapshot whose stress is known."""
    return dataclasses.replace(data, snapshot=dataclasses.replace(data.snapshot, stress=STRESS))


def strained(data, by, settings):
    """The same grid points, atoms and LDOS in a strained cell, with its own descriptors."""
    s = data.snapshot
    moved = dataclasses.replace(s, cell=s.cell @ (np.eye(3) + by), positions=s.positions @ (np.eye(3) + by))
    values = bispectrum(moved.cell, moved.positions, s.numbers, s.grid, settings)
    return dataclasses.replace(data, snapshot=moved, descriptors=[values], ldos=[np.concatenate(data.ldos)])


def test_a_row_of_a_stress_is_the_slope_of_the_free_energy(data, predicted):
    """At the weights whose LDOS it is; the slope is a difference of energies of strained cells on the same grid."""
    network, weights, snapshot = predicted
    snapshot = stressed(snapshot)
    s, ions = snapshot.snapshot, ions_of(data, snapshot)
    known = reference(snapshot, ions)
    rows = force_rows(network, data.scaling, snapshot, known, data.descriptors)
    assert rows.kinds == ("forces",) * 12 + ("stress",) * 6
    alone = force_rows(network, data.scaling, snapshot, known, data.descriptors, forces=False)
    np.testing.assert_array_equal(alone.left, rows.left[:, 12:])
    found = (rows.of(weights) - rows.target)[0, 12:] + STRESS[tuple(np.transpose(VOIGT))]

    def energy(strain):
        there = strained(snapshot, strain, data.descriptors)
        ions_there = ions_of(data, there)
        vars(ions_there)["sphere"] = ions.sphere.strained(strain)  # all plane waves stay
        one = evaluate(network, data.scaling, there, ions_there, ldos=False)
        return s.n_atoms * one.free_energy[0]

    for k in (0, 3):
        strain = np.zeros((3, 3))
        for a, b in (VOIGT[k], VOIGT[k][::-1]):
            strain[a, b] += 5e-4
        slope = (energy(strain) - energy(-strain)) / 2e-3 / s.volume
        assert abs(slope) > 1e-3  # eV/Å³: something to be right about
        assert found[k] == pytest.approx(slope, rel=1e-3, abs=1e-4), VOIGT[k]
    error = evaluate(network, data.scaling, snapshot, ions, settings=data.descriptors, forces=True).stress
    np.testing.assert_allclose((rows.of(weights) - rows.target)[0, 12:], error[0], atol=2e-6)


@pytest.mark.parametrize("values", [{"n_layers": 1, "width": 6}, {"widths": (7, 5), "activation": "tanh"}], ids=str)
def test_tangents_are_differences_of_the_features(data, values):
    first, settings = stressed(data.train[0]), data.descriptors
    s = first.snapshot
    network = random_network(SurrogateConfig.of({"training": "none"} | values), 14, 37, [1, 2])
    potential, points = np.sin(np.arange(s.n_points)), thinned(s.grid)
    found = sums_of_tangents(network, data.scaling, first, settings, potential)

    def sums(step, strain):
        """Σ_r φ and Σ_r u φ over every second point, each of which counts twice, of the atoms moved, (T, 2, p)."""
        moved, cell = s.positions.copy(), s.cell
        if strain:  # yz alone: an antisymmetric part turns the cell, which no descriptor sees
            by = np.eye(3)
            by[1, 2] = step
            moved, cell = moved @ by, cell @ by
        else:
            moved[2, 1] += step
        values = bispectrum(cell, moved, s.numbers, s.grid, settings, dtype=np.float64)
        x = torch.from_numpy((values - data.scaling.descriptor_mean) / data.scaling.descriptor_std)
        with torch.no_grad():
            phi = 2 * features(network.double(), x[points]).numpy()
        network.float()
        return np.stack([phi.sum(axis=1), potential[points] @ phi], axis=1)

    for k in (7, 12 + VOIGT.index((1, 2))):
        expected = (sums(1e-4, k >= 12) - sums(-1e-4, k >= 12)) / 2e-4
        assert found.shape == (2, 18, 2, expected.shape[-1])
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
