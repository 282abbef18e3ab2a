"""What is said of cells outside those of the training."""

from dataclasses import replace

import numpy as np
import pytest

from dftune.trainables.ldos.ranges import TrainingRanges


@pytest.fixture(scope="module")
def one(al4) -> TrainingRanges:
    """Of cubic cells of one size."""
    return TrainingRanges.of(al4.split("train"))


@pytest.fixture(scope="module")
def several(al4) -> TrainingRanges:
    """The same, with cells up to 3 % longer and shorter."""
    snapshots = al4.split("train")
    return TrainingRanges.of(replace(s, cell=f * s.cell) for s, f in zip(snapshots, (0.97, 1, 1.03), strict=False))


CUBE = 4.05 * np.eye(3)


def test_a_card_says_of_which_temperatures_the_training_was(al4, model):
    warm = [replace(s, temperature=kelvin) for s, kelvin in zip(al4.split("train"), (1000.0, 5000.0), strict=False)]
    card = model.card.model_copy(update={"ranges": TrainingRanges.of(warm), "temperature": 3000.0})
    assert card.facts()["temperature"] == "3000.0 K, the mean of 1000.0 to 5000.0 K"
    assert model.card.facts()["temperature"] == "3157.8 K"


def test_cells_of_the_training_and_their_multiples_are_inside(one):
    for cell, n_atoms in ((CUBE, 4), (np.diag([2, 1, 3]) @ CUBE, 24), (CUBE * (1 + 1e-6), 4)):
        assert one.outside(cell, n_atoms, -290.0) == []


@pytest.mark.parametrize("strain", [-0.04, -0.02, -0.01, 0.01, 0.02, 0.04])
def test_another_volume_is_outside_and_its_error_is_told_in_size(one, strain):
    """Measured with such a model against DFT: 0.95 eV/atom for 1 %."""
    (text,) = one.outside((1 + strain) * CUBE, 4, -294.0 / (1 + strain))
    size = float(text.split("of the order of ")[1].split(" eV/atom")[0])
    assert 0.5 < size / (95 * abs(strain)) < 1.5
    assert "no stress or equation of state" in text


def test_stresses_leave_an_error_of_second_order_at_another_volume(al4):
    """Measured with such a model against DFT: 2 to 15 meV/atom for 1 %, 4 to 50 for 2 %."""
    one = TrainingRanges.of(al4.split("train"), stresses=True)
    for strain, low, high in ((-0.01, 2, 5), (0.02, 10, 20)):
        (text,) = one.outside((1 + strain) * CUBE, 4, -294.0 / (1 + strain))
        assert low < float(text.split("of the order of ")[1].split(" meV/atom")[0]) < high
        assert "stress and equation of state hold near it only" in text
    assert one.one_volume
    assert not one.without_stress


@pytest.mark.parametrize("n_atoms", [1, 3, 5])
def test_a_vacancy_a_gas_and_an_interstitial_are_outside(one, n_atoms):
    (text,) = one.outside(CUBE, n_atoms, None)
    assert "Å³ an atom" in text


def test_a_training_over_volumes_promises_the_range_between_them(several):
    assert several.outside(1.02 * CUBE, 4, -290.0) == []
    (text,) = several.outside(1.05 * CUBE, 4, -290.0)
    assert "stress and equation of state hold inside only" in text


@pytest.mark.parametrize(
    "cell, n_atoms, text",
    [
        (np.diag([1.02, 1 / 1.02, 1]) @ CUBE, 4, "no multiple of the 4.05"),
        (CUBE @ np.array([[1, 0.03, 0], [0, 1, 0], [0, 0, 1]]), 4, "angles of 88"),
        (2.025 * (1 - np.eye(3)), 1, "angles of 60°, and 90° in the training"),
    ],
    ids=["stretched", "sheared", "primitive"],
)
def test_a_cell_of_another_shape_is_told(one, cell, n_atoms, text):
    (found,) = one.outside(cell, n_atoms, None)
    assert text in found
