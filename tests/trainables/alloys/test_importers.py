"""Runs of LSMS, tables and text files become datasets; what is wrong with others is said."""

import shutil

import ase.build
import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.places import ROOT
from dftune.trainables.alloys.importers import HydraGnnImporter, LsmsImporter, TableImporter
from dftune.trainables.alloys.lattice import Lattice
from dftune.trainables.alloys.lsms import read_lsms
from dftune.trainables.data.importing.importer import Told
from dftune.trainables.data.importing.importers import recognised
from dftune.trainables.errors import DatasetError
from dftune.trainables.kinds import importers
from dftune.trainables.physics.units import BOHR, RYDBERG

RUNS = ROOT / "tests" / "data" / "lsms"
SITES = ROOT / "examples" / "alloys" / "CuAu_L10.xyz"


def quiet(line):
    pass


def read(importer, *sources):
    return importer.read(list(sources), told=Told(), report=quiet)


def refused(importer, text, *sources, **how):
    with pytest.raises(DatasetError, match=text) as found:
        read(importer, *sources).plan(**how)
    assert "\n" not in str(found.value)


# ---------------------------------------------------------------- tables


def table_of(data, rows, **columns):
    """Rows of a dataset as a table of the LSMS layout, Ry."""
    some = data.all.take(rows)
    values = {
        "config_id": list(rows),
        "species": some.species.tolist(),
        "energy": some.energy / RYDBERG,
        "charge": some.charge.tolist(),
        "moment": some.moment.tolist(),
        "converged": [True] * len(rows),
        **columns,
    }
    metadata = {"symbols": "Cu,Au", "code": "lsms"}
    return pa.table({name: v for name, v in values.items() if v is not None}).replace_schema_metadata(metadata)


@pytest.fixture
def rows(cuau):
    return [0, 1, 40, 80, len(cuau.all) - 1]


def written(path, table):
    pq.write_table(table, path)
    return path


def test_a_table_becomes_a_dataset(cuau, rows, tmp_path):
    path = written(tmp_path / "some.parquet", table_of(cuau, rows))
    made = read(TableImporter(), path, SITES).plan().write(tmp_path / "made")
    kept = cuau.all.take(rows)
    assert (made.all.species == kept.species).all()
    assert made.all.energy == pytest.approx(kept.energy, abs=1e-8)
    assert (made.all.charge == kept.charge).all()
    assert (made.all.orbit, made.all.multiplicity.tolist()) == (kept.orbit, kept.multiplicity.tolist())
    assert made.info.pure_energies == pytest.approx(cuau.info.pure_energies, abs=1e-9)
    assert recognised([path], others=importers()).name == "alloy-table"
    made.verify()


def test_the_command_imports_a_table(cuau, rows, tmp_path):
    path = written(tmp_path / "some.parquet", table_of(cuau, rows))
    arguments = ["data", "import", str(path), str(SITES), str(tmp_path / "made")]
    dry = CliRunner().invoke(cli, [*arguments, "--dry-run"])
    assert "5 configurations of CuAu on 32 sites, 5 that no symmetry makes equal" in dry.output
    assert not (tmp_path / "made").exists()
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, "5 configurations of CuAu on 32 sites, by lsms" in done.output) == (0, True), done.output
    shown = CliRunner().invoke(cli, ["data", "show", str(tmp_path / "made")])
    assert "formation_energy [mRy/atom]" in shown.output
    checked = CliRunner().invoke(cli, ["data", "check", str(tmp_path / "made")])
    assert checked.exit_code == 0, checked.output


def test_sites_that_are_no_crystal_are_refused(cuau, rows, tmp_path):
    """Without symmetry nothing else would show that an atom of the structure file is away from its site."""
    path, atoms = written(tmp_path / "some.parquet", table_of(cuau, rows)), ase.io.read(SITES)
    atoms.positions[3] += 0.6
    atoms.write(tmp_path / "off.xyz")
    refused(TableImporter(), "sites of the lattice differ in the number of neighbours", path, tmp_path / "off.xyz")


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda t: t.drop_columns(["charge"]), "has no column 'charge'; it has config_id, species"),
        (lambda t: t.drop_columns(["converged"]), "has neither 'converged' nor 'rms'"),
        (lambda t: t.replace_schema_metadata({"symbols": "Cu,Au"}), "do not say 'code'"),
        (lambda t: t.replace_schema_metadata({"symbols": "Cu,Au,Pt", "code": "x"}), "two elements are needed"),
        (lambda t: t.append_column("code", [["lsms", "lsms", "xtb", "lsms", "lsms"]]), r"mixes codes \(lsms, xtb\)"),
        (lambda t: t.slice(0, 4), "no configuration is pure Au, and no energy of it is recorded"),
        (lambda t: t.set_column(5, "converged", [[True, True, False, True, True]]), "row 2: it has not converged"),
        (
            lambda t: t.set_column(1, "species", [[[0] * 31 + [k] for k in range(5)]]),
            "row 2: species are 0 or 1, and 2",
        ),
        (lambda t: t.set_column(1, "species", [[[0, 1]] * 5]), "row 0: 2 species, 32 charges and 32 moments"),
        (lambda t: t.take([0, 1, 1, 3, 4]), "is the configuration of .* row 1|id '1' is that of"),
        (lambda t: t.set_column(2, "energy", [[None, 1.0, 1.0, 1.0, 1.0]]), "row 0: float"),
        (lambda t: t.set_column(2, "energy", [[1.0, float("nan"), 1.0, 1.0, 1.0]]), "row 1: 'energy' is not finite"),
        (lambda t: t.set_column(2, "energy", [[True] * 5]), "'energy' holds bool, and a number is needed"),
        (lambda t: t.set_column(5, "converged", [["no"] * 5]), "'converged' holds string, and true or false is needed"),
        (lambda t: t.set_column(5, "rms", [[-1.0] * 5]), "'rms' is below 0 in a row"),
        (lambda t: t.set_column(3, "charge", [[1.0] * 5]), "'charge' holds double, and a number for each site"),
        (lambda t: t.set_column(1, "species", [[[0.5] * 32] * 5]), "row 0: species are no whole numbers"),
        (lambda t: t.append_column("code", [["lsms", None, "lsms", "lsms", "lsms"]]), "a row does not say its 'code'"),
        (lambda t: t.replace_schema_metadata({"symbols": "Cu,X", "code": "x"}), "two elements are needed"),
        (lambda t: t.replace_schema_metadata({b"symbols": b"\xff", "code": "x"}), "schema metadata are no text"),
    ],
)
def test_other_tables_are_refused(cuau, rows, tmp_path, change, text):
    path = written(tmp_path / "some.parquet", change(table_of(cuau, rows)))
    refused(TableImporter(), text, path, SITES)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda a: a[np.random.default_rng(0).permutation(32)], "row 1: charges of sites that the lattice's symmetry"),
        (lambda a: ase.build.bulk("Fe", "bcc", a=3.1, cubic=True).repeat((4, 2, 2)), "row 1: charges of sites that"),
        (
            lambda a: (a.rattle(0.3), a)[1],
            "its sites have no symmetry; give a structure whose atoms are on their ideal",
        ),
        (lambda a: (a.set_pbc(False), a)[1], "not periodic in three dimensions"),
    ],
)
def test_a_table_with_other_sites_is_refused(cuau, rows, tmp_path, change, text):
    """In a row with one atom of gold, its neighbours have equal charges on the right lattice alone."""
    path = written(tmp_path / "some.parquet", table_of(cuau, rows))
    ase.io.write(tmp_path / "sites.xyz", change(ase.io.read(SITES)))
    refused(TableImporter(), text, path, tmp_path / "sites.xyz")


def test_tables_of_two_codes_are_refused(cuau, rows, tmp_path):
    one = written(tmp_path / "one.parquet", table_of(cuau, rows))
    other = table_of(cuau, [2, 3]).replace_schema_metadata({"symbols": "Cu,Au", "code": "xtb"})
    refused(
        TableImporter(),
        "its code is xtb, and lsms in .*one.parquet",
        one,
        written(tmp_path / "o.parquet", other),
        SITES,
    )


def test_unconverged_rows_can_be_marked(cuau, rows, tmp_path):
    table = table_of(cuau, rows, converged=None, rms=[1e-6, 1e-6, 1e-3, 1e-6, 1e-6])
    path, said = written(tmp_path / "some.parquet", table), []
    made = read(TableImporter(), path, SITES).plan(check="warn", report=said.append).write(tmp_path / "made")
    assert made.all.converged.tolist() == [True, True, False, True, True]
    assert "row 2: it has not converged (residual 1.0e-03); it is marked" in said[0]
    assert "1 unconverged ones are not learnt from" in made.lines()[0]


def test_a_table_needs_the_sites(cuau, rows, tmp_path):
    path = written(tmp_path / "some.parquet", table_of(cuau, rows))
    refused(TableImporter(), "nothing says where the sites are; add a structure file", path)
    refused(TableImporter(), "one structure file says the lattice", path, SITES, ROOT / "examples" / "POSCAR")
    path.write_bytes(b"PAR1")
    refused(TableImporter(), "no readable Parquet table", path, SITES)


def test_splits_and_options_of_other_data_are_refused(cuau, rows, tmp_path):
    path = written(tmp_path / "some.parquet", table_of(cuau, rows))
    refused(TableImporter(), "splits of configurations are drawn by each study", path, SITES, test=["1"])
    with pytest.raises(DatasetError, match="--kernel is for other data"):
        TableImporter().read([path, SITES], told=Told(kernel="gaussian"), report=quiet)


# ---------------------------------------------------------------- runs of LSMS


@pytest.fixture
def runs(tmp_path):
    """The recorded run, and the same with all atoms of one element or the other."""
    folder = tmp_path / "runs"
    for name, number in (("mixed", None), ("Cu", 29), ("Au", 79)):
        (folder / name).mkdir(parents=True)
        for file in ("info_evec_out", "i_lsms", "k.out"):
            shutil.copy(RUNS / f"CuAu_{file}", folder / name / file)
        if number is not None:
            result = folder / name / "info_evec_out"
            _, *atoms = result.read_text().splitlines()
            parts = [line.split() for line in atoms]
            lines = [" ".join([str(number), *p[1:5], str(number), *p[6:]]) for p in parts]
            energy = {29: "-105754.378 0 0", 79: "-1218381.206 0 0"}[number]
            result.write_text("\n".join([energy, *lines]))
    return folder


def test_a_folder_of_runs_becomes_a_dataset(runs, tmp_path, cuau):
    made = read(LsmsImporter(), runs).plan().write(tmp_path / "made")
    assert made.all.ids == ("Au", "Cu", "mixed")
    assert made.info.symbols == ("Cu", "Au")
    run = read_lsms(runs / "mixed" / "info_evec_out")
    assert made.all.energy[2] == run.energy
    first = made.info.lattice.atoms([made.info.symbols[s] for s in made.all.species[2]])
    order = made.info.lattice.sites_of(run.atoms)
    assert (first.numbers[order] == run.atoms.numbers).all()
    assert (made.all.charge[2][order] == run.charge).all()
    assert made.all.n_second[2] == 12
    line = (20 * -105754.378 + 12 * -1218381.206) / 32
    assert made.formation_energies[2] / RYDBERG == pytest.approx(-522989.792397737735882 - line, abs=1e-6)
    assert recognised([runs], others=importers()).name == "lsms"


def test_runs_that_do_not_belong_together_are_refused(runs):
    result, text = runs / "mixed" / "info_evec_out", (runs / "mixed" / "info_evec_out").read_text()
    result.write_text(text.replace(" 79 ", " 78 ", 1) if " 79 " in text else "78" + text)
    refused(LsmsImporter(), "two elements are needed, and there are 3|has Pt|line", runs)
    result.write_text(text[: len(text) // 2])
    refused(LsmsImporter(), "the run was cut off", runs)
    result.write_text(text)
    lines = (runs / "mixed" / "k.out").read_text().splitlines(keepends=True)
    (runs / "mixed" / "k.out").write_text("".join(lines[:5]))
    refused(LsmsImporter(), "mixed/info_evec_out: it has not converged .residual", runs)
    (runs / "mixed" / "k.out").unlink()
    refused(LsmsImporter(), "nothing says whether it has converged", runs)
    shutil.rmtree(runs / "Cu")
    (runs / "mixed" / "k.out").write_text("".join(lines))
    refused(LsmsImporter(), "no configuration is pure Cu", runs)


def test_atoms_off_the_lattice_are_refused(runs):
    result = runs / "mixed" / "info_evec_out"
    head, first, *rest = result.read_text().splitlines()
    parts = first.split()
    result.write_text("\n".join([head, " ".join([*parts[:2], "1.1", *parts[3:]]), *rest]))
    refused(LsmsImporter(), r"mixed/info_evec_out: atom 0 \(\w+\) is 0.58 Å from the next site", runs)


# ---------------------------------------------------------------- text files


@pytest.fixture
def texts(tmp_path, cuau):
    """Four configurations as text files, atoms in another order than the sites; the second kind has six columns."""
    folder, rng = tmp_path / "texts", np.random.default_rng(0)
    folder.mkdir()
    positions = cuau.info.lattice.positions / BOHR
    for n, row in enumerate((0, 20, 70, len(cuau.all) - 1)):
        some, order = cuau.all.take([row]), rng.permutation(32)
        z = cuau.info.numbers[some.species[0]]
        lines = [f"{some.energy[0] / RYDBERG:.12f} 0.0 0.0"]
        for i, site in enumerate(order):
            index = [str(i)] if n < 3 else []
            numbers = [*positions[site], some.charge[0][site], some.moment[0][site]]
            lines.append(" ".join([str(z[site]), *index, *(f"{v:.8f}" for v in numbers)]))
        (folder / f"output{n}.txt").write_text("\n".join(lines))
    return folder


def test_text_files_become_a_dataset(texts, tmp_path, cuau):
    said = []
    found = HydraGnnImporter().read([texts, SITES], told=Told(), report=said.append)
    made = found.plan().write(tmp_path / "made")
    kept = cuau.all.take([0, 20, 70, len(cuau.all) - 1])
    assert (made.all.species == kept.species).all()
    assert made.all.charge == pytest.approx(kept.charge, abs=1e-7)
    assert made.formation_energies == pytest.approx(cuau.formation_energies[[0, 20, 70, -1]], abs=1e-5)
    assert "do not say whether a run has converged" in said[0]
    assert recognised([texts], others=importers()).name == "hydragnn"


def test_damaged_text_files_are_refused(texts):
    refused(HydraGnnImporter(), "nothing says where the sites are", texts)
    file = texts / "output1.txt"
    text = file.read_text()
    file.write_text("\n".join(text.splitlines()[:20]))
    refused(HydraGnnImporter(), "output1.txt: 19 atoms, and the lattice has 32 sites", texts, SITES)
    file.write_text(text[: len(text) // 2 - 30].rsplit(" ", 3)[0])
    refused(HydraGnnImporter(), "output1.txt, line .*columns", texts, SITES)
    file.write_text("no numbers\nat all")
    refused(HydraGnnImporter(), "output1.txt, line 1: could not convert", texts, SITES)


def test_the_bundled_structures_are_on_the_lattices(cuau, fept):
    for data, name in ((cuau, "CuAu_L10"), (fept, "FePt_B2")):
        atoms = ase.io.read(ROOT / "examples" / "alloys" / f"{name}.xyz")
        assert (data.info.lattice.sites_of(atoms) == np.arange(32)).all()
        assert Lattice.of(atoms).permutations.shape == data.info.lattice.permutations.shape
