"""`dftune model predict`: what it prints and writes, and how it refuses."""

import json
import re
import shutil

import ase.build
import ase.db
import ase.io
import ase.io.cube
import numpy as np
import pyarrow as pa
import pytest
from ase.calculators.vasp import VaspChargeDensity

from dftune.platform.model.model import Model
from dftune.tests.platform.cli.commands import refused, run
from dftune.trainables.data.importing.quantum_espresso.wavefunctions import DensityWaves


@pytest.fixture(scope="module")
def poscar(tmp_path_factory):
    atoms = ase.build.bulk("Al", cubic=True)
    atoms.rattle(0.05, seed=1)
    path = tmp_path_factory.mktemp("structures") / "POSCAR"
    ase.io.write(path, atoms)
    return path


def test_model_predict_prints_every_term_with_its_spread(model_folder, poscar):
    (found,) = json.loads(run("model", "predict", model_folder, poscar, "--json").stdout)["predictions"]
    assert found["n_electrons"] == 12
    assert len(found["dos"]) == 37
    assert found["fermi_level"] == pytest.approx(7.7, abs=0.5)
    assert found["free_energy"] == pytest.approx(-228, abs=1)
    shown = run("model", "predict", model_folder, poscar, "--temperature", 300).stdout
    assert "POSCAR: 4 atoms, 12 electrons at 300.0 K" in shown
    assert "grid 20 x 20 x 20: 0.2025 Å apart" in shown
    for label in ("free energy", "band energy", "entropy term -τS", "Hartree energy", "xc energy", "Ewald energy"):
        assert re.search(rf"^ +{label}.* -?\d+\.\d{{4}} \(\d+\.\d{{4}}\)", shown, re.MULTILINE), label
    n = Model.open(model_folder).card.n_initializations
    assert f"energies [eV], spread of {n} trainings in brackets" in shown


def test_model_predict_writes_density_ldos_and_a_picture(model_folder, poscar, tmp_path):
    kinds = ("density.cube", "density.npy", "density.arrow", "CHGCAR", "ldos.npy", "ldos.arrow", "dos.png")
    options = [part for kind in kinds for part in ("--save", kind)]
    result = run("model", "predict", model_folder, poscar, "--output", tmp_path / "new", *options)
    written = {kind: tmp_path / "new" / f"POSCAR.{kind}" for kind in kinds}
    assert result.stdout.count("written: ") == 7
    assert set((tmp_path / "new").iterdir()) == set(written.values())
    density = np.load(written["density.npy"])
    assert density.shape == (20, 20, 20)
    assert density.mean() * 66.43 == pytest.approx(12, abs=1e-2)
    column = pa.ipc.open_file(written["density.arrow"]).read_all()["density"].to_numpy()
    np.testing.assert_array_equal(column.reshape(20, 20, 20), density)
    cube = ase.io.cube.read_cube(written["density.cube"].open())
    np.testing.assert_allclose(cube["data"] / 0.529177210903**3, density, atol=2e-5)
    np.testing.assert_allclose(cube["atoms"].positions, ase.io.read(poscar).positions, atol=1e-5)
    chgcar = VaspChargeDensity(str(written["CHGCAR"]))
    np.testing.assert_allclose(chgcar.chg[0], density, rtol=1e-9)
    np.testing.assert_allclose(chgcar.atoms[0].positions, ase.io.read(poscar).positions, atol=1e-9)
    ldos = np.load(written["ldos.npy"])
    assert ldos.shape == (20, 20, 20, 37)
    rows = pa.ipc.open_file(written["ldos.arrow"]).read_all()["ldos"]
    np.testing.assert_array_equal(rows.combine_chunks().flatten().to_numpy().reshape(ldos.shape), ldos)
    assert written["dos.png"].read_bytes().startswith(b"\x89PNG")


def test_model_predict_takes_frames_of_a_trajectory_and_forces(model_folder, poscar, tmp_path):
    frames = [ase.io.read(poscar) for _ in range(4)]
    for step, atoms in enumerate(frames):
        atoms.positions[0, 0] += 0.02 * step
    ase.io.write(tmp_path / "md.traj", frames)
    result = run("model", "predict", model_folder, tmp_path / "md.traj", "--frames", "::2", "--forces", "--json")
    first, second = json.loads(result.stdout)["predictions"]
    assert [first["structure"], second["structure"]] == [f"{tmp_path / 'md.traj'} {n}/2" for n in (1, 2)]
    assert np.shape(first["forces"]) == np.shape(first["forces_std"]) == (4, 3)
    assert first["free_energy"] != second["free_energy"]
    table = run("model", "predict", model_folder, tmp_path / "md.traj", "--frames", ":").stdout.splitlines()
    assert re.match(r"structure +atoms +grid +free_energy \[eV\]", table[0])
    assert len(table) == 5


def test_model_predict_adds_rows_to_a_database_of_ase(model_folder, poscar, tmp_path):
    file = tmp_path / "al.db"
    ase.io.write(tmp_path / "two.traj", [ase.io.read(poscar)] * 2)
    result = run("model", "predict", model_folder, poscar, "--stress", "--db", file, "--json")
    assert f"written: {file}, 1 row more" in result.stderr
    result = run("model", "predict", model_folder, tmp_path / "two.traj", "--frames", ":", "--db", file)
    assert f"written: {file}, 2 rows more" in result.stderr
    (found,) = json.loads(run("model", "predict", model_folder, poscar, "--stress", "--json").stdout)["predictions"]
    first, *others = ase.db.connect(file).select()
    atoms = first.toatoms()
    assert atoms.get_potential_energy() == first.free_energy == pytest.approx(found["free_energy"], abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), found["forces"], atol=1e-9)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), found["stress"], atol=1e-9)
    np.testing.assert_array_equal(atoms.positions, ase.io.read(poscar).positions)
    assert first.fermi_level == pytest.approx(found["fermi_level"])
    assert first.free_energy_std == pytest.approx(found["std"]["free_energy"])
    assert (first.structure, first.data["warnings"]) == (str(poscar), found["warnings"])
    assert [row.structure for row in others] == [f"{tmp_path / 'two.traj'} {n}/2" for n in (1, 2)]
    assert not any("forces" in row for row in others)
    assert [path.name for path in tmp_path.iterdir() if "lock" in path.name] == []


def test_model_predict_puts_its_density_into_a_run_of_pw_x(model_folder, poscar, tmp_path):
    atoms, save = ase.io.read(poscar), tmp_path / "al.save"
    save.mkdir()
    orders = np.array([[0, 0, 0], [2, 0, 0], [-2, 0, 0], [1, -1, 1], [-1, 1, -1]])
    axes, flat = 2 * np.pi * atoms.cell.reciprocal().array * 0.529177210903, np.array([12.0, 0, 0, 0, 0])
    pattern = DensityWaves(False, axes, orders, flat * 0.529177210903**3 / atoms.get_volume() + 0j)
    pattern.write(save / "charge-density.dat")
    options = ("--save-qe", save, "--save", "density.npy", "--output", tmp_path)
    result = run("model", "predict", model_folder, poscar, *options)
    assert f"written: {save / 'charge-density.dat'}" in result.stdout
    waves = np.fft.fftn(np.load(tmp_path / "POSCAR.density.npy")) / 8000
    expected = [waves[tuple(order)] * 0.529177210903**3 for order in orders]
    np.testing.assert_allclose(DensityWaves.read(save / "charge-density.dat").coefficients, expected, rtol=1e-9)
    ase.io.write(tmp_path / "larger.xyz", ase.build.bulk("Al", cubic=True, a=4.06))
    line = refused("model", "predict", model_folder, tmp_path / "larger.xyz", "--save-qe", save)
    assert f"{save / 'charge-density.dat'}: of another cell than the structure" in line
    ase.io.write(tmp_path / "two.traj", [atoms] * 2)
    line = refused("model", "predict", model_folder, tmp_path / "two.traj", "--frames", ":", "--save-qe", save)
    assert "takes the density of one structure, and there are 2" in line


@pytest.mark.parametrize(
    "name, said",
    [
        ("rows.json", "the name of a database ends in .db"),
        ("no/rows.db", "no: no such folder; make it first"),
        ("text.db", "text.db: not a database of ASE (file is not a database)"),
    ],
)
def test_model_predict_refuses_what_is_no_database(model_folder, poscar, tmp_path, name, said):
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at\n" * 10)
    assert said in refused("model", "predict", model_folder, poscar, "--db", tmp_path / name)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["text.db"]


def test_model_predict_keeps_the_files_of_odd_and_equal_names_apart(model_folder, poscar, tmp_path):
    odd = tmp_path / "a.density.xyz"
    ase.io.write(odd, ase.io.read(poscar), format="extxyz")
    run("model", "predict", model_folder, odd, "--output", tmp_path, "--save", "ldos.npy", "--save", "density.npy")
    assert np.load(tmp_path / "a.density.xyz.ldos.npy").shape == (20, 20, 20, 37)
    assert np.load(tmp_path / "a.density.xyz.density.npy").shape == (20, 20, 20)
    (tmp_path / "b").mkdir()
    shutil.copy(poscar, tmp_path / "b" / "POSCAR")
    both = (poscar, tmp_path / "b" / "POSCAR")
    line = refused("model", "predict", model_folder, *both, "--save", "dos.png", "--output", tmp_path)
    assert "two structures are named POSCAR: predict them apart" in line
    names = [
        found["structure"]
        for found in json.loads(run("model", "predict", model_folder, *both, "--json").stdout)["predictions"]
    ]
    assert names == list(map(str, both))


def test_model_predict_keeps_what_was_finished_before_a_failure(model_folder, poscar, tmp_path):
    ase.io.write(tmp_path / "second.xyz", ase.io.read(poscar), format="extxyz")
    (tmp_path / "second.xyz.dos.png").mkdir()  # in the way
    options = ("--save", "dos.png", "--output", tmp_path, "--json")
    result = run("model", "predict", model_folder, poscar, tmp_path / "second.xyz", *options, code=1)
    (found,) = json.loads(result.stdout)["predictions"]
    assert found["structure"] == str(poscar)
    assert found["files"] == [str(tmp_path / "POSCAR.dos.png")]
    assert "second.xyz.dos.png: cannot be written (Is a directory)" in result.stderr


def test_model_predict_checks_all_structures_before_it_predicts_one(model_folder, poscar, tmp_path):
    large = ase.io.read(poscar)
    large.set_cell(40 * large.cell)
    ase.io.write(tmp_path / "large.xyz", large, format="extxyz")
    line = refused("model", "predict", model_folder, poscar, tmp_path / "large.xyz")
    assert re.search(r"large\.xyz: this prediction needs \d+\.\d GB of memory, and", line)


def test_model_predict_refuses_in_one_line(model_folder, poscar, tmp_path):
    copper = ase.build.bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "cu.xyz", copper, format="extxyz")
    line = refused("model", "predict", model_folder, tmp_path / "cu.xyz")
    assert f"{tmp_path / 'cu.xyz'}: the model knows Al but not Cu" in line
    assert "give a number as -1, or a range" in refused("model", "predict", model_folder, poscar, "--frames", "last")
    line = refused("model", "predict", model_folder, poscar, "--save", "density.cub")
    assert (
        "this model writes no 'density.cub'; it writes density.cube, density.npy, density.arrow, CHGCAR, ldos.npy"
        in line
    )
    (tmp_path / "in-the-way").write_text("")
    options = ("--save", "ldos.npy", "--output", tmp_path / "in-the-way" / "new")
    assert "cannot be written" in refused("model", "predict", model_folder, poscar, *options)
    (tmp_path / "damaged.xyz").write_text("4\n\nAl 0 0 nowhere\n")
    assert "damaged.xyz: its last frame says 4 atoms" in refused(
        "model", "predict", model_folder, tmp_path / "damaged.xyz"
    )


def test_a_grid_can_be_given(model_folder, poscar):
    (found,) = json.loads(run("model", "predict", model_folder, poscar, "--grid", 24, 20, 20, "--json").stdout)[
        "predictions"
    ]
    assert found["grid"] == [24, 20, 20]
    line = refused("model", "predict", model_folder, poscar, "--grid", 10, 20, 20)
    assert "a grid of 10 x 20 x 20 points cannot hold" in line


def test_a_table_of_predictions_says_what_the_spread_is(model_folder, poscar, model):
    shown = run("model", "predict", model_folder, poscar, poscar)
    stated = model.card.accuracy.stated_error
    assert f"the spread of 2 trainings is no error bar; test error: {stated}" in shown.stderr


def test_temperatures_give_a_table_and_all_digits_as_json(model_folder, poscar):
    shown = run("model", "predict", model_folder, poscar, poscar, "--temperatures", "1000,5000").stdout
    assert shown.count("electrons at other temperatures, spread of 2 trainings of the heat capacity") == 2
    head = next(line for line in shown.splitlines() if "heat_capacity" in line)
    assert head.split()[:2] == ["temperature", "[K]"]
    assert "heat_capacity [k_B/atom]" in head
    given = json.loads(run("model", "predict", model_folder, poscar, "--temperatures", "1000,5000", "--json").stdout)
    found = given["predictions"][0]["heated"]
    assert [one["temperature"] for one in found] == [1000, 5000]
    assert given["units"]["heat_capacity"] == "eV/K"
    capacity = found[1]["heat_capacity"] / 8.617333262e-5 / 4
    assert f"{capacity:.5g}" in shown


@pytest.mark.parametrize(
    "given, said",
    [
        ("300;1000", "'300;1000' is not a list of temperatures as in 300,1000,5000"),
        ("1000,2", "2 K is below the 58 K that the energy grid of this model resolves"),
        ("1000,nan", "a temperature of nan K is none"),
        ("1000,30000", "at 30000 K the occupation is"),
    ],
)
def test_temperatures_that_cannot_be_are_refused(model_folder, poscar, given, said):
    options = ("--temperatures", given)
    assert said in run("model", "predict", model_folder, poscar, *options, code=2 if ";" in given else 1).stderr
