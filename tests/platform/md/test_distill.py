import ase.io
import numpy as np
import pytest
from ase.build import bulk

from dftune.platform.md.distill import Distilled, distill, judge
from dftune.platform.md.dynamics import run_md
from dftune.tests.emt_model import emt_model
from dftune.trainables.descriptors.lammps_snap import run_potential
from dftune.trainables.errors import InputError

SMALL = {"cutoff": 4.0, "two_j_max": 4}


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    path = tmp_path_factory.mktemp("crystal") / "al.xyz"
    ase.io.write(path, bulk("Al", cubic=True, a=4.0))
    return path


@pytest.fixture(scope="module")
def made(crystal, tmp_path_factory):
    path = tmp_path_factory.mktemp("distilled") / "al.snap"
    return path, distill(emt_model(), crystal, path, number=20, rattle=0.1, strain=0.02, settings=SMALL)


def test_the_potential_is_near_the_surrogate_where_it_was_fitted(made, crystal):
    """Measured: 0.14 meV/atom, 0.0027 eV/Å and 0.05 GPa."""
    _, potential = made
    assert {name: errors.frames for name, errors in potential.errors.items()} == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }
    test = potential.errors["test"]
    assert test.energy_mae < 0.5
    assert test.forces_mae < 0.01
    assert test.stress_mae < 0.2


def test_lammps_gives_the_energies_forces_and_stresses_of_the_written_files(made):
    path, potential = made
    atoms = bulk("Al", cubic=True, a=4.03).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=5)
    energy, forces, stress = potential.predict(atoms)
    lines = [line.replace("Al.snap", f"{path}/Al.snap") for line in potential.lammps]
    by_lammps = run_potential(atoms, lines, ("Al",))
    assert energy == pytest.approx(by_lammps[0], abs=1e-8)
    np.testing.assert_allclose(forces, by_lammps[1], atol=1e-8)
    np.testing.assert_allclose(stress, by_lammps[2], atol=1e-8)


def test_stated_errors_come_out_again_on_new_frames(made, crystal, tmp_path):
    path, potential = made
    assert Distilled.open(path) == potential
    run_md(emt_model(), crystal, tmp_path / "run", temperature=300.0, timestep=4.0, steps=6, interval=3)
    found = judge(path, tmp_path / "run", model=emt_model())
    assert found.frames == 3
    frames = ase.io.read(tmp_path / "run" / "trajectory.xyz", ":")
    off = [potential.predict(f)[0] / 4 - emt_model().predict(f).free_energy / 4 for f in frames]
    assert found.energy_mae == pytest.approx(1e3 * np.abs(off).mean(), rel=1e-4)
    assert judge(path, tmp_path / "run" / "trajectory.xyz", frames="0", model=emt_model()).frames == 1


def test_frames_of_a_run_with_this_model_are_not_predicted_again(crystal, tmp_path, monkeypatch):
    run_md(emt_model(), crystal, tmp_path / "run", temperature=300.0, stress=True, steps=8, interval=1)
    first = distill(emt_model(), tmp_path / "run" / "trajectory.xyz", tmp_path / "asked", settings=SMALL)
    monkeypatch.setattr("dftune.tests.emt_model.EmtJob.run", None)
    second = distill(emt_model(), tmp_path / "run", tmp_path / "known", settings=SMALL)
    # The trajectory has eight digits behind the point.
    assert second.errors["test"].forces_mae == pytest.approx(first.errors["test"].forces_mae, abs=1e-3)
    with pytest.raises(TypeError):
        distill(emt_model(shortest=1.0), tmp_path / "run", tmp_path / "other", settings=SMALL)


def test_a_potential_of_two_species_needs_a_weight_of_each(crystal, tmp_path):
    atoms = bulk("Al", cubic=True, a=4.0)
    atoms.symbols[0] = "Mg"
    ase.io.write(tmp_path / "two.xyz", atoms)
    with pytest.raises(InputError, match="give each of Al, Mg a weight of its own; there is none of Al, Mg"):
        distill(emt_model(), tmp_path / "two.xyz", tmp_path / "x", number=5)


def test_an_error_larger_than_the_surrogates_is_said_with_both_numbers(made):
    _, potential = made
    assert potential.beyond == [], "EMT has no DFT to be off"
    worse = potential.model_copy(update={"model_errors": {"free_energy_mae": 0.001, "forces_mae": 10.0}})
    (said,) = worse.beyond
    assert said.startswith(
        f"energies are {potential.errors['test'].energy_mae:.3g} meV/atom from the surrogate's, more"
    )
    assert "(0.001 meV/atom)" in said


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "1 structures to fit a potential to, and it takes 5 at least"),
        ({"number": 0}, "0 structures displaced by"),
        ({"number": 8, "rattle": 3.0}, "displaced by 3 Å"),
        ({"number": 8, "settings": {"two_j_max": 5}}, "two_j_max"),
        ({"number": 8, "rattle": 1.5}, "structure [0-9]+: two atoms, or images of one"),
        ({"frames": "7"}, "has no frame 7"),
    ],
)
def test_what_will_not_do_is_refused(crystal, how, says, tmp_path):
    with pytest.raises(InputError, match=says):
        distill(emt_model(), crystal, tmp_path / "al.snap", **how)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["{file}/al.snap", "/proc/al.snap"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(place, crystal, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("dftune.platform.md.distill.with_energies", None)  # the surrogate is asked nothing
    with pytest.raises(
        InputError, match=r"cannot be written \((Not a directory|File exists|No such file or directory)\)"
    ):
        distill(emt_model(), crystal, place.format(file=tmp_path / "file"), number=5)


def test_folders_and_models_that_will_not_do_are_refused(made, crystal, tmp_path):
    path, _ = made
    with pytest.raises(InputError, match="exists already"):
        distill(emt_model(), crystal, path, number=5)
    with pytest.raises(InputError, match=r"no distilled potential \(no distilled.json\)"):
        judge(tmp_path, crystal)
    with pytest.raises(InputError, match="was fitted to a model in memory"):
        judge(path, crystal)
    with pytest.raises(InputError, match="was fitted to another model"):
        judge(path, crystal, model=emt_model(shortest=1.0))
    (tmp_path / "distilled.json").write_text("{}")
    with pytest.raises(InputError, match=r"distilled.json: damaged \(model: field required\)"):
        Distilled.open(tmp_path)
