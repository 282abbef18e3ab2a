"""Which structures make the free energies of all candidates better known."""

import ase.build
import numpy as np
import pytest

from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.neighbours import Neighbours
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.surrogate import LdosSurrogate
from dftune.trainables.ldos.teaching import UNTOLD, Known, told

CONFIG = SurrogateConfig.of({"training": "none", "width": 8, "penalty": 1e-2})


def conditional(vectors, rows):
    """Covariance of Gaussian numbers once others are measured with a variance of 1, by the textbook's formula."""
    own, both, measured = vectors @ vectors.T, vectors @ rows.T, rows @ rows.T + np.eye(len(rows))
    return own - both @ np.linalg.solve(measured, both.T)


def test_what_is_known_after_measurements_is_the_conditional_gaussian(rng):
    vectors, rows, others = (rng.normal(size=(n, 9)) for n in (5, 3, 2))
    rows = np.concatenate([rows, rows[:1]])  # one is measured twice
    known, turned = Known(vectors).after(rows, {7: others})
    np.testing.assert_allclose(known.vectors @ known.vectors.T, conditional(vectors, rows), atol=1e-9)
    mixed = np.concatenate([vectors, others])
    expected = conditional(mixed, rows)[:5, 5:]
    np.testing.assert_allclose(known.vectors @ turned[7].T, expected, atol=1e-9)
    fallen = Known(vectors).variances.sum() - known.variances.sum()
    assert Known(vectors).gain(rows) == pytest.approx(fallen)


def test_measuring_the_same_again_gains_little(rng):
    vectors, rows = rng.normal(size=(5, 9)), 30 * rng.normal(size=(1, 9))
    known, turned = Known(vectors).after(rows, {0: rows})
    assert 0 < known.gain(turned[0]) < 1e-3 * Known(vectors).gain(rows)


def test_few_rows_say_what_many_do(rng):
    vectors, others = rng.normal(size=(5, 40)), rng.normal(size=(2, 40))
    rows = rng.normal(size=(30, 6)) @ (np.array([3, 2, 1, 1, 1e-4, 1e-4])[:, None] * rng.normal(size=(6, 40)))
    few = told(rows)
    assert len(few) == 4
    known = Known(vectors)
    assert known.gain(few) == pytest.approx(known.gain(rows), abs=UNTOLD * known.variances.sum())
    many, one = known.after(rows, {7: others}), known.after(few, {7: others.astype(np.float32)})
    np.testing.assert_allclose(one[0].variances, many[0].variances, atol=UNTOLD * known.variances.max())
    np.testing.assert_allclose(one[1][7], many[1][7], atol=0.1)
    assert one[1][7].dtype == np.float32


@pytest.fixture(scope="module")
def surrogate(data, al4) -> LdosSurrogate:
    return fitted(CONFIG, data, al4)


def fitted(config, data, al4) -> LdosSurrogate:
    trained = fit(config, data, seeds=[1], posterior=True)
    judged = judge(trained.network, data.scaling, data.energy_grid, data.validation, ingredients=data.ingredients)
    card = card_for("by hand", config, [1], al4, data.descriptors, judged.accuracy)
    near = Neighbours.fit(data)
    return KINDS["ldos"].surrogate(card, KINDS["ldos"].tensors(trained) | near.tensors())


def displaced(sigma: float, seed: int) -> ase.Atoms:
    atoms = ase.build.bulk("Al", "fcc", a=4.05, cubic=True)
    atoms.positions += np.random.default_rng(seed).normal(0, sigma, (4, 3))
    return atoms


def test_the_one_that_leaves_the_least_variance_is_chosen(surrogate):
    """Against each of them measured by itself."""
    some = [displaced(0.05, 0), displaced(0.25, 1), displaced(0.3, 2)]
    found = surrogate.lessons(some, 1)
    scale, vectors, left = surrogate.posterior.scale, [], []
    for atoms in some:
        slopes = surrogate.slopes(atoms, forces=True)
        vectors.append(slopes["free_energy"].coordinates(surrogate.posterior)[0])
        rows = [1e4 * vectors[-1][None], 1e3 * slopes["forces"].coordinates(surrogate.posterior)]
        left.append(np.concatenate(rows) / scale)
    traces = [np.trace(conditional(np.array(vectors), rows)) for rows in left]
    assert found.chosen[0].number == int(np.argmin(traces))
    assert found.after == pytest.approx(1e3 * np.sqrt(min(traces) / 3), rel=1e-4)
    assert found.to_dict()["units"]["worth"] == "meV/atom"
    assert found.chosen[0].worth == pytest.approx(1e3 * np.linalg.norm(vectors[found.chosen[0].number]), rel=1e-6)
    assert "standard deviation of their free energies" in found.expected


def test_candidates_that_cannot_be_predicted_are_compared_by_their_distance(surrogate):
    """So few states are in so small a cell that the electrons find no room."""
    small = ase.Atoms("Al", cell=1.1 * np.eye(3), pbc=True)
    found = surrogate.lessons([displaced(0.05, 0), small], 1)
    assert found.chosen[0].number == 1
    assert "times as far from all that is known" in found.chosen[0].reason
    assert "; by the distance from the training, as structure 1 cannot be predicted: " in found.expected


def test_a_fit_to_the_ldos_alone_compares_by_distance(data, al4):
    """Its posterior would call the free energies of all candidates exactly known."""
    config = SurrogateConfig.of({**CONFIG.model_dump(), "energy_weight": 0.0, "force_weight": 0.0})
    found = fitted(config, data, al4).lessons([displaced(0.05, 0), displaced(0.3, 2)], 1)
    assert found.chosen[0].number == 1
    assert "times as far from all that is known" in found.chosen[0].reason
