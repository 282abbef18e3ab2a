"""The command line: what it prints, how it refuses, and that help and documents keep up with it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.build
import ase.db
import ase.io
import ase.io.cube
import click
import numpy as np
import pyarrow as pa
import pytest
from ase.calculators.vasp import VaspChargeDensity
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.model.model import Model
from dftune.tests.places import ROOT
from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.data.importing.quantum_espresso.wavefunctions import DensityWaves
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings

SPEC = """
name = "quick"
dataset = "al4"
trials = 2
method = "random"
initializations = 1
descriptors = { cutoff = 4.0, two_j_max = 4 }
resources = { concurrent = 1 }
[space]
width = { type = "int", low = 4, high = 16 }
[config]
n_layers = 1
epochs = 1
batch_size = 1024
learning_rate = 3e-3
"""
LAYERS = """\
n_layers = { type = "int", low = 1, high = 2 }
width = { type = "int", low = 4, high = 16 }
width_2 = { type = "int", low = 4, high = 16, when = { n_layers = [2] } }"""


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dftune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*arguments, code=1) -> str:
    """The one line of a refusal."""
    result = run(*arguments, code=code)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1
    assert result.stdout == ""
    return lines[0]


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_a_help_text_with_an_example(path):
    text = run(*path, "--help").output
    assert "Example:" in text
    assert f"dftune {' '.join(path)}" in text.split("Example:")[1]
    assert all(p.help for p in ALL[path].params if isinstance(p, click.Option))


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_and_option_stands_in_readme_or_docs(path):
    # The row of the command in docs/cli.md names its options, so one of another command does not count.
    table = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in table if re.match(rf"\| `dftune {' '.join(path)}[ `]", line))
    options = {[o for o in p.opts if o.startswith("--")][-1] for p in ALL[path].params if isinstance(p, click.Option)}
    assert options == set(re.findall(r"`(--[a-z-]+)`", row))


def test_readme_and_docs_name_no_command_that_does_not_exist():
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    named = set(re.findall(r"dftune ((?:data|descriptors|study|model|cluster) [a-z-]+)\b", text))
    assert named <= {" ".join(path) for path in ALL}


def test_the_version_is_the_packages():
    import dftune

    assert run("--version").output.strip() == f"dftune {dftune.__version__}"


@pytest.fixture(scope="module")
def workplace(described, model, tmp_path_factory, local_ray):
    """A folder with a dataset, a study file, an ended study with its model, and "al4.model", which is a better one."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(described.path, folder / "al4")
    model.save(folder / "al4.model")
    text = SPEC.replace("trials = 2", "trials = 4").replace("n_layers = 1\n", "")
    (folder / "quick.toml").write_text(re.sub(r"(?<=\[space\]\n).*", LAYERS, text))
    shown = run("study", "run", folder / "quick.toml", "--studies", folder / "studies")
    (folder / "shown.txt").write_text(shown.stdout)
    run("study", "export", "quick", folder / "quick.model", "--studies", folder / "studies")
    return folder


def test_a_study_from_the_command_line_says_what_it_found(workplace):
    text = (workplace / "shown.txt").read_text()
    assert re.search(r"chosen: trial [0-3] \(validation_loss \d+\.\d+\)", text)
    assert re.search(r"band-energy error +\d+\.\d \(0\.0\) meV/atom", text)
    assert text.count("displacement 0.") == 3 * 2 * 3, "two energies of the chosen config, without training, by default"
    assert str(workplace / "studies" / "quick" / "model") in text


def test_study_show_list_and_resume_agree(workplace):
    options = ("--studies", workplace / "studies")
    shown = json.loads(run("study", "show", "quick", "--json", *options).stdout)
    (listed,) = json.loads(run("study", "list", "--json", *options).stdout)["studies"]
    resumed = json.loads(run("study", "resume", "quick", "--json", *options).stdout)
    assert resumed | shown["conclusion"] == resumed
    assert listed["best"] == resumed["value"] == min(t["value"] for t in shown["trials"])
    assert listed["state"] == "ended"
    assert "no study in" in run("study", "list", "--studies", workplace / "elsewhere").stdout


def test_a_study_shows_of_conditional_hyperparameters_what_each_trial_has(workplace):
    options = ("--studies", workplace / "studies")
    result = json.loads(run("study", "resume", "quick", "--json", *options).stdout)
    trials = json.loads(run("study", "show", "quick", "--json", *options).stdout)["trials"]
    assert {"width_2" in t["config"] for t in trials} == {True, False}
    assert all(("width_2" in t["config"]) == (t["config"]["n_layers"] == 2) for t in trials)
    best = trials[result["trial"]]["config"]
    assert result["config"]["widths"] in (None, [best["width"], best.get("width_2")])
    table = run("study", "show", "quick", *options).stdout
    assert re.search(r"^trial +state +validation_loss +seconds +n_layers +width +width_2 +first_width", table)
    assert "  " + ", ".join(f"{name} {value}" for name, value in best.items()) + "\n" in table


def test_model_show_predict_and_check(workplace):
    model = workplace / "quick.model"
    assert "surrogate for Al from study quick, dataset al4" in run("model", "show", model).stdout
    assert json.loads(run("model", "show", model, "--json").stdout)["config"]["n_layers"] in (1, 2)
    assert "the stated accuracy is confirmed" in run("model", "check", model, workplace / "al4").stdout


@pytest.fixture(scope="module")
def poscar(workplace):
    atoms = ase.build.bulk("Al", cubic=True)
    atoms.rattle(0.05, seed=1)
    ase.io.write(workplace / "POSCAR", atoms)
    return workplace / "POSCAR"


def test_model_predict_prints_every_term_with_its_spread(workplace, poscar):
    model = workplace / "al4.model"
    (found,) = json.loads(run("model", "predict", model, poscar, "--json").stdout)["predictions"]
    assert found["n_electrons"] == 12
    assert len(found["dos"]) == 37
    assert found["fermi_level"] == pytest.approx(7.7, abs=0.5)
    assert found["free_energy"] == pytest.approx(-228, abs=1)
    shown = run("model", "predict", model, poscar, "--temperature", 300).stdout
    assert "POSCAR: 4 atoms, 12 electrons at 300.0 K" in shown
    assert "grid 20 x 20 x 20: 0.2025 Å apart" in shown
    for label in ("free energy", "band energy", "entropy term -τS", "Hartree energy", "xc energy", "Ewald energy"):
        assert re.search(rf"^ +{label}.* -?\d+\.\d{{4}} \(\d+\.\d{{4}}\)", shown, re.MULTILINE), label
    n = Model.open(model).card.n_initializations
    assert f"energies [eV], spread of {n} trainings in brackets" in shown


def test_model_predict_writes_density_ldos_and_a_picture(workplace, poscar, tmp_path):
    kinds = ("density.cube", "density.npy", "density.arrow", "CHGCAR", "ldos.npy", "ldos.arrow", "dos.png")
    options = [part for kind in kinds for part in ("--save", kind)]
    result = run("model", "predict", workplace / "al4.model", poscar, "--output", tmp_path / "new", *options)
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


def test_model_predict_takes_frames_of_a_trajectory_and_forces(workplace, poscar, tmp_path):
    frames = [ase.io.read(poscar) for _ in range(4)]
    for step, atoms in enumerate(frames):
        atoms.positions[0, 0] += 0.02 * step
    ase.io.write(tmp_path / "md.traj", frames)
    model = workplace / "al4.model"
    result = run("model", "predict", model, tmp_path / "md.traj", "--frames", "::2", "--forces", "--json")
    first, second = json.loads(result.stdout)["predictions"]
    assert [first["structure"], second["structure"]] == [f"{tmp_path / 'md.traj'} {n}/2" for n in (1, 2)]
    assert np.shape(first["forces"]) == np.shape(first["forces_std"]) == (4, 3)
    assert first["free_energy"] != second["free_energy"]
    table = run("model", "predict", model, tmp_path / "md.traj", "--frames", ":").stdout.splitlines()
    assert re.match(r"structure +atoms +grid +free_energy \[eV\]", table[0])
    assert len(table) == 5


def test_model_predict_adds_rows_to_a_database_of_ase(workplace, poscar, tmp_path):
    model, file = workplace / "al4.model", tmp_path / "al.db"
    ase.io.write(tmp_path / "two.traj", [ase.io.read(poscar)] * 2)
    result = run("model", "predict", model, poscar, "--stress", "--db", file, "--json")
    assert f"written: {file}, 1 row more" in result.stderr
    result = run("model", "predict", model, tmp_path / "two.traj", "--frames", ":", "--db", file)
    assert f"written: {file}, 2 rows more" in result.stderr
    (found,) = json.loads(run("model", "predict", model, poscar, "--stress", "--json").stdout)["predictions"]
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


def test_model_predict_puts_its_density_into_a_run_of_pw_x(workplace, poscar, tmp_path):
    model, atoms, save = workplace / "al4.model", ase.io.read(poscar), tmp_path / "al.save"
    save.mkdir()
    orders = np.array([[0, 0, 0], [2, 0, 0], [-2, 0, 0], [1, -1, 1], [-1, 1, -1]])
    axes, flat = 2 * np.pi * atoms.cell.reciprocal().array * 0.529177210903, np.array([12.0, 0, 0, 0, 0])
    pattern = DensityWaves(False, axes, orders, flat * 0.529177210903**3 / atoms.get_volume() + 0j)
    pattern.write(save / "charge-density.dat")
    options = ("--save-qe", save, "--save", "density.npy", "--output", tmp_path)
    result = run("model", "predict", model, poscar, *options)
    assert f"written: {save / 'charge-density.dat'}" in result.stdout
    waves = np.fft.fftn(np.load(tmp_path / "POSCAR.density.npy")) / 8000
    expected = [waves[tuple(order)] * 0.529177210903**3 for order in orders]
    np.testing.assert_allclose(DensityWaves.read(save / "charge-density.dat").coefficients, expected, rtol=1e-9)
    ase.io.write(tmp_path / "larger.xyz", ase.build.bulk("Al", cubic=True, a=4.06))
    line = refused("model", "predict", model, tmp_path / "larger.xyz", "--save-qe", save)
    assert f"{save / 'charge-density.dat'}: of another cell than the structure" in line
    ase.io.write(tmp_path / "two.traj", [atoms] * 2)
    line = refused("model", "predict", model, tmp_path / "two.traj", "--frames", ":", "--save-qe", save)
    assert "takes the density of one structure, and there are 2" in line


@pytest.mark.parametrize(
    "name, said",
    [
        ("rows.json", "the name of a database ends in .db"),
        ("no/rows.db", "no: no such folder; make it first"),
        ("text.db", "text.db: not a database of ASE (file is not a database)"),
    ],
)
def test_model_predict_refuses_what_is_no_database(workplace, poscar, tmp_path, name, said):
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at\n" * 10)
    assert said in refused("model", "predict", workplace / "al4.model", poscar, "--db", tmp_path / name)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["text.db"]


def test_model_predict_keeps_the_files_of_odd_and_equal_names_apart(workplace, poscar, tmp_path):
    model = workplace / "al4.model"
    odd = tmp_path / "a.density.xyz"
    ase.io.write(odd, ase.io.read(poscar), format="extxyz")
    run("model", "predict", model, odd, "--output", tmp_path, "--save", "ldos.npy", "--save", "density.npy")
    assert np.load(tmp_path / "a.density.xyz.ldos.npy").shape == (20, 20, 20, 37)
    assert np.load(tmp_path / "a.density.xyz.density.npy").shape == (20, 20, 20)
    (tmp_path / "b").mkdir()
    shutil.copy(poscar, tmp_path / "b" / "POSCAR")
    both = (poscar, tmp_path / "b" / "POSCAR")
    line = refused("model", "predict", model, *both, "--save", "dos.png", "--output", tmp_path)
    assert "two structures are named POSCAR: predict them apart" in line
    names = [
        found["structure"]
        for found in json.loads(run("model", "predict", model, *both, "--json").stdout)["predictions"]
    ]
    assert names == list(map(str, both))


def test_model_predict_keeps_what_was_finished_before_a_failure(workplace, poscar, tmp_path):
    ase.io.write(tmp_path / "second.xyz", ase.io.read(poscar), format="extxyz")
    (tmp_path / "second.xyz.dos.png").mkdir()  # in the way
    options = ("--save", "dos.png", "--output", tmp_path, "--json")
    result = run("model", "predict", workplace / "al4.model", poscar, tmp_path / "second.xyz", *options, code=1)
    (found,) = json.loads(result.stdout)["predictions"]
    assert found["structure"] == str(poscar)
    assert found["files"] == [str(tmp_path / "POSCAR.dos.png")]
    assert "second.xyz.dos.png: cannot be written (Is a directory)" in result.stderr


def test_model_predict_checks_all_structures_before_it_predicts_one(workplace, poscar, tmp_path):
    large = ase.io.read(poscar)
    large.set_cell(40 * large.cell)
    ase.io.write(tmp_path / "large.xyz", large, format="extxyz")
    line = refused("model", "predict", workplace / "al4.model", poscar, tmp_path / "large.xyz")
    assert re.search(r"large\.xyz: this prediction needs \d+\.\d GB of memory, and", line)


def test_model_predict_refuses_in_one_line(workplace, poscar, tmp_path):
    model = workplace / "al4.model"
    copper = ase.build.bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "cu.xyz", copper, format="extxyz")
    line = refused("model", "predict", model, tmp_path / "cu.xyz")
    assert f"{tmp_path / 'cu.xyz'}: the model knows Al but not Cu" in line
    assert "give a number as -1, or a range" in refused("model", "predict", model, poscar, "--frames", "last")
    line = refused("model", "predict", model, poscar, "--save", "density.cub")
    assert (
        "this model writes no 'density.cub'; it writes density.cube, density.npy, density.arrow, CHGCAR, ldos.npy"
        in line
    )
    (tmp_path / "in-the-way").write_text("")
    options = ("--save", "ldos.npy", "--output", tmp_path / "in-the-way" / "new")
    assert "cannot be written" in refused("model", "predict", model, poscar, *options)
    (tmp_path / "damaged.xyz").write_text("4\n\nAl 0 0 nowhere\n")
    assert "damaged.xyz: its last frame says 4 atoms" in refused("model", "predict", model, tmp_path / "damaged.xyz")


def test_model_check_compares_term_by_term(workplace, tmp_path):
    model, figure = workplace / "al4.model", tmp_path / "check.png"
    shown = run("model", "check", model, workplace / "al4", "--forces", "--figure", figure).stdout
    for label in ("free energy", "hartree energy", "ewald energy", "density, ", "force components", "Fermi level"):
        assert re.search(rf"^{label}.*( +\d\S*){{4}}$", shown, re.MULTILINE), label
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = json.loads(run("model", "check", model, workplace / "al4", "--json").stdout)
    assert [s["id"] for s in found["snapshots"]] == ["009", "010", "011"], "the test snapshots, and no others"
    assert max(abs(s["energies"]["ewald_energy"]) for s in found["snapshots"]) < 0.01


def test_model_check_fails_when_the_stated_accuracy_does_not_come_out(workplace, tmp_path):
    shutil.copytree(workplace / "al4.model", tmp_path / "false.model")
    card = json.loads((tmp_path / "false.model" / "model.json").read_text())
    card["accuracy"]["ldos_r2"] = 0.99999
    (tmp_path / "false.model" / "model.json").write_text(json.dumps(card))
    result = run("model", "check", tmp_path / "false.model", workplace / "al4", code=1)
    assert "the stated accuracy is not confirmed: ldos_r2: stated 0.99999" in result.stderr


def test_data_show_and_check(workplace):
    shown = run("data", "show", workplace / "al4").stdout
    assert "37 energies from -6 to 12 eV, gaussian kernel of 0.5 eV" in shown
    assert len(json.loads(run("data", "show", workplace / "al4", "--json").stdout)["snapshots"]) == 12
    rows = json.loads(run("data", "check", workplace / "al4", "--json").stdout)["snapshots"]
    assert max(abs(r["band_energy_error"]) for r in rows) < 1.0
    checked = run("data", "check", workplace / "al4").stdout
    assert "checked: band energy of the LDOS, at most 0.1" in checked
    assert "not checked: sum of the DFT's own terms" in checked
    assert "total free energies: functional lda-pz, density cutoff 816.34 eV, core corrections: none" in shown
    assert shown.splitlines()[2] == checked.splitlines()[-1]


def test_data_show_and_check_say_how_to_get_total_free_energies(fresh_al4):
    info = fresh_al4.info.model_copy(update={"dft": None})
    (fresh_al4.path / "dataset.json").write_text(info.model_dump_json(), encoding="utf-8")
    for command in ("show", "check"):
        shown = run("data", command, fresh_al4.path).stdout
        assert "total free energies: not available, as the functional and the core charges are not known" in shown
    assert json.loads(run("data", "show", fresh_al4.path, "--json").stdout)["dft"] is None


def test_import_says_on_stderr_why_there_are_no_total_free_energies(tmp_path, shared):
    snapshot = shared("al4_mini/000.json")
    result = run("data", "import", snapshot, tmp_path / "without")
    first, *_ = result.stderr.splitlines()
    assert first == (
        f"no total free energies from this dataset: Al.pz-vbc.UPF is not in {snapshot.parent}; "
        "give its folder with --pseudopotentials"
    )
    assert result.stdout == f"1 snapshots in {tmp_path / 'without'}\n"
    folder = ("--pseudopotentials", shared("al4"))
    assert "total free" not in run("data", "import", snapshot, tmp_path / "with", *folder).stderr
    assert "functional lda-pz" in run("data", "show", tmp_path / "with").stdout
    line = refused("data", "import", snapshot, tmp_path / "out", "--pseudopotentials", tmp_path / "none", code=2)
    assert "does not exist" in line


def test_descriptors_compute_goes_on_where_it_was(workplace):
    settings = BispectrumSettings(cutoff=4.0, two_j_max=4)
    descriptor_path(workplace / "al4", settings, "002").unlink()
    options = ("--cutoff", 4.0, "--two-j-max", 4)
    assert "1 computed, 11 there already" in run("descriptors", "compute", workplace / "al4", *options).stdout
    assert "0 computed, 12 there already" in run("descriptors", "compute", workplace / "al4", *options).stdout


@pytest.mark.parametrize(
    "change, text",
    [
        (("trials = 2", "trails = 2"), "unknown key 'trails'; did you mean 'trials'?"),
        (('"int", low = 4', '"int", lwo = 4'), "unknown key 'space.width.lwo'; did you mean 'low'?"),
        (("[config]", "[config]\nepocs = 3"), "unknown hyperparameter 'epocs'; did you mean 'epochs'?"),
        (("[space]", "[space]\ndepth = { type = 'int', low = 1, high = 2 }"), "unknown hyperparameter 'depth'"),
        (("low = 4, high = 16", "low = 40, high = 16"), "low (40) is above high (16)"),
        (("low = 4, high = 16", "low = 0, high = 16"), "hyperparameter 'width': Input should be greater than or equal"),
        (('type = "int"', 'type = "integer"'), "key 'space.width'"),
        (('method = "random"', 'method = "randm"'), "unknown method 'randm'; did you mean 'random'?"),
        (('method = "random"', 'method = "rfr"\noptions = { tops = 3 }'), "unknown key 'tops'; did you mean 'top'?"),
        (("trials = 2", "trials = 0"), "key 'trials': Input should be greater than or equal to 1, got 0"),
        (("n_layers = 1", "width = 3"), "'width' stands in [space] and in [config]"),
        (('name = "quick"', 'name = "../quick"'), "key 'name'"),
        (('dataset = "al4"', ""), "key 'dataset' is missing"),
        (("trials = 2", "trials = "), "not a readable TOML file"),
        (('dataset = "al4"', 'dataset = "nowhere"'), "not a dataset (no dataset.json)"),
    ],
)  # fmt: skip
def test_a_wrong_study_file_is_refused_in_one_line(workplace, tmp_path, change, text):
    (tmp_path / "wrong.toml").write_text(SPEC.replace(*change))
    assert change[0] in SPEC
    line = refused("study", "run", tmp_path / "wrong.toml", "--studies", tmp_path / "studies")
    assert text in line
    assert not (tmp_path / "studies").exists(), "nothing half-written"


def test_a_missing_study_file_or_study_is_refused(tmp_path):
    assert "no such file; see examples/al4.toml" in refused("study", "run", tmp_path / "none.toml")
    assert "no ledger; `dftune study list`" in refused("study", "show", "none", "--studies", tmp_path)
    assert "no ledger" in refused("study", "resume", "none", "--studies", tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(workplace, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = refused("study", "run", workplace / "quick.toml", "--studies", tmp_path / "file" / "studies")
    assert "cannot be made (Not a directory); choose another --studies folder" in line
    line = refused("study", "export", "quick", tmp_path / "file" / "m", "--studies", workplace / "studies")
    assert f"{tmp_path / 'file' / 'm'}: cannot be written" in line


def test_a_truncated_ldos_is_refused_when_the_study_starts(workplace, tmp_path):
    shutil.copytree(workplace / "al4", tmp_path / "al4")
    path = tmp_path / "al4" / "ldos" / "004.arrow"
    path.write_bytes(path.read_bytes()[:5000])
    (tmp_path / "quick.toml").write_text(SPEC)
    line = refused("study", "run", tmp_path / "quick.toml", "--studies", tmp_path / "studies")
    assert f"{path}: not a whole Arrow file (truncated or damaged); import the dataset again" in line
    assert f"{path}" in refused("data", "check", tmp_path / "al4")


def test_descriptors_of_another_setting_are_refused(fresh_al4):
    here = BispectrumSettings(cutoff=4.0, two_j_max=4)
    other = BispectrumSettings(cutoff=3.0, two_j_max=4)
    s = fresh_al4["000"]
    values = bispectrum(s.cell, s.positions, s.numbers, s.grid, here)
    fresh_al4.write_descriptors(s, here, values)
    descriptor_path(fresh_al4.path, here, "000").parent.rename(fresh_al4.path / "descriptors" / other.key)
    with pytest.raises(ValueError, match=r"descriptors of another setting, .*remove the folder and run `dftune desc"):
        fresh_al4.descriptors(fresh_al4["000"], other)


def test_import_refuses_bad_input_and_leaves_nothing_behind(tmp_path, al4):
    (tmp_path / "empty").mkdir()
    assert "holds no snapshot" in refused("data", "import", tmp_path / "empty", tmp_path / "out")
    assert "does not exist" in refused("data", "import", tmp_path / "nowhere", tmp_path / "out", code=2)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "000.json").write_text("{}")
    np.save(tmp_path / "bad" / "000.ldos.npy", np.zeros((2, 2, 2, 3), np.float32))
    assert "000.json: config: field required" in refused("data", "import", tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_usage_has_exit_code_2(tmp_path, al4):
    assert "No such command" in refused("stduy", code=2)
    assert "two_j_max" in refused("descriptors", "compute", al4.path, "--two-j-max", 5, code=2)


def test_descriptors_that_would_be_blind_are_refused_before_anything_starts(al4):
    assert "below the distance of the nearest atoms" in refused("descriptors", "compute", al4.path, "--cutoff", 2)
    assert "Mg do not know Al" in refused("descriptors", "compute", al4.path, "--weights", "Mg=1")
    assert "hide Al" in refused("descriptors", "compute", al4.path, "--weights", "Al=0", code=2)
    assert "Al=1,Mg=0.7" in refused("descriptors", "check", al4.path, "--radii", "0.5", code=2)


@pytest.mark.parametrize("options", [(), ("--weights", "Al=0.8", "--radii", "Al=0.45"), ("--chem", "Al")])
def test_descriptors_check_compares_the_engines(al4, options):
    options = ("--cutoff", 4.0, "--two-j-max", 4, *options)
    out = run("descriptors", "check", al4.path, "--snapshot", "003", *options).stdout
    assert re.fullmatch(
        r"snapshot 003, cutoff 4 Å, 2J_max 4.*, 2,000 grid points: native [\d.]+ µs a point, LAMMPS [\d.]+ µs "
        r"\([\d.]+ times\); they differ by \d\.\de-\d\d of the largest value\n",
        out,
    )
    printed = json.loads(run("descriptors", "check", al4.path, "--json", *options).stdout)
    assert printed["snapshot"] == "000"
    assert printed["agrees"]
    assert printed["difference"] < 1e-6
    assert printed["n_points"] == 2000


def test_descriptors_check_fails_where_the_engines_differ(al4, monkeypatch):
    from dftune.trainables.descriptors import lammps_engine

    right = lammps_engine.bispectrum
    monkeypatch.setattr(lammps_engine, "bispectrum", lambda *a, **k: 1.00001 * right(*a, **k))
    said = CliRunner().invoke(cli, ["descriptors", "check", str(al4.path), "--two-j-max", "2"])
    assert said.exit_code == 1
    assert "the engines do not agree; please report this with the snapshot" in said.output


def test_study_names_complete(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    environment = {"_DFTUNE_COMPLETE": "bash_complete", "COMP_WORDS": "dftune study show q", "COMP_CWORD": "3"}
    out = subprocess.run(
        [str(Path(sys.executable).parent / "dftune")],
        env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.split() == ["plain,quick"]
