"""Which configurations are unlike those of a training."""

import ase
import ase.io
import numpy as np
import pytest

from dftune import Model
from dftune.tests.trainables.alloys.conftest import EXAMPLES
from dftune.trainables.alloys.accuracy import spread_of
from dftune.trainables.alloys.order import contents_of, far_content, ranges_of, unlike, warren_cowley
from dftune.trainables.alloys.splits import SplitSettings, split_rows

STRIPES = np.array([0, 1] * 16, dtype=np.uint8)  # B2 on the sites of the bcc cell


def test_warren_cowley_counts_unlike_neighbours(fept):
    """α = 1 - P(B next to A) / x_B, counted pair by pair with ASE's distances."""
    lattice = fept.info.lattice
    species = fept.all.species[abs(fept.all.species.mean(axis=1) - 0.4) < 0.1][0]
    atoms = lattice.atoms(np.where(species, "Pt", "Fe").tolist()).repeat(2)
    apart = atoms.get_all_distances(mic=True)
    nearest = abs(apart - apart[apart > 0.1].min()) < 0.01
    is_b = atoms.numbers == 78
    unlike_share = nearest[~is_b][:, is_b].sum() / nearest[~is_b].sum()
    found = warren_cowley(lattice, species[None], 1)[0, 0]
    assert found == pytest.approx(1 - unlike_share / is_b.mean(), abs=1e-12)
    assert np.isnan(warren_cowley(lattice, np.zeros((1, 32), np.uint8), 2)).all()


def test_order_that_no_row_has_is_found_and_test_rows_are_not(cuau, fept):
    for data, ordered in ((fept, STRIPES), (cuau, species_of_example(cuau))):
        rows = split_rows(data, SplitSettings())
        lattice, known = data.info.lattice, ranges_of(data.info.lattice, data.all.species[rows["train"]])
        (said,) = unlike(lattice, ordered, known)
        assert "its order is unlike the training: the Warren-Cowley parameter of neighbour shell" in said
        assert not any(unlike(lattice, one, known) for one in data.all.species[rows["test"]])
        assert unlike(lattice, np.zeros(32, np.uint8), known) == [], "a pure crystal has no order"
        twice = lattice.repeated((2, 1, 1))
        assert unlike(twice, np.tile(ordered, 2), known) == [said], "the size of the cell tells nothing"


def test_a_composition_far_from_all_rows_is_found(fept):
    known = contents_of(fept.all.species[fept.all.species.sum(axis=1) <= 8])
    assert known == [n / 32 for n in range(9)]
    assert far_content(10 / 32, known, "Pt") == []
    assert far_content(0.5, [], "Pt") == [], "models of before say nothing"
    (said,) = far_content(11 / 32, known, "Pt")
    assert said.startswith("its share of Pt is unlike the training: 34.4 %, and the nearest there 25 %")
    every = contents_of(fept.all.species[split_rows(fept, SplitSettings(rows=20))["train"]])
    assert not any(far_content(n / 32, every, "Pt") for n in range(33)), "20 orbits leave no gap"


def species_of_example(data):
    atoms = ase.io.read(EXAMPLES / "CuAu_L10.xyz")
    species = np.empty(32, np.uint8)
    species[data.info.lattice.sites_of(atoms)] = [data.info.symbols.index(s) for s in atoms.get_chemical_symbols()]
    return species


def test_a_model_says_that_it_extrapolates(alloy):
    """And has no spread without training, where all its networks are one solution."""
    model = Model.open(alloy)
    ordered = model.predict(EXAMPLES / "CuAu_L10.xyz")
    assert ordered.outside_training == ordered.warnings
    assert "neighbour shell" in ordered.warnings[0]
    assert "errors to expect: unknown" in "\n".join(ordered.lines())
    mixed = model.predict("01101001100101100010110111010010").to_dict()
    assert (mixed["warnings"], mixed["expected_errors"]) == ([], model.card.accuracy.stated_error)
    assert not any(name.endswith("_std") for name in mixed)
    assert model.card.n_initializations == 2
    assert "spread" not in "\n".join(model.card.accuracy.lines())
    older = model.surrogate.card.model_copy(update={"order": []})
    assert unlike(older.lattice, STRIPES, older.order) == [], "models of before say nothing"


def test_networks_that_differ_have_a_spread():
    assert spread_of(np.array([[1.0, 2.0], [1.0, 4.0]])).tolist() == [0.0, 1.0]
    assert spread_of(np.array([[1.0, 2.0], [1.0, 2.0 + 1e-12]])) is None
    assert spread_of(np.array([[1.0, 2.0]])) is None
