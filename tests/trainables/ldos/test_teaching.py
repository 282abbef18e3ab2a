"""Which structures teach a surrogate most."""

import ase
import ase.build
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dftune.trainables.data.structure_distance import atoms_of
from dftune.trainables.errors import InputError, ModelError
from dftune.trainables.ldos.neighbours import nearest
from dftune.trainables.ldos.teaching import is_free
from dftune.trainables.structures import StructureError


@pytest.fixture(scope="module")
def near(al4) -> list[ase.Atoms]:
    """Structures of the training."""
    return [atoms_of(s) for s in al4.split("train")][:3]


def displaced(sigma: float, seed: int) -> ase.Atoms:
    atoms = ase.build.bulk("Al", "fcc", a=4.05, cubic=True)
    atoms.positions += np.random.default_rng(seed).normal(0, sigma, (4, 3))
    return atoms


def test_what_is_far_from_the_training_is_chosen_first(model, near):
    found = model.surrogate.lessons([near[0], displaced(0.3, 0), near[1], displaced(0.45, 1)], 2)
    assert {one.number for one in found.chosen} == {1, 3}
    assert found.chosen[0].worth > found.chosen[1].worth > 1.5
    assert found.n == 4


def test_of_two_equal_structures_one_is_enough(model, near):
    """Ranked by their distances alone, both would come before all others."""
    far, other = displaced(0.3, 0), displaced(0.45, 1)
    found = model.surrogate.lessons([far, *near, far.copy(), other], 2)
    assert {one.number for one in found.chosen} in ({0, 5}, {4, 5})


def test_what_is_chosen_is_known_afterwards(model, near):
    some = [*near, displaced(0.3, 0)]
    found = model.surrogate.lessons(some, 1)
    assert found.before > found.after > 0
    assert model.surrogate.lessons(some, 4).after == pytest.approx(0, abs=1e-3)
    assert "errors to expect of them" in found.expected


def test_the_distance_is_about_that_of_a_prediction(model):
    """On a grid three times as coarse."""
    for seed, sigma in enumerate((0.1, 0.3)):
        atoms = displaced(sigma, seed)
        (lesson,) = model.surrogate.lessons([atoms], 1).chosen
        assert lesson.worth == pytest.approx(model.predict(atoms).distance, rel=0.1)


def test_the_nearest_point_is_that_of_a_search_over_all_pairs():
    rng = np.random.default_rng(0)
    points, others = (rng.normal(size=(n, 7)).astype(np.float32) for n in (1500, 40))
    np.testing.assert_allclose(nearest(points, others), cdist(points, others, "sqeuclidean").min(axis=1), atol=1e-4)


def test_a_cell_larger_than_twice_the_cutoff_is_told(model):
    sheared = np.array([[8.1, 0, 0], [7.0, 8.1, 0], [0, 0, 8.1]])  # no edge is short, but a height is
    assert is_free(8.1 * np.eye(3), 4.0)
    assert not is_free(sheared, 4.0)
    assert not is_free(8.1 * np.eye(3), 4.1)
    large = displaced(0.1, 0).repeat(3)
    assert "larger than twice the cutoff" in model.surrogate.lessons([large], 1).chosen[0].reason
    assert "larger" not in model.surrogate.lessons([displaced(0.1, 0)], 1).chosen[0].reason


def test_what_cannot_be_chosen_is_refused(model, near):
    choose = model.surrogate.lessons
    for number, some in ((1, []), (4, near), (0, near)):
        with pytest.raises(InputError, match=f"{number} structures cannot be chosen of {len(some)}"):
            choose(some, number)
    with pytest.raises(StructureError, match=r"structure 1: .*Mg"):
        choose([near[0], ase.Atoms("Mg", cell=4 * np.eye(3), pbc=True)], 1)
    on_top = near[0].copy()
    on_top.positions[1] = on_top.positions[0] + 0.01
    with pytest.raises(StructureError, match="structure 0"):
        choose([on_top], 1)
    blind = replace_neighbours(model.surrogate)
    with pytest.raises(ModelError, match="does not know the points of its training"):
        blind.lessons(near, 1)


def replace_neighbours(surrogate):
    """The same surrogate as an early version saved it."""
    return type(surrogate)(surrogate.card, surrogate.network, surrogate.scaling, None)
