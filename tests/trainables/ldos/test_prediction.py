"""From atoms to free energy and forces, by independent routes; the model of ``conftest`` has T = 2."""

import re
from dataclasses import replace

import ase
import numpy as np
import pytest

from dftune import Model
from dftune.platform.model.model import ModelError
from dftune.trainables.data.kohn_sham import CoreCharge, KohnSham
from dftune.trainables.errors import InputError
from dftune.trainables.ldos import passes
from dftune.trainables.ldos.prediction import gap
from dftune.trainables.physics.energies import energies
from dftune.trainables.physics.ewald import ewald
from dftune.trainables.physics.exchange_correlation import exchange_correlation
from dftune.trainables.physics.hartree import hartree
from dftune.trainables.physics.reciprocal import DensitySphere

RADIUS = np.linspace(0.0, 3.0, 301)  # Å
# PBE with a Gaussian core charge of two electrons: no functional of aluminium, but every term of the forces is there.
PBE = KohnSham(
    functional="pbe",
    density_cutoff=816.0,
    core_charges={"Al": CoreCharge(radius=tuple(RADIUS), density=tuple(2 * np.exp(-((RADIUS / 0.4) ** 2)) / 0.356))},
)


@pytest.fixture(scope="module")
def atoms(al4) -> ase.Atoms:
    s = al4["010"]
    return ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)


@pytest.fixture(scope="module")
def single(model) -> Model:
    """The first initialisation alone."""
    weights = {name: w[:1] for name, w in model.surrogate.network.arrays().items()}
    card = model.card.model_copy(update={"n_initializations": 1})
    return Model.assemble(card, weights | model.surrogate.scaling.tensors())


def with_dft(model, dft) -> Model:
    return Model.assemble(model.card.model_copy(update={"dft": dft}), model.surrogate.tensors())


@pytest.fixture(scope="module")
def found(single, atoms):
    job = single.prepare(atoms)
    ldos = job.empty_ldos()
    return job.run(ldos=ldos), ldos.astype(float)


def test_the_terms_are_those_of_the_predicted_ldos(single, atoms, found):
    prediction, ldos = found
    card, volume, n = single.card, atoms.get_volume(), prediction.density
    quadrature = card.energy_grid.quadrature()
    dos = ldos.mean(axis=(0, 1, 2)) * volume
    np.testing.assert_allclose(prediction.dos, dos, rtol=1e-6)
    at = energies(dos, quadrature, electrons=12.0, temperature=card.temperature)
    assert prediction.fermi_level == pytest.approx(at.fermi_level, abs=1e-6)
    assert prediction.band_energy == pytest.approx(at.band, abs=1e-5)
    assert prediction.entropy_term == pytest.approx(at.entropy, abs=1e-6)
    assert n.mean() * volume == pytest.approx(12.0, rel=1e-9), "the Fermi level holds the electrons"
    sphere = DensitySphere(np.array(atoms.cell), prediction.grid, card.dft.density_cutoff)
    xc, potential = exchange_correlation(n, sphere, "lda-pz")
    assert prediction.hartree_energy == pytest.approx(hartree(n, sphere)[0], rel=1e-12)
    assert prediction.xc_energy == pytest.approx(xc, rel=1e-12)
    assert prediction.xc_potential_energy == pytest.approx((potential * n).mean() * volume, rel=1e-12)
    assert prediction.ewald_energy == pytest.approx(ewald(np.array(atoms.cell), atoms.positions, np.full(4, 3.0))[0])


def test_the_free_energy_is_near_that_of_quantum_espresso(model, atoms, al4):
    # About what the small model can do; a sign or a term amiss would be eV an atom.
    found = model.predict(atoms)
    assert 1e3 * abs(found.free_energy - al4["010"].total_energy) / 4 < 30
    p = found
    total = p.band_energy + p.entropy_term - p.hartree_energy + p.xc_energy - p.xc_potential_energy + p.ewald_energy
    assert p.free_energy == pytest.approx(total, abs=1e-9)
    assert 0 < p.std["free_energy"] < 0.2
    assert p.std["ewald_energy"] == 0


def test_other_temperatures_follow_from_the_entropy(model, atoms):
    """∂A/∂τ = -S and ∂(A + τS)/∂τ = C, by differences over temperatures; and A at its own is A."""
    own, step = model.card.temperature, 20.0
    found = model.predict(atoms, temperatures=[own, 4000 - step, 4000.0, 4000 + step])
    same, below, here, above = found.heated
    for name in ("free_energy", "entropy_term", "fermi_level"):
        assert getattr(same, name) == pytest.approx(getattr(found, name), abs=1e-9)
        assert same.std[name] == pytest.approx(found.std[name], abs=1e-9)
    slope = (above.free_energy - below.free_energy) / (2 * step)
    assert slope == pytest.approx(here.entropy_term / 4000, rel=1e-4)
    assert here.internal_energy == pytest.approx(here.free_energy - here.entropy_term, abs=1e-9)
    capacity = (above.internal_energy - below.internal_energy) / (2 * step)
    assert here.heat_capacity == pytest.approx(capacity, rel=1e-4)
    assert 0 < here.std["heat_capacity"] < 0.1 * here.heat_capacity
    assert model.predict(atoms).heated == ()


def test_without_a_functional_there_are_entropies_and_no_free_energies(model, atoms):
    (one,) = with_dft(model, None).predict(atoms, temperatures=[5000.0]).heated
    assert one.free_energy is one.internal_energy is None
    assert one.entropy_term < 0 < one.heat_capacity
    assert "free_energy" not in one.row(4)


def test_too_many_temperatures_are_refused(model, atoms):
    with pytest.raises(ModelError, match="1001 temperatures; give 1000 or fewer"):
        model.prepare(atoms, temperatures=[300.0] * 1001)


def test_means_and_spreads_are_those_of_the_initialisations(model, single, atoms):
    both, first = model.predict(atoms), single.predict(atoms)
    # With T = 2 the standard deviation is half the difference, so each value is the mean plus or minus it.
    for name, std in both.std.items():
        assert abs(getattr(both, name) - getattr(first, name)) == pytest.approx(std, abs=1e-7)
    np.testing.assert_allclose(np.abs(both.dos - first.dos), both.dos_std, atol=1e-6)


@pytest.mark.parametrize("dft", [None, PBE], ids=["lda", "pbe with core charge"])
def test_forces_are_finite_differences_of_the_free_energy(model, atoms, dft):
    model = model if dft is None else with_dft(model, dft)
    forces, step = model.predict(atoms, forces="mean").forces, 0.02
    for atom, axis in ((0, 0), (2, 1), (3, 2)):
        slope = 0.0
        for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):  # the five-point rule
            moved = atoms.copy()
            moved.positions[atom, axis] += shift * step
            slope += weight * model.predict(moved).free_energy / (12 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-4)
    assert np.abs(forces).max() > 0.1, "eV/Å: nothing to compare otherwise"


@pytest.mark.parametrize("dft", [None, PBE], ids=["lda", "pbe with core charge"])
def test_the_stress_is_the_derivative_of_the_free_energy_on_a_held_grid(model, atoms, dft):
    model = model if dft is None else with_dft(model, dft)
    found = model.predict(atoms, stress=True)
    step, volume = 0.003, atoms.get_volume()  # the network is float32: 5e-6 eV of noise
    for a, b in ((0, 0), (1, 2)):
        slope = 0.0
        for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            strained, strain = atoms.copy(), np.eye(3)
            strain[a, b] += shift * step
            strained.set_cell(np.array(atoms.cell) @ strain.T, scale_atoms=True)
            slope += weight * model.predict(strained, grid=found.grid).free_energy / (12 * step)
        assert found.stress[a, b] == pytest.approx(slope / volume, abs=1e-4)  # eV/Å³, of 1.3
    np.testing.assert_array_equal(found.stress, found.stress.T)
    assert np.abs(found.stress).max() > 1e-3, "nothing to compare otherwise"


def test_forces_are_near_those_of_quantum_espresso(model, atoms, al4):
    forces = model.predict(atoms, forces="mean").forces
    assert np.corrcoef(forces.ravel(), al4["010"].forces.ravel())[0, 1] > 0.95


@pytest.fixture(scope="module")
def mean(model, atoms):
    """A prediction with the forces of the mean."""
    return model.predict(atoms, forces="mean")


@pytest.fixture(scope="module")
def spread(model, atoms):
    """A prediction with the forces of each initialisation."""
    return model.predict(atoms, forces="spread")


def test_the_spread_of_the_forces_is_that_of_the_initialisations(mean, spread, single, atoms):
    both, first = spread, single.predict(atoms, forces="spread")
    np.testing.assert_allclose(np.abs(both.forces - first.forces), both.forces_std, atol=1e-6)
    np.testing.assert_allclose(mean.forces, both.forces, atol=1e-6)
    np.testing.assert_array_equal(first.forces_std, 0)
    assert mean.forces_std is None


@pytest.mark.parametrize("cpus", [1, 3])
def test_nothing_depends_on_slabs_threads_or_memory(model, spread, atoms, monkeypatch, cpus):
    expected = spread
    monkeypatch.setattr(passes, "SLAB", 700)
    monkeypatch.setattr(passes, "IN_MEMORY", 1000)  # bytes: descriptors wait in a file
    monkeypatch.setattr(passes, "KEPT", 1000)  # the network is asked twice
    ldos = np.empty((20, 20, 20, 37), dtype=np.float32)
    found = model.predict(atoms, forces="spread", cpus=cpus, ldos=ldos)
    assert found.free_energy == pytest.approx(expected.free_energy, abs=1e-5)
    np.testing.assert_allclose(found.density, expected.density, atol=1e-6)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-5)
    np.testing.assert_allclose(found.forces_std, expected.forces_std, atol=1e-5)
    np.testing.assert_allclose(ldos.mean(axis=(0, 1, 2)) * atoms.get_volume(), found.dos, rtol=1e-5)
    assert found.outside == expected.outside


def test_equal_atoms_have_equal_forces_and_a_supercell_twice_the_energy(model, mean, atoms):
    one, two = mean, model.predict(atoms[[2, 0, 3, 1]], forces="mean")
    np.testing.assert_allclose(two.forces, one.forces[[2, 0, 3, 1]], atol=1e-6)
    double = model.predict(atoms.repeat((1, 2, 1)), forces="mean")
    assert double.free_energy == pytest.approx(2 * one.free_energy, abs=1e-4)
    np.testing.assert_allclose(double.forces, np.tile(one.forces, (2, 1)), atol=1e-4)


def test_a_left_handed_cell_is_the_same_crystal(model, atoms):
    mirrored = ase.Atoms(atoms.numbers, atoms.positions, cell=np.array(atoms.cell)[[1, 0, 2]], pbc=True)
    one, other = (model.predict(a, forces="mean") for a in (atoms, mirrored))
    assert other.free_energy == pytest.approx(one.free_energy, abs=1e-5)
    np.testing.assert_allclose(other.forces, one.forces, atol=1e-5)


def test_a_structure_unlike_the_training_is_warned_of(model, atoms):
    assert model.predict(atoms).warnings == []
    squeezed = atoms.copy()
    squeezed.set_cell(0.95 * np.array(atoms.cell), scale_atoms=True)
    found = model.predict(squeezed)
    assert found.furthest > 1
    (warning,) = [text for text in found.warnings if "the network extrapolates" in text]
    assert re.match(r"\d\d(\.\d)?|100 % of the grid points have descriptors outside the range", warning)
    assert f"by up to {found.furthest:.1f} standard deviations" in warning


def test_magnetic_moments_are_left_out_with_a_warning(model, atoms, mean):
    magnetic = atoms.copy()
    magnetic.set_initial_magnetic_moments([1.0, 0, 0, 0])
    found = model.predict(magnetic)
    assert found.free_energy == pytest.approx(mean.free_energy, abs=1e-6)
    said = "the structure has magnetic moments, and the prediction none: it is without spin polarisation"
    assert (found.warnings, found.outside_training, found.to_dict()["warnings"]) == ([said], [], [said])
    magnetic.info["charge"] = 1
    with pytest.raises(InputError, match=r"a total charge of 1 e, and only neutral cells are predicted"):
        model.predict(magnetic)


def test_a_gap_is_the_range_without_states_around_the_fermi_level():
    energy = np.arange(-5.0, 5.25, 0.25)
    dos = np.where(np.abs(energy) > 1, 2.0, 0.0)
    # Linear between the points, the DOS reaches a hundredth of its largest value just beyond -1.0 and 1.0 eV.
    assert gap(dos, energy, fermi_level=0.3) == pytest.approx(2.0, abs=0.03)
    assert gap(dos, energy, fermi_level=2.0) == 0
    assert gap(np.full(41, 2.0), energy, fermi_level=0.3) == 0
    assert gap(dos * (energy < 0), energy, fermi_level=0.3) == 0, "no upper end on this grid"


def test_an_energy_grid_that_ends_too_early_is_warned_of(model, atoms):
    hot = model.predict(atoms, temperature=8000.0)
    level = hot.fermi_level
    assert hot.top_occupation == pytest.approx(1 / (1 + np.exp((12 - level) / (8.617333e-5 * 8000))), rel=0.1)
    assert any(w.startswith("the energy grid of the model ends where the occupation is 0.00") for w in hot.warnings)


def test_a_gap_is_told_as_a_note(model, atoms):
    prediction = replace(model.predict(atoms), gap=1.5)
    assert any(
        w.startswith("no metal: the DOS vanishes over 1.5 eV around the Fermi level") for w in prediction.warnings
    )


def test_without_the_dft_there_is_neither_free_energy_nor_force(model, atoms):
    blind = with_dft(model, None)
    found = blind.predict(atoms)
    assert found.free_energy is found.hartree_energy is found.forces is None
    assert found.band_energy == pytest.approx(model.predict(atoms).band_energy, abs=1e-6)
    assert set(found.std) == {"fermi_level", "band_energy", "entropy_term"}
    with pytest.raises(ModelError, match="import it again with --pseudopotentials"):
        blind.predict(atoms, forces="mean")


def test_progress_counts_grid_points_of_each_pass(model, atoms):
    seen = []
    model.predict(atoms, forces="mean", cpus=2, progress=lambda *at: seen.append(at))
    assert seen == [(what, done, 8000) for what in ("descriptors", "density", "forces") for done in (4000, 8000)]


def test_a_failing_pass_ends_at_once_with_its_error(model, atoms, monkeypatch):
    begun, descriptors = [], passes.bispectrum

    def counted(*arguments):
        begun.append(arguments)
        return descriptors(*arguments)

    def stop(what, done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(passes, "bispectrum", counted)
    with pytest.raises(KeyboardInterrupt):
        model.predict(atoms.repeat((2, 2, 2)), forces="mean", cpus=1, progress=stop)
    assert len(begun) <= 3, "of 16 parts the first, and those that were computed ahead"


def test_a_prediction_is_told_in_lines_a_row_and_a_notebook(model, atoms):
    found = model.predict(atoms, forces="spread")
    title, grid, energies, total, *rest = found.lines()
    assert title == f"4 atoms, 12 electrons at {found.temperature:.1f} K"
    assert grid == f"  grid 20 x 20 x 20: {atoms.cell.lengths().max() / 20:.4f} Å apart"
    assert energies == "  energies [eV], spread of 2 trainings in brackets"
    said = f"free energy {found.free_energy:.4f} ({found.std['free_energy']:.4f}) {found.free_energy / 4:.5f} eV/atom"
    assert total.split() == said.split()
    assert "  forces x, y, z [eV/Å], spread of 2 trainings in brackets" in rest
    stated = f"test error: {model.card.accuracy.stated_error}"
    assert stated.startswith("test error: on 3 test snapshots free energy off by")
    for told in ("\n".join(rest), found._repr_html_(), repr(found)):
        assert "the spread of 2 trainings is no error bar" in told
        assert "±" not in told
        assert stated in told
    assert found.to_dict()["accuracy"] == model.card.accuracy.to_dict()
    assert sum(line.strip().startswith("Al ") for line in rest) == 4, "the force of each atom"
    row = found.row()
    assert row["grid"] == "20x20x20"
    assert row["largest_force"] == np.abs(found.forces).max()
    assert found.units["largest_force"] == found.units["forces"] == "eV/Å"
    assert repr(found).startswith(
        f"<Prediction of 4 atoms at {found.temperature:.0f} K: free energy {row['free_energy']}"
    )
    assert "\n" not in repr(found)
    page = replace(found, gap=1.5)._repr_html_()
    assert f"<tr><td>Fermi level</td><td>{row['fermi_level']} eV</td>" in page
    assert "<th>spread of 2 trainings</th>" in page
    assert "no metal: the DOS vanishes over 1.5 eV" in page


def test_the_stated_error_of_the_free_energy_is_that_of_its_predictions(al4, model):
    """Those that anybody may make: A of both trainings is the mean and the spread of the two."""
    off, estimates = [], []
    for s in al4.split("test"):
        atoms = ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
        found = model.predict(atoms, temperature=s.temperature, grid=s.grid)
        pair = found.free_energy + found.std["free_energy"] * np.array([-1, 1])
        off.append(1e3 * (pair - s.total_energy) / s.n_atoms)
        estimates.append(1e3 * found.estimated_errors["free_energy"] / s.n_atoms)
    accuracy = model.card.accuracy
    assert accuracy.free_energy_mae == pytest.approx(np.abs(off).mean(), rel=1e-3)
    inside = np.abs(np.mean(off, axis=1)) <= estimates
    assert accuracy.error_bars["free_energy"].within_1 == pytest.approx(inside.mean())
    assert accuracy.free_energy_mae != pytest.approx(accuracy.band_energy_mae, rel=0.05)


def test_a_prediction_as_plain_values_has_all_but_the_density(mean):
    plain = mean.to_dict()
    assert plain["grid"] == (20, 20, 20)
    assert len(plain["dos"]) == len(plain["energy"]) == 37
    assert np.shape(plain["forces"]) == (4, 3)
    assert not {"density", "symbols", "cell"} & set(plain)
    assert plain["warnings"] == []
