"""Datasets of configurations: energies, checksums, splits and images."""

import shutil

import numpy as np
import pytest

from dftune.trainables.alloys.data import ROWS, AlloyData, formation_energy, total_energy, with_orbits
from dftune.trainables.alloys.lattice import orbit_key
from dftune.trainables.alloys.splits import SplitSettings, images, split_rows
from dftune.trainables.alloys.training_data import read_training_data
from dftune.trainables.errors import DatasetError
from dftune.trainables.physics.units import RYDBERG


def test_formation_energies_are_those_of_the_line_between_the_pure_crystals(cuau):
    n = cuau.all.n_second
    pure = cuau.all.energy[n == 0][0], cuau.all.energy[n == 32][0]
    line = pure[0] + (pure[1] - pure[0]) * n / 32  # another route: the line by its ends
    assert cuau.formation_energies == pytest.approx(cuau.all.energy - line, abs=2e-8)
    assert cuau.formation_energies.min() == pytest.approx(-0.7217625310877338 * RYDBERG, abs=1e-7)  # the LSMS table
    assert cuau.formation_energies[(n == 0) | (n == 32)] == pytest.approx(np.zeros(2), abs=1e-8)


def test_formation_energies_go_back_to_total_energies(cuau):
    pure, species = cuau.info.pure_energies, cuau.all.species
    again = total_energy(formation_energy(cuau.all.energy, species, pure), species, pure)
    assert abs(again - cuau.all.energy).max() <= np.spacing(abs(cuau.all.energy)).max()


def test_float32_would_lose_what_is_learnt(cuau):
    rounded = cuau.all.energy.astype(np.float32).astype(float)
    error = abs(rounded - cuau.all.energy).max() / 32 / (1e-3 * RYDBERG)
    assert error > 0.5  # mRy/atom; the shell model is better than that


def test_charges_are_neutral_and_pure_crystals_have_none(cuau):
    assert abs(cuau.net_charges.sum(axis=1)).max() < 1e-3
    assert abs(cuau.net_charges[cuau.all.n_second == 0]).max() < 1e-4
    assert cuau.net_charges[cuau.all.species == 1].mean() < -0.05  # cells are of one size, gold is larger


def test_every_row_is_checked(fept):
    checks = list(fept.check())
    assert len(checks) == len(fept.all) == 118
    assert max(c.largest_change for c in checks) < 1e-6


def flip_a_bit(file):
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # of a number, so that the table can be read
    file.write_bytes(damaged)


@pytest.mark.parametrize(
    "read", [AlloyData.verify, lambda data: data.all, lambda data: list(data.check())], ids=["verify", "read", "check"]
)
@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / ROWS).unlink(), "missing; import the dataset again"),
        (lambda folder: flip_a_bit(folder / ROWS), "its SHA-256 differs"),
        (lambda folder: (folder / ROWS).write_bytes((folder / ROWS).read_bytes()[:-99]), "its SHA-256 differs"),
        (lambda folder: (folder / "dataset.json").unlink(), "dataset.json is missing"),
        (lambda folder: (folder / "dataset.json").write_text('{"kind": "alloys"}'), "symbols: field required"),
    ],
)
def test_damaged_datasets_are_refused(cuau, tmp_path, damage, text, read):
    folder = shutil.copytree(cuau.path, tmp_path / "CuAu")
    damage(folder)
    with pytest.raises(DatasetError, match=text):
        read(AlloyData.open(folder))


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize("seed", range(8))
def test_no_image_of_a_test_configuration_is_trained_on(cuau, seed):
    training, test = read_training_data(cuau, SplitSettings(seed=seed))
    rows = cuau.info.lattice.permutations

    def orbits(species):  # computed here, not read from the table
        return {orbit_key(one, rows) for one in species}

    seen = orbits(training.train.species), orbits(training.validation.species), orbits(test.species)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not seen[one] & seen[other]
    assert sum(map(len, seen)) == len(cuau.all)


def test_images_in_the_data_stay_with_their_orbit(cuau):
    rng, rows = np.random.default_rng(0), cuau.info.lattice.permutations
    twice = cuau.all.take(np.repeat(np.arange(len(cuau.all)), 2))
    moved = images(twice.species, rows, rng.integers(len(rows), size=len(twice)))
    doubled = AlloyData(cuau.path, cuau.info)
    object.__setattr__(twice, "species", moved)
    doubled.__dict__["all"] = twice
    split = split_rows(doubled, SplitSettings())
    found = {name: {twice.orbit[i] for i in some} for name, some in split.items()}
    assert not found["train"] & (found["test"] | found["validation"])
    assert len(split["test"]) == 2 * len(found["test"])
    assert with_orbits(moved[:6], cuau.info.lattice)[0] == twice.orbit[:6]


def test_splits_are_stratified_by_composition(cuau):
    counts = np.zeros(33)
    for seed in range(20):
        split = split_rows(cuau, SplitSettings(seed=seed))
        n = cuau.all.n_second[split["test"]]
        assert {0, 32} <= set(cuau.all.n_second[split["train"]].tolist())
        assert len(n) == 29
        # In every fifth of the compositions there is about a fifth of the test configurations.
        shares = np.histogram(n, bins=np.quantile(cuau.all.n_second, np.linspace(0, 1, 6)))[0] / 29
        assert shares.min() > 0.1, shares
        assert shares.max() < 0.3, shares
        counts += np.bincount(n, minlength=33)
    assert (counts[1:32] > 0).all()  # no composition is never judged
    first, again = (split_rows(cuau, SplitSettings(seed=3))["test"] for _ in range(2))
    assert (first == again).all()
    assert (split_rows(cuau, SplitSettings(seed=4))["test"] != first).any()


def test_a_learning_curve_keeps_the_test_data(cuau):
    whole, part = (split_rows(cuau, SplitSettings(seed=1, rows=rows)) for rows in (None, 40))
    assert (whole["test"] == part["test"]).all()
    assert (whole["validation"] == part["validation"]).all()
    assert len(part["train"]) == 40
    assert set(part["train"]) < set(whole["train"])


def test_in_folds_all_but_the_test_takes_turns_at_validation(cuau):
    settings = SplitSettings(seed=2, folds=5)
    whole, folds = split_rows(cuau, settings), [split_rows(cuau, settings, fold) for fold in range(5)]
    turns = np.sort(np.concatenate([one["validation"] for one in folds]))
    assert all((one["test"] == whole["test"]).all() for one in folds)
    known = set(whole["train"]) | set(whole["validation"])
    pure = {row for row in known if cuau.all.n_second[row] in (0, 32)}
    assert turns.tolist() == sorted(known - pure), "each once; pure crystals are always trained on"
    for one in folds:
        assert set(one["train"]) == known - set(one["validation"])
        assert {round(n / 32, 1) for n in cuau.all.n_second[one["validation"]]} >= {0.2, 0.4, 0.5, 0.6, 0.8}
    training, _ = read_training_data(cuau, settings)
    for fold, rows in zip(training.folds, folds, strict=True):
        assert (fold.validation.species == cuau.all.species[rows["validation"]]).all()
        assert (fold.train.species == cuau.all.species[rows["train"]]).all()
    assert not read_training_data(cuau, SplitSettings(seed=2))[0].folds


@pytest.mark.parametrize("settings, fold", [(SplitSettings(), None), (SplitSettings(folds=3, test=0.01), 2)])
def test_too_few_orbits_are_refused(cuau, settings, fold):
    few = AlloyData(cuau.path, cuau.info)
    few.__dict__["all"] = cuau.all.take([0, 1, 2, len(cuau.all) - 1])
    with pytest.raises(DatasetError, match="2 mixed orbits are too few for three splits"):
        split_rows(few, settings, fold)


def test_images_have_the_permuted_targets(fept):
    """The image of a configuration, its charges and moments move together, as the table's lattice says."""
    rows = fept.info.lattice.permutations
    training, _ = read_training_data(fept, SplitSettings())
    batch = training.sample(64, np.random.default_rng(0))
    positions = fept.info.lattice.positions
    assert len(rows) == 512
    for sigma, charge, row in zip(batch.sigma, batch.values["C"], batch.rows, strict=True):
        original = training.train.sigma[row]
        mean, std = training.scaling["C"]
        (found,) = [
            operation
            for operation in rows
            if (original[operation] == sigma).all()
            and np.allclose(training.train.values["C"][row][operation], charge * std + mean, atol=1e-5)
        ][:1]
        assert (np.sort(found) == np.arange(len(positions))).all()
