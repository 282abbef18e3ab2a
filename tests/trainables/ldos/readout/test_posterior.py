"""The covariance of a last layer against dense matrices, against differences, and against last layers drawn from it."""

import dataclasses
import time
from types import SimpleNamespace

import ase
import numpy as np
import pytest

from dftune.tests.small_model import as_test
from dftune.trainables.errors import ModelError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos import forecast, passes
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.inference import LastLayer
from dftune.trainables.ldos.neighbours import Neighbours
from dftune.trainables.ldos.readout import posterior as posterior_module
from dftune.trainables.ldos.readout.electrons import Ions
from dftune.trainables.ldos.readout.evaluate import _Some, evaluate, slopes_of
from dftune.trainables.ldos.readout.features import set_readout
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.readout.gram import Gram
from dftune.trainables.ldos.readout.posterior import Posterior
from dftune.trainables.ldos.readout.rows import Rows

P, N_ENERGY, PENALTY = 6, 7, 0.7
CONFIG = SurrogateConfig.of({"training": "none", "width": 8, "penalty": 1e-2})
KAPPA = {"free_energy": 3.0, "forces": 40.0}


@pytest.fixture(params=[1, 5], ids=["fewer rows than numbers that they tell", "more rows"])
def problem(rng, request):
    """Sums and rows whose energy vectors lie in a plane, one of them without a weight; and numbers to be told."""
    phi, y = rng.normal(size=(30, P)), rng.normal(size=(30, N_ENERGY))
    sums = Gram(30, (phi.T @ phi)[None], (phi.T @ y)[None], float((y**2).sum()))
    plane = rng.normal(size=(2, N_ENERGY))
    kinds = request.param * ("free_energy", "forces", "forces", "electrons", "free_energy")
    n = len(kinds)
    rows = Rows(kinds, rng.normal(size=(1, n, 2, P)), rng.normal(size=(n, 2, 2)) @ plane, rng.normal(size=n))
    return sums, rows, (rng.normal(size=(3, 2, P)), rng.normal(size=(3, 2, N_ENERGY)))


def dense(sums, rows):
    """The matrix of the normal equations over all p · n_energy weights, and the rows as vectors."""
    matrix = np.kron(sums.phi_phi[0] + np.diag([PENALTY] * (P - 1) + [0.0]), np.eye(N_ENERGY))
    vectors = np.einsum("kip,kij->kpj", rows.left[0], rows.right).reshape(len(rows.kinds), -1)
    kappa = np.array([KAPPA.get(kind, 0.0) for kind in rows.kinds])
    return matrix, vectors, kappa


def test_covariances_are_those_of_the_inverse_of_the_normal_equations(problem):
    sums, rows, (left, right) = problem
    found = Posterior.of_fit(sums, rows, PENALTY, KAPPA, N_ENERGY)
    matrix, vectors, kappa = dense(sums, rows)
    inverse = np.linalg.inv(matrix + (vectors.T * kappa) @ vectors)
    asked = np.einsum("kip,kij->kpj", left, right).reshape(3, -1)
    np.testing.assert_allclose(
        found.variance(left, right), found.scale**2 * np.diag(asked @ inverse @ asked.T), rtol=1e-4
    )
    # of the rows' own energy vectors alone, vectors whose products are the covariances
    within = right @ found.energies.T @ found.energies
    asked = np.einsum("kip,kij->kpj", left, within).reshape(3, -1)
    some = found.coordinates(left, within)
    np.testing.assert_allclose(some @ some.T, found.scale**2 * asked @ inverse @ asked.T, rtol=1e-4, atol=1e-5)


def test_many_numbers_of_the_same_sums_vary_as_in_the_inverse(problem, rng):
    sums, rows, (left, _) = problem
    found, right = Posterior.of_fit(sums, rows, PENALTY, KAPPA, N_ENERGY), rng.normal(size=(9, 2, N_ENERGY))
    assert len(right) > 2 * len(found.energies), "else they are not many"
    matrix, vectors, kappa = dense(sums, rows)
    asked = np.einsum("ip,kij->kpj", left[0], right).reshape(9, -1)
    expected = found.scale**2 * np.diag(asked @ np.linalg.inv(matrix + (vectors.T * kappa) @ vectors) @ asked.T)
    np.testing.assert_allclose(found.variance(left[:1], right), expected, rtol=1e-4)


def test_the_scale_is_the_most_likely_one_of_the_rows(problem):
    sums, rows, _ = problem
    found = Posterior.of_fit(sums, rows, PENALTY, KAPPA, N_ENERGY)
    matrix, vectors, kappa = dense(sums, rows)
    on = kappa > 0
    off = (rows.target - vectors @ np.linalg.solve(matrix, sums.phi_y[0].reshape(-1)))[on]
    spread = vectors[on] @ np.linalg.inv(matrix) @ vectors[on].T + np.diag(1 / kappa[on])

    def likelihood(scale):
        covariance = scale**2 * spread
        return -np.linalg.slogdet(covariance)[1] - off @ np.linalg.solve(covariance, off)

    assert likelihood(found.scale) > max(likelihood(found.scale * factor) for factor in (0.97, 1.03))


def test_without_rows_the_scale_is_the_error_of_the_ldos(problem):
    sums, rows, (left, right) = problem
    found = Posterior.of_fit(sums, rows, PENALTY, {}, N_ENERGY)
    inverse = np.linalg.inv(dense(sums, rows)[0])
    asked = np.einsum("kip,kij->kpj", left, right).reshape(3, -1)
    plain = np.linalg.solve(sums.phi_phi[0] + np.diag([PENALTY] * (P - 1) + [0.0]), sums.phi_y[0])
    assert found.scale**2 == pytest.approx(sums.loss(plain[None])[0])
    np.testing.assert_allclose(
        found.variance(left, right), found.scale**2 * np.diag(asked @ inverse @ asked.T), rtol=1e-4
    )


def test_it_comes_back_from_its_tensors(problem):
    sums, rows, asked = problem
    found = Posterior.of_fit(sums, rows, PENALTY, KAPPA, N_ENERGY)
    again = Posterior.of(found.tensors(), P, N_ENERGY)
    np.testing.assert_array_equal(
        again.variance(*asked), dataclasses.replace(found, scale=again.scale).variance(*asked)
    )
    assert Posterior.of({}, P, N_ENERGY) is None
    for damage in ({"basis": np.ones((P, P + 1))}, {"scale": np.array(0.0)}, {"seen": np.ones(3)}):
        with pytest.raises(ModelError, match="posterior"):
            Posterior.of(found.tensors() | {f"posterior.{k}": v for k, v in damage.items()}, P, N_ENERGY)
    del (damaged := found.tensors())["posterior.seen"]
    with pytest.raises(ModelError, match="posterior"):
        Posterior.of(damaged, P, N_ENERGY)


@pytest.fixture(scope="module")
def fitted(data):
    small = dataclasses.replace(data, train=data.train[:1])
    return fit(CONFIG, small, seeds=[1], posterior=True)


def layer(fitted):
    network = fitted.network
    parts = [part[-1].detach().double().numpy() for part in (network.weights, network.biases)]
    return np.concatenate(parts, axis=1)


def told(fitted, data, weights, **asked):
    """``evaluate`` at another last layer."""
    d, network = data.validation[0], fitted.network.only(0)
    set_readout(network, weights)
    return evaluate(network, data.scaling, d, ions(data), ldos=False, **asked)


def some(fitted, data):
    network = fitted.network.only(0)
    return _Some(network, LastLayer.of(network, data.scaling), data.scaling, data.validation[0])


class Numbers:
    """A and E_b [eV/atom] and DOS [1/eV] at other last layers, of one last hidden layer."""

    def __init__(self, fitted, data):
        self.network, self.scaling, self.ions = fitted.network.only(0), data.scaling, ions(data)
        self.one = some(fitted, data)

    def at(self, weights):
        set_readout(self.network, weights)
        self.one._layer = LastLayer.of(self.network, self.scaling)
        found, n_atoms = self.one.electrons(self.ions, slopes=False), 4
        values = {"free_energy": found.free_energy / n_atoms, "band_energy": found.levels.band / n_atoms}
        return {**{name: np.array([value]) for name, value in values.items()}, "dos": found.dos}


def ions(data):
    return Ions(data.validation[0].snapshot, data.energy_grid, data.dft, data.species)


@pytest.fixture(scope="module")
def slopes(fitted, data):
    unknown = dataclasses.replace(data.validation[0], ldos=())
    return slopes_of(fitted.network, data.scaling, unknown, ions(data), data.descriptors)


def linear(some, weights):
    return ((some.left @ weights) * some.right).sum(axis=(1, 2))


def test_slopes_are_differences(fitted, data, slopes, rng):
    weights = layer(fitted)
    change = 1e-3 * rng.normal(size=weights.shape) * np.abs(weights).mean()
    numbers = Numbers(fitted, data)
    up, down = (numbers.at(weights + sign * change) for sign in (1, -1))
    for name, differences in up.items():
        found = linear(slopes[name], change[0])
        np.testing.assert_allclose((differences - down[name]) / 2, found, atol=1e-3 * np.abs(found).max())


def test_slopes_of_forces_give_the_forces_that_go_back_through_the_network(fitted, data, slopes):
    asked = {"settings": data.descriptors, "forces": True, "posterior": fitted.posterior}
    e, s = told(fitted, data, layer(fitted), **asked), data.validation[0].snapshot
    still = some(fitted, data).electrons(ions(data), slopes=True).still
    assert np.abs(still).max() > 1
    found = still.reshape(-1) - linear(slopes["forces"], layer(fitted)[0])
    np.testing.assert_allclose(found, (e.forces[0] + s.forces).reshape(-1), atol=2e-4)
    np.testing.assert_array_equal(e.std["forces"], slopes["forces"].std(fitted.posterior))
    np.testing.assert_array_equal(e.std["free_energy"], slopes["free_energy"].std(fitted.posterior))


def test_last_layers_drawn_from_it_spread_as_it_says(fitted, data, slopes, rng):
    known = dataclasses.replace(fitted.posterior, scale=2e-3 * fitted.posterior.scale)  # where A is linear
    q, p, n_energy = len(known.energies), *layer(fitted).shape[1:]
    seen, numbers, found = known.seen.reshape(len(known.seen), -1), Numbers(fitted, data), []
    for _ in range(60):
        # along the rows' energy vectors, of which rows know, and along all others, of which they do not
        free, other = rng.normal(size=q * p), rng.normal(size=(p, n_energy))
        free += ((1 / np.sqrt(1 + known.information) - 1) * (seen @ free)) @ seen
        other -= (other @ known.energies.T) @ known.energies
        drawn = known.scale * known.basis @ (free.reshape(q, p).T @ known.energies + other)
        found.append(numbers.at(layer(fitted) + drawn))
    for name in found[0]:
        spread = np.array([one[name] for one in found]).var(axis=0).mean()
        assert spread == pytest.approx((slopes[name].std(known) ** 2).mean(), rel=0.4)  # of 60 draws: 0.18


@pytest.fixture(scope="module")
def known(fitted, data, al4):
    """A surrogate of it, whose error bars are calibrated on the validation snapshot."""
    one = KINDS["ldos"].judge(fitted, dataclasses.replace(data, train=data.train[:1]), as_test(data.validation))
    card = card_for("by hand", CONFIG, [1], al4, data.descriptors, one.accuracy)
    return KINDS["ldos"].surrogate(card, KINDS["ldos"].tensors(fitted))


def test_a_surrogate_keeps_it_and_tells_of_any_structure(fitted, data, slopes, known):
    found = known.slopes(atoms_of(data))
    for name, some in found.items():
        np.testing.assert_allclose(some.std(known.posterior), slopes[name].std(fitted.posterior), rtol=2e-3)
    again = KINDS["ldos"].surrogate(known.card, known.tensors())
    assert found["free_energy"].std(again.posterior) == found["free_energy"].std(known.posterior)


def atoms_of(data):
    s = data.validation[0].snapshot
    return ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)


def test_a_judged_surrogate_says_how_far_off_it_may_be(known):
    accuracy = known.card.accuracy
    assert set(accuracy.error_bars) == {"free_energy", "band_energy", "dos", "forces"}
    for name, bar in accuracy.error_bars.items():
        assert (bar.snapshots, bar.posterior) == (1, True)
        assert bar.factor >= 1
        assert bar.within_1 == 1.0 or name in ("dos", "forces")  # of one snapshot, which was validated on
    assert "calibrated on only 1 snapshot;" in "\n".join(accuracy.lines())


def test_a_prediction_has_the_error_bars_of_its_posterior(known, data, slopes, fitted):
    found = known.prepare(atoms_of(data), grid=(20, 20, 20), forces="spread").run(cpus=1)
    bars = known.card.accuracy.error_bars
    wanted = {name: some.std(fitted.posterior) for name, some in slopes.items()}
    for name in ("free_energy", "band_energy"):
        error = bars[name].factor * 4 * wanted[name][0]
        assert found.estimated_errors[name] == pytest.approx(error, rel=5e-3)
    np.testing.assert_allclose(found.dos_error, bars["dos"].factor * wanted["dos"], rtol=5e-3)
    # sums over other halves of the grid points
    forces = bars["forces"].factor * wanted["forces"]
    np.testing.assert_allclose(found.forces_error.ravel(), forces, atol=0.1 * forces.max())
    assert found.expected_errors == "like those of the test set"
    assert found.distance == pytest.approx(1.0, rel=1e-2), "the only validation snapshot"
    said = found.to_dict()
    assert said["forces_error"] == found.forces_error.tolist()
    assert "known" not in said
    assert "estimated error of the forces" in "\n".join(found.lines())
    without = known.prepare(atoms_of(data), grid=(20, 20, 20)).run(cpus=1)
    assert without.forces_error is None
    assert without.estimated_errors == pytest.approx(found.estimated_errors, rel=1e-6)


def test_the_pass_of_the_posterior_is_foretold(known, data, monkeypatch):
    clock = SimpleNamespace(perf_counter=time.process_time)  # the machine does other things too
    monkeypatch.setattr(forecast, "time", clock)
    monkeypatch.setattr(passes, "time", clock)
    job = known.prepare(atoms_of(data), grid=(20, 20, 20), forces="spread")
    taken = job.run(cpus=1).seconds
    with_it, without = job.forecast(cpus=1).seconds, dataclasses.replace(job, posterior=None).forecast(cpus=1).seconds
    assert 0.2 < (with_it - without) / taken["last layer"] < 5
    of_the_mean = known.prepare(atoms_of(data), grid=(20, 20, 20), forces="mean").forecast(cpus=1).seconds
    assert of_the_mean < with_it


def test_what_the_training_leaves_open_is_warned_of(known, data):
    near = known.prepare(atoms_of(data), grid=(20, 20, 20)).run(cpus=1)
    open_ = {**near.known, "free_energy": 3 * near.known["free_energy"]}
    found = dataclasses.replace(near, known=open_)
    assert found.expected_errors.startswith("about ")
    assert found.expected_errors.endswith(" meV/atom in the free energy")
    assert "the training leaves the free energy 3 times as far open" in found.outside_training[0]
    further = dataclasses.replace(near, known={**near.known, "free_energy": 11 * near.known["free_energy"]})
    assert further.expected_errors == "unknown"
    said = "\n".join(further.lines())
    assert "estimated error of" not in said, "it would be far too small"
    assert "no error is estimated" in said


def test_without_error_bars_the_distance_tells(known, data):
    """One validation snapshot without energies is enough to have no bars of them."""
    accuracy = dataclasses.replace(known.card.accuracy, error_bars={})
    card, near = known.card.model_copy(update={"accuracy": accuracy}), Neighbours.fit(data).tensors()
    found = KINDS["ldos"].surrogate(card, known.tensors() | near).prepare(atoms_of(data), grid=(20, 20, 20)).run(cpus=1)
    assert found.distance is not None
    assert found.expected_errors == "like those of the test set"


def test_a_layer_too_wide_for_it_says_so(data, monkeypatch):
    monkeypatch.setattr(posterior_module, "WIDEST", 7)
    found = fit(CONFIG, dataclasses.replace(data, train=data.train[:1]), seeds=[1], posterior=True)
    assert found.posterior is None
    assert "how well it is known is not kept above" in found.fitted
