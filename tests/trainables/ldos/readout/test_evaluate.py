import copy
import dataclasses

import numpy as np
import pytest

from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.inference import predict_ldos, pull_back
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.readout import evaluate as module
from dftune.trainables.ldos.readout import motions
from dftune.trainables.ldos.readout.electrons import Ions, electrons_of
from dftune.trainables.ldos.readout.evaluate import evaluate
from dftune.trainables.ldos.readout.features import random_network, set_readout
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.total_energy import Ingredients


@pytest.fixture(scope="module")
def fitted(data):
    config = {"training": "none", "width": 32, "force_weight": 0, "penalty": 1e-2}
    return fit(SurrogateConfig.of(config), data, seeds=[1, 2]).network


def ions_of(data, snapshot):
    return Ions(snapshot.snapshot, data.energy_grid, data.dft, data.species)


@pytest.mark.parametrize("memory", [2**30, 0], ids=["kept", "made again"])
def test_energies_from_the_hidden_layer_are_those_of_the_whole_ldos(data, fitted, monkeypatch, memory):
    monkeypatch.setattr(module, "IN_MEMORY", memory)
    snapshot = data.validation[0]
    s, ions = snapshot.snapshot, ions_of(data, snapshot)
    found = evaluate(fitted, data.scaling, snapshot, ions)
    true = np.concatenate([shard[:] for shard in snapshot.ldos]).astype(float)
    for t in range(2):
        ldos = [chunk[t] for chunk in predict_ldos(fitted, data.scaling, snapshot.descriptors)]
        one = electrons_of(lambda ldos=ldos: ldos, ions, slopes=False)
        assert found.free_energy[t] * s.n_atoms == pytest.approx(one.free_energy - s.total_energy, abs=2e-5)
        assert found.band_energy[t] * s.n_atoms == pytest.approx(one.levels.band - s.band_energy, abs=2e-5)
        np.testing.assert_allclose(found.dos[t], one.dos, atol=1e-5)
        assert found.ldos.squares[t] == pytest.approx(((np.concatenate(ldos) - true) ** 2).sum(), rel=1e-3)
    np.testing.assert_allclose(found.ldos.true_dos(snapshot), snapshot.dos(), rtol=1e-12)
    error = found.error(snapshot)
    np.testing.assert_allclose(error.free_energy, 1e3 * found.free_energy)
    rmse = np.sqrt(((found.dos - snapshot.dos()) ** 2).mean(axis=1)) / 4
    np.testing.assert_allclose(error.dos_rmse, rmse)


def test_a_grid_too_coarse_for_the_density_has_band_energies_and_no_free_energy(data, fitted):
    snapshot = data.validation[0]
    fine = data.dft.model_copy(update={"density_cutoff": 2 * data.dft.density_cutoff})
    ions = dataclasses.replace(ions_of(data, snapshot), dft=fine)
    found = evaluate(fitted, data.scaling, snapshot, ions, settings=data.descriptors, forces=True)
    known = evaluate(fitted, data.scaling, snapshot, ions_of(data, snapshot))
    np.testing.assert_array_equal(found.band_energy, known.band_energy)
    assert np.isfinite(known.free_energy).all()
    assert np.isnan(found.free_energy).all()
    assert np.isnan(found.forces).all()
    accuracy = judge(
        fitted, data.scaling, data.energy_grid, [snapshot], ingredients=Ingredients(fine, data.species)
    ).accuracy
    assert accuracy.free_energy_mae is None
    assert accuracy.band_energy_mae == pytest.approx(1e3 * np.abs(known.band_energy).mean())


def test_a_dos_that_cannot_hold_the_electrons_spoils_its_own_network_alone(data, fitted):
    spoilt = copy.deepcopy(fitted)
    spoilt.biases[-1].data[0] -= 10.0
    found = evaluate(spoilt, data.scaling, data.validation[0], ions_of(data, data.validation[0]))
    assert np.isnan(found.free_energy).tolist() == [True, False]
    assert np.isnan(found.band_energy).tolist() == [True, False]
    assert np.isfinite(found.ldos.squares).all()


@pytest.mark.parametrize("kept", [2**30, 0], ids=["small cell", "large cell"])
def test_several_last_layers_of_one_network_are_judged_as_each_alone(data, rng, monkeypatch, kept):
    monkeypatch.setattr(motions, "KEPT", kept)
    snapshot, n_energy = data.validation[0], len(data.scaling.ldos_mean)
    config = SurrogateConfig.of({"training": "none", "n_layers": 2, "width": 12})
    network = random_network(config, len(data.scaling.descriptor_mean), n_energy, [3])
    solved = fit(
        SurrogateConfig.of({**config.model_dump(), "force_weight": 0, "penalty": 1.0}), data, seeds=[3]
    ).network
    first = np.concatenate([solved.weights[-1][0].detach().numpy(), solved.biases[-1][0].detach().numpy()])
    readouts = np.stack([first, first + 0.01 * rng.normal(size=first.shape), first - 10.0])
    at = {"settings": data.descriptors, "forces": True}
    found = evaluate(network, data.scaling, snapshot, ions_of(data, snapshot), readouts=readouts, **at)
    for t in range(3):
        set_readout(network, readouts[t : t + 1])
        alone = evaluate(network, data.scaling, snapshot, ions_of(data, snapshot), **at)
        for name in ("dos", "band_energy", "free_energy", "forces", "levels"):
            np.testing.assert_allclose(getattr(found, name)[t], getattr(alone, name)[0], rtol=1e-5, atol=1e-5)
        assert found.ldos.squares[t] == pytest.approx(alone.ldos.squares[0], rel=1e-6)
    assert np.isfinite(found.free_energy).tolist() == [True, True, False]
    assert np.abs(found.free_energy[1] - found.free_energy[0]) > 1e-4


def test_the_way_back_is_the_derivative_of_the_hidden_layers(data, rng):
    """Of a + u w contracted with the last hidden layer, by torch's own derivative."""
    config = SurrogateConfig.of({"training": "none", "n_layers": 3, "width": 9, "activation": "gelu"})
    scaling, descriptors = data.scaling, data.train[0].descriptors[0][:7]
    network = random_network(config, descriptors.shape[1], 5, [4])
    constant, slope, potential = rng.normal(size=(2, 9)), rng.normal(size=(2, 9)), rng.normal(size=(2, 7))
    found = module.Backwards(network, scaling, constant, slope)(descriptors, potential)
    for t in range(2):
        one = slice(t, t + 1)
        wanted = pull_back(network, scaling, descriptors, (constant[one], slope[one]), potential[one])[0]
        np.testing.assert_allclose(found[t], wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())
