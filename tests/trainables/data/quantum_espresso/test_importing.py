import os
import shutil
from pathlib import Path

import ase.io
import ase.units
import numpy as np
import pytest

from dftune.trainables.data.importing.importers import import_dataset, recognised
from dftune.trainables.data.importing.quantum_espresso.pw_log import read_log
from dftune.trainables.data.importing.quantum_espresso.pw_xml import NAME, read_xml
from dftune.trainables.physics.units import BOHR, RYDBERG

XML = Path("tmp/qe.save") / NAME


def made(source, destination, **options):
    """The one snapshot of an import, its LDOS, and what the import said."""
    lines = []
    dataset = import_dataset([source], destination, report=lines.append, **options)
    (snapshot,) = dataset.snapshots
    return dataset, snapshot, dataset.ldos(snapshot).array(), "\n".join(lines)


def cube_values(path):
    """Values of a cube, by a reader that shares nothing with that of dftune."""
    lines = path.read_text().splitlines()
    return np.array(" ".join(lines[6 + int(lines[2].split()[0]) :]).split(), dtype=float)


def band_energy_of(xml):
    """As pw.x gives it, eband [Ha], in eV."""
    return float(xml.read_text().split("<eband>")[1].split("<")[0]) * 2 * RYDBERG


def test_a_folder_of_runs_becomes_a_dataset(runs, tmp_path):
    lines = []
    dataset = import_dataset([runs], tmp_path / "al2", report=lines.append)
    assert [snapshot.id for snapshot in dataset.snapshots] == ["0", "1"]
    grid = dataset.info.energy_grid
    assert (grid.minimum, grid.spacing, grid.n_energy, grid.kernel, grid.width) == (-8.0, 1.0, 21, "gaussian", 1.0)
    assert dataset.info.source == "Quantum ESPRESSO 6.7MaX: runs"
    assert f"kernel of the LDOS: gaussian, as pp.x takes the smearing that {runs / '0' / XML} has" in lines[0]
    assert sum(line.startswith("checked") for line in lines) == 11


def test_the_ldos_of_every_energy_is_that_of_its_cube(run, tmp_path):
    _, snapshot, ldos, _ = made(run, tmp_path / "al2")
    assert (snapshot.grid, ldos.shape) == ((9, 9, 12), (972, 21))
    for n in (1, 12, 21):
        values = cube_values(run / f"tmp.pp{n:03d}ldos.cube") / RYDBERG / BOHR**3
        np.testing.assert_allclose(ldos[:, n - 1], values, rtol=1e-7)


def test_energies_are_those_of_the_log(run, tmp_path):
    """As pw.x prints them into pw.out [Ry]; the band energy is eband of the XML [Ha], which no other number gives."""
    _, snapshot, _, _ = made(run, tmp_path / "al2")
    log = read_log(run / "pw.out")
    for ours, ry in (
        (snapshot.total_energy, log.total_energy / RYDBERG),
        (snapshot.hartree_energy, log.terms["hartree"] / RYDBERG),
        (snapshot.xc_energy, log.terms["xc"] / RYDBERG),
        (snapshot.ewald_energy, log.terms["ewald"] / RYDBERG),
        (snapshot.entropy_term, log.terms["smearing"] / RYDBERG),
    ):
        assert ours == pytest.approx(ry * RYDBERG, abs=1e-6)
    assert snapshot.band_energy == pytest.approx(band_energy_of(run / XML), abs=1e-6)
    assert snapshot.temperature == pytest.approx(3157.75, abs=0.01)  # 0.02 Ry
    assert snapshot.fermi_level == pytest.approx(log.fermi_level, abs=1e-4)


def test_the_dos_is_that_of_the_eigenvalues(run, tmp_path):
    """Cubes have five digits, and their errors average out over the grid."""
    dataset = made(run, tmp_path / "al2")[0]
    (dos,) = [check for check in dataset.info.checks if check.name == "dos_error"]
    assert 0 < dos.worst < 1e-5


def test_log_and_xml_say_the_same(calculated):
    log, xml = read_log(calculated / "runs/0/pw.out"), read_xml(calculated / "runs/0" / XML)
    np.testing.assert_allclose(log.cell, xml.cell, atol=3e-6)
    np.testing.assert_allclose(log.positions, xml.positions, atol=1e-6)
    np.testing.assert_allclose(log.forces, xml.forces, atol=1e-6)
    for name in ("n_electrons", "grid", "symbols", "version", "pseudopotentials"):
        assert getattr(log, name) == getattr(xml, name)
    for name in ("wave_cutoff", "density_cutoff", "degauss", "total_energy"):
        assert getattr(log, name) == pytest.approx(getattr(xml, name), abs=1e-6)
    assert xml.k_mesh == (4, 4, 3)


# What pw.x 6.7 wrote with tstress of two displaced atoms in a sheared cell.
STRESS_OF_LOG = """
          total   stress  (Ry/bohr**3)                   (kbar)     P=     -109.19
   0.00014173   0.00014708   0.00010665           20.85       21.64       15.69
   0.00014708  -0.00052900  -0.00000345           21.64      -77.82       -0.51
   0.00010665  -0.00000345  -0.00183961           15.69       -0.51     -270.62

"""
STRESS_OF_XML = """<stress rank="2" dims="3 3" order="F">
      7.086569455417093e-5 7.354150652736703e-5 5.332437052769689e-5
      7.354150652736703e-5 -2.644999953722573e-4 -1.723078281868791e-6
      5.332437052769689e-5 -1.723078281868791e-6 -9.198033373343501e-4
      </stress>"""


def test_a_stress_is_kept_with_tension_positive(run, tmp_path):
    """As ASE reads it of the log, as the kbar that pw.x prints beside it, and as the XML has it."""
    log, xml = run / "pw.out", run / XML
    head, tail = log.read_text().split("     Writing output data file", 1)
    log.write_text(head + STRESS_OF_LOG + "     Writing output data file" + tail)
    xml.write_text(xml.read_text().replace("</forces>\n", f"</forces>{STRESS_OF_XML}\n"))
    of_log, of_xml = read_log(log).stress, read_xml(xml).stress
    np.testing.assert_allclose(of_xml, of_log, atol=5e-9 * RYDBERG / BOHR**3)
    assert np.trace(of_log) / 3 / ase.units.GPa == pytest.approx(10.919, abs=1e-3)  # of the P that pw.x prints
    assert ase.io.read(log, format="espresso-out").get_stress(voigt=False) == pytest.approx(of_log, rel=1e-6)
    kept = made(run, tmp_path / "al2")[1]
    np.testing.assert_array_equal(kept.stress, of_xml)


def test_a_log_alone_is_enough(calculated, run, tmp_path):
    shutil.rmtree(run / "tmp")
    shutil.copy(calculated / "others/verbose/pw.out", run)  # with eigenvalues
    _, snapshot, _, said = made(run, tmp_path / "al2", kernel="gaussian")
    assert snapshot.band_energy == pytest.approx(band_energy_of(calculated / "runs/0" / XML), abs=1e-3)
    assert "as the log rounds it" not in said  # the input beside it says it exactly
    assert "kernel of the LDOS" not in said


def test_xml_alone_is_enough(run, tmp_path):
    (run / "pw.out").unlink()
    dataset, snapshot, _, said = made(run, tmp_path / "al2")
    assert dataset.info.species == {"Al": 3.0}
    assert snapshot.id == "run"
    assert "not checked: sum of the DFT's own terms" in said


def set_width(log):
    """Another smearing in a log, which no longer says the entropy term that followed from it."""
    lines = log.read_text().replace("width (Ry)=  0.0200", "width (Ry)=  0.0060").splitlines(keepends=True)
    log.write_text("".join(line for line in lines if "smearing contrib." not in line))


def test_a_log_without_its_input_says_how_it_rounds_the_temperature(calculated, run, tmp_path):
    shutil.rmtree(run / "tmp")
    (run / "pw.in").unlink()
    set_width(run / "pw.out")
    _, _, _, said = made(run, tmp_path / "al2", kernel="gaussian")
    assert "run: temperature 947 ± 8 K, as the log rounds it" in said


def test_the_input_beside_a_log_gives_the_temperature_that_the_log_rounds(run, tmp_path):
    shutil.rmtree(run / "tmp")
    set_width(run / "pw.out")
    (run / "pw.in").write_text((run / "pw.in").read_text().replace("degauss=0.02", "degauss=0.00597"))
    _, snapshot, _, said = made(run, tmp_path / "al2", kernel="gaussian", check="warn")
    assert snapshot.temperature == pytest.approx(157887.5 * 0.00597, rel=1e-5)  # a Rydberg in K
    assert "as the log rounds it" not in said


def test_windows_that_were_computed_one_by_one_are_joined(run, tmp_path):
    whole = made(run, tmp_path / "whole")[2]
    for n in range(1, 22):  # windows of 7 energies, each numbered from 1, in folders of their own
        window = run / f"window{(n - 1) // 7}"
        window.mkdir(exist_ok=True)
        (run / f"tmp.pp{n:03d}ldos.cube").rename(window / f"tmp.pp{(n - 1) % 7 + 1}part.cube")
    (run / "ldos.in").unlink()
    np.testing.assert_array_equal(made(run, tmp_path / "joined")[2], whole)


def test_an_energy_may_be_there_twice_if_it_is_the_same(run, tmp_path):
    shutil.copy(run / "tmp.pp012ldos.cube", run / "tmp.pp1other.cube")
    assert made(run, tmp_path / "al2")[2].shape == (972, 21)


@pytest.mark.parametrize("digits", [1, 2, 5])
def test_numbers_in_names_have_any_width(run, tmp_path, digits):
    for n in range(1, 22):
        (run / f"tmp.pp{n:03d}ldos.cube").rename(run / f"tmp.pp{n:0{digits}d}ldos.cube")
    assert made(run, tmp_path / "al2")[1].band_energy is not None


def to_xsf(cube):
    """As pp.x writes it with output_format = 5: x runs fastest, and each axis ends with its first point."""
    lines = cube.read_text().splitlines()
    grid = [int(line.split()[0]) for line in lines[3:6]]
    cell = [[float(x) * n * BOHR for x in line.split()[1:]] for line, n in zip(lines[3:6], grid, strict=True)]
    atoms = [[float(x) * BOHR for x in line.split()[2:]] for line in lines[6:8]]
    periodic = np.pad(cube_values(cube).reshape(grid), [(0, 1)] * 3, mode="wrap")
    vectors = "\n".join("  ".join(f"{x:.9f}" for x in vector) for vector in cell)
    places = "\n".join("Al  " + "  ".join(f"{x:.9f}" for x in atom) for atom in atoms)
    values = "\n".join(f"{x:.6E}" for x in periodic.ravel(order="F"))
    cube.with_suffix(".xsf").write_text(
        f" CRYSTAL\n PRIMVEC\n{vectors}\n PRIMCOORD\n 2 1\n{places}\nBEGIN_BLOCK_DATAGRID_3D\n3D_PWSCF\n"
        f"BEGIN_DATAGRID_3D_UNKNOWN\n {grid[0] + 1} {grid[1] + 1} {grid[2] + 1}\n 0.0 0.0 0.0\n{vectors}\n{values}\n"
        "END_DATAGRID_3D\nEND_BLOCK_DATAGRID_3D\n"
    )
    cube.unlink()


def test_xsf_files_are_read_with_the_energies_of_their_input(run, tmp_path):
    cubes = made(run, tmp_path / "cubes")[0]
    for cube in run.glob("*.cube"):
        to_xsf(cube)
    for name in ("ldos.in", "dens.in"):
        (run / name).write_text((run / name).read_text().replace(".cube", ".xsf"))
    xsf = made(run, tmp_path / "xsf")[0]
    assert xsf.info.energy_grid == cubes.info.energy_grid
    for read in ("ldos", "density"):
        ours, theirs = (getattr(one, read)(one.snapshots[0]).array() for one in (xsf, cubes))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_xsf_files_without_their_input_are_told(runs, tmp_path):
    for cube in (runs / "1").glob("*.cube"):
        to_xsf(cube)
    (runs / "1/ldos.in").unlink()
    lines = []
    import_dataset([runs], tmp_path / "al2", report=lines.append)
    place = f"left out {runs / '1/dens.xsf'} and 21 more files: there is no LDOS of its structure"
    assert f"{place}; xsf files of an LDOS need the input of pp.x beside them" in lines


def test_of_inputs_of_one_name_each_run_has_its_own(runs, tmp_path):
    for run in ("0", "1"):
        file = runs / run / "ldos.in"
        file.write_text(file.read_text().replace("plot_num=3", "plot_num=3, use_gauss_ldos=.true."))
        shutil.rmtree(runs / run / "tmp")  # without it the smearing would be the kernel
        for cube in (runs / run).glob("*ldos.cube"):
            to_xsf(cube)
        file.write_text(file.read_text().replace(".cube", ".xsf"))
    dataset = import_dataset([runs], tmp_path / "al2")
    assert dataset.info.energy_grid.kernel == "gaussian"
    assert [s.id for s in dataset] == ["0", "1"]


def test_pipes_among_the_files_are_not_opened(run, tmp_path):
    for name in ("a.cube", "b.out", "c.in"):
        os.mkfifo(run / name)
    assert len(made(run, tmp_path / "al2")[0]) == 1


def test_logs_and_inputs_need_not_be_utf_8(run, tmp_path):
    """Paths and comments have the encoding of the machine that wrote them."""
    expected = made(run, tmp_path / "right")[0].info
    shutil.rmtree(run / "tmp")
    for name, line in (("pw.out", "     Reading input from /home/Müller/pw.in"), ("ldos.in", " ! Größe")):
        lines = (run / name).read_text().splitlines()
        (run / name).write_bytes("\n".join([*lines[:3], line, *lines[3:]]).encode("latin-1"))
    found = import_dataset([run], tmp_path / "al2", kernel="gaussian").info
    assert found.energy_grid == expected.energy_grid


def test_an_nscf_run_gives_the_kernel_and_the_bands_and_the_scf_before_it_the_rest(calculated, run, tmp_path):
    shutil.rmtree(run / "tmp")
    (run / "pw.out").unlink()
    shutil.copytree(calculated / "others/nscf", run / "logs")
    dataset, snapshot, _, _ = made(run, tmp_path / "al2")
    assert dataset.info.energy_grid.kernel == "gaussian"  # the smearing of the nscf; the SCF has Fermi-Dirac
    assert snapshot.temperature == pytest.approx(3157.75, abs=0.01)  # and not the 0.03 Ry of the nscf
    assert snapshot.total_energy == pytest.approx(read_log(calculated / "others/nscf/scf.out").total_energy)
    assert snapshot.band_energy == pytest.approx(band_energy_of(calculated / "runs/0" / XML), abs=1e-3)


def test_eigenvalues_of_a_verbose_log_are_read(calculated):
    """Against the XML of the same calculation, which has all digits."""
    bands, xml = read_log(calculated / "others/verbose/pw.out").bands, read_xml(calculated / "runs/0" / XML).bands
    np.testing.assert_allclose(bands.energy, xml.energy, atol=1e-4)
    np.testing.assert_allclose(bands.weight, xml.weight, atol=1e-6)


def test_ids_tell_folders_apart_and_groups_are_the_folders_above(runs, tmp_path):
    for name in "01":
        (tmp_path / "md" / f"{name}K").mkdir(parents=True)
        (runs / name).rename(tmp_path / "md" / f"{name}K" / "step")
    dataset = import_dataset([tmp_path / "md"], tmp_path / "al2")
    assert [(s.id, s.group) for s in dataset.snapshots] == [("0K-step", "0K"), ("1K-step", "1K")]


def test_a_folder_of_quantum_espresso_is_recognised(run, tmp_path):
    assert recognised([run]).name == "quantum-espresso"
    for cube in run.glob("*.cube"):
        cube.unlink()
    shutil.rmtree(run / "tmp")
    assert recognised([run]).name == "quantum-espresso"  # by its log
