"""A readout on energies relative to the Fermi level, which gives the absolute energy of that level, too."""

from dataclasses import replace

import ase
import numpy as np
import pytest

from dftune import Model
from dftune.tests.trainables.ldos.readout.errors import mean_errors
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.energy_reference import interpolation, references, relative_grid
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.kind import LdosKind
from dftune.trainables.ldos.readout.electrons import Ions
from dftune.trainables.ldos.readout.evaluate import evaluate
from dftune.trainables.ldos.readout.features import set_readout
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.readout.rows import energy_rows, force_rows, reference
from dftune.trainables.ldos.training_data import relative_to_fermi_levels
from dftune.trainables.physics.energies import n_electrons
from dftune.trainables.physics.smearing import broadening

CONFIG = SurrogateConfig.of({"training": "none", "width": 48, "penalty": 1.0, "energies": "fermi"})


@pytest.fixture(scope="module")
def relative(data):
    return data.relative_to_fermi_levels()


@pytest.fixture(scope="module")
def trained(relative):
    return fit(CONFIG, relative, seeds=[3, 4])


@pytest.fixture(scope="module")
def model(al4, relative, trained) -> Model:
    ingredients = relative.ingredients
    accuracy = judge(
        trained.network, trained.scaling, relative.energy_grid, relative.validation, ingredients=ingredients
    ).accuracy
    card = card_for(
        "by hand",
        CONFIG,
        trained.seeds,
        al4.only([al4[n] for n in ("000", "001", "002", "006")]),
        relative.descriptors,
        accuracy,
    )
    return Model.assemble(card, trained.network.arrays() | trained.scaling.tensors())


def test_an_ldos_between_its_energies_is_that_of_the_same_states():
    grid = EnergyGrid(minimum=-6.0, spacing=0.25, n_energy=61, kernel="gaussian", width=0.5)
    states = np.linspace(-3.0, 7.5, 300)  # a band
    other = grid.energy[4:-4] + 0.09
    stored, expected = (
        broadening(e[:, None] - states, kernel="gaussian", width=0.5).sum(axis=1) for e in (grid.energy, other)
    )
    np.testing.assert_allclose(stored @ interpolation(grid, other), expected, atol=6e-4 * expected.max())
    at_stored = interpolation(grid, grid.energy)
    np.testing.assert_allclose(at_stored, np.eye(61), atol=1e-12)
    outside = stored @ interpolation(grid, np.array([-6.3, 9.0, 9.4]))
    assert outside.tolist() == pytest.approx([0.0, stored[-1], stored[-1]])


def test_energies_are_relative_to_the_level_of_each_snapshot(data, relative, al4):
    highest = max(d.snapshot.fermi_level for d in data.train)
    assert relative.energy_grid.minimum == pytest.approx(data.energy_grid.minimum - highest)
    assert relative.energy_grid.n_energy == data.energy_grid.n_energy
    for before, after in zip(data.train, relative.train, strict=True):
        level = before.snapshot.fermi_level
        assert after.level == level
        known = reference(after, ions_of(relative, after))  # it refuses energies that are not those of the LDOS
        assert known.levels.fermi_level == pytest.approx(0, abs=0.01), "that of the LDOS itself is 0"
        moved = np.interp(relative.energy_grid.energy + level, data.energy_grid.energy, before.dos())
        assert np.abs(after.dos() - moved).max() < 0.03 * moved.max()


def test_what_cannot_be_relative_is_refused(data):
    lost = replace(data.train[0], snapshot=replace(data.train[0].snapshot, fermi_level=None))
    with pytest.raises(DatasetError, match=r"snapshot 000: has no Fermi level.*energies = 'absolute'"):
        replace(data, train=[lost, *data.train[1:]]).relative_to_fermi_levels()
    narrow = data.energy_grid.model_copy(update={"width": 0.2})
    with pytest.raises(DatasetError, match=r"broadened by 0.2 eV, less than their distance of 0.5 eV"):
        relative_grid(narrow, [d.snapshot for d in data.train])
    with pytest.raises(InputError, match=r"energies = 'fermi' needs the readout"):
        SurrogateConfig.of({"energies": "fermi", "readout": "never"})


def ions_of(data, snapshot):
    return Ions(snapshot.snapshot, data.energy_grid, data.dft, data.species)


def test_rows_are_derivatives_of_energies_forces_and_the_level(data, relative, trained, rng):
    """The linear rows against central differences of what ``evaluate`` computes on its own way."""
    first, network = relative.train[1], trained.network.only(0)
    scaling = relative.scaling
    last = [network.weights[-1], network.biases[-1]]
    weights = np.concatenate([p.detach().double().numpy() for p in last], axis=1)
    weights = np.concatenate([weights, network.reference.double().numpy()[..., None]], axis=2)
    known = reference(first, ions_of(relative, first))
    rows = energy_rows(network, scaling, first, ions_of(relative, first), known)
    assert rows.kinds == ("free_energy", "reference")
    forces = force_rows(network, scaling, first, known, relative.descriptors)
    direction = np.zeros_like(weights)
    direction[..., -1] = rng.normal(size=weights.shape[1]) * 5e-2  # of the level alone: A is linear in it
    found = []
    for step in (-1.0, 1.0):
        set_readout(network, weights + step * direction)
        one = evaluate(network, scaling, first, ions_of(relative, first), settings=relative.descriptors, forces=True)
        found.append((one.free_energy[0], one.levels[0], one.forces[0]))
    energy, level, force = ((b - a) / 2 for a, b in zip(*found, strict=True))
    assert abs(level) > 0.01  # eV: something to be right about
    assert rows.of(direction)[0] == pytest.approx([energy, level], rel=1e-4)
    assert energy == pytest.approx(3 * level), "A holds the level once an electron"
    np.testing.assert_allclose(forces.of(direction)[0], -force.reshape(-1), atol=2e-4 * np.abs(force).max())
    assert (np.abs(force).max()) > 1e-3


def test_training_snapshots_are_right_in_energies_forces_and_levels(relative, trained):
    found = [evaluated(trained.network, d, data=relative, forces=True) for d in relative.train]
    errors = mean_errors(found)
    assert errors["free_energy_mae"] < 0.1
    assert errors["forces_mae"] < 0.005
    for d, one in zip(relative.train, found, strict=True):
        assert np.abs(one.levels - d.level).max() < 0.05


def test_another_zero_of_the_energies_moves_the_predictions_and_nothing_else(data, relative, trained):
    """Each snapshot's absolute energies may begin anywhere: levels and energies follow, the LDOS does not."""
    shift = 2.75
    grid = data.energy_grid.model_copy(update={"minimum": data.energy_grid.minimum + shift})

    def moved(d):
        s = d.snapshot
        by = s.n_electrons * shift
        s = replace(
            s, fermi_level=s.fermi_level + shift, total_energy=s.total_energy + by, band_energy=s.band_energy + by
        )
        return replace(d, snapshot=s)

    other = replace(
        data, energy_grid=grid, train=[*map(moved, data.train)], validation=[*map(moved, data.validation)]
    ).relative_to_fermi_levels()
    again = fit(CONFIG, other, seeds=[3])
    before, after = trained.network, again.network
    np.testing.assert_allclose(after.weights[-1][0].detach(), before.weights[-1][0].detach(), atol=1e-3)
    d = data.validation[0]
    at = [evaluated(n, d, data=other).levels[0] for n in (before, after)]
    assert at[1] - at[0] == pytest.approx(shift, abs=1e-3)

    def errors(network, data):
        return mean_errors([evaluated(network, d, data=data, forces=True) for d in data.validation])

    assert errors(after, other) == pytest.approx(errors(before.only(0), relative), rel=1e-2, abs=5e-3)


def test_a_model_gives_absolute_energies(model, al4, relative, trained):
    """The passes over a structure against what the judge of the readout computes."""
    s = al4["006"]
    prediction = model.predict(ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True), grid=s.grid, forces="mean")
    d = relative.validation[0]
    found = evaluate(
        trained.network, relative.scaling, d, ions_of(relative, d), settings=relative.descriptors, forces=True
    )
    assert prediction.free_energy == pytest.approx(s.total_energy + 4 * found.free_energy.mean(), abs=2e-4)
    assert prediction.band_energy == pytest.approx(s.band_energy + 4 * found.band_energy.mean(), abs=2e-4)
    np.testing.assert_allclose(prediction.forces, s.forces + found.forces.mean(axis=0), atol=1e-3)
    assert prediction.fermi_level == pytest.approx(s.fermi_level, abs=0.1)
    # Its DOS lies on absolute energies: at its Fermi level it holds the electrons.
    rule = model.card.energy_grid.model_copy(update={"minimum": prediction.energy[0]}).quadrature()
    at = {"fermi_level": prediction.fermi_level, "temperature": prediction.temperature}
    assert n_electrons(prediction.dos, rule, **at) == pytest.approx(12, abs=1e-3)
    assert "relative to the Fermi level" in model.card.facts()["LDOS"]


def test_forces_and_stress_are_differences_of_the_free_energy(model, al4):
    s = al4["007"]
    atoms = ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
    found, rule = model.predict(atoms, stress=True), ((1, 8), (-1, -8), (2, -1), (-2, 1))  # five points
    step = 0.02
    slope = 0.0
    for shift, weight in rule:
        moved = atoms.copy()
        moved.positions[2, 1] += shift * step
        slope += weight * model.predict(moved).free_energy / (12 * step)
    assert found.forces[2, 1] == pytest.approx(-slope, abs=1e-4)
    step = 0.003
    for a, b in ((0, 0), (1, 2)):
        slope = 0.0
        for shift, weight in rule:
            strained, strain = atoms.copy(), np.eye(3)
            strain[a, b] += shift * step
            strained.set_cell(np.array(atoms.cell) @ strain.T, scale_atoms=True)
            slope += weight * model.predict(strained, grid=found.grid).free_energy / (12 * step)
        assert found.stress[a, b] == pytest.approx(slope / atoms.get_volume(), abs=1e-4)


def test_a_supercell_has_the_same_level_and_twice_the_energy(model, al4):
    s = al4["000"]
    atoms = ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
    one, two = model.predict(atoms), model.predict(atoms * (2, 1, 1))
    assert two.fermi_level == pytest.approx(one.fermi_level, abs=1e-5)
    assert two.free_energy == pytest.approx(2 * one.free_energy, abs=1e-3)


def test_a_check_judges_it_against_any_zero(model, al4):
    some = al4.only([al4["000"], al4["006"]])
    found = model.surrogate.check(some)
    assert abs(found.snapshots[0].energies["free_energy"]) < 1  # meV/atom, of the training
    assert found.accuracy.ldos_r2 > 0.9
    assert found.snapshots[0].dos_rmse < 0.02


def test_the_kind_trains_and_judges_on_relative_energies(data):
    kind, reports = LdosKind(), []
    made = kind.train(CONFIG, data, seeds=[3], device="cpu", memory=1e9, report=reports.append, for_ranking=True)
    judgement = kind.judge(made, data, data.validation)
    assert made.network.reference is not None
    assert judgement.accuracy.free_energy_mae == pytest.approx(reports[-1]["best_free_energy_mae"], rel=1e-3)
    assert judgement.accuracy.free_energy_mae < 100


def test_levels_above_those_of_the_training_take_the_last_energy(data, relative):
    s = data.train[0].snapshot
    (found,) = references(data.energy_grid, relative.energy_grid, [replace(s, fermi_level=s.fermi_level + 1.0)])
    assert found.matrix[-1, -3:].tolist() == [1.0, 1.0, 1.0]
    (moved,) = relative_to_fermi_levels([data.train[0]], data.energy_grid, relative.energy_grid)
    assert [len(shard) for shard in moved.learnt] == [len(shard) for shard in data.train[0].ldos]
    assert moved.learnt[0:1][0][3:5].shape == (2, 37)
