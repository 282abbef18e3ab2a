import gzip
import hashlib
import re
import shutil
from pathlib import Path

import pytest

from dftune.tests.exported import refused, upf
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.importing.quantum_espresso.pw_log import read_log
from dftune.trainables.data.importing.quantum_espresso.pw_xml import NAME
from dftune.trainables.errors import DatasetError
from dftune.trainables.physics.units import RYDBERG

UNPOLARISED = "dftune knows electrons without spin polarisation, so run pw.x with nspin = 1"


def change(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def cubes(folder):
    return sorted(folder.glob("tmp.pp*ldos.cube"))


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("spin", 75, f"spin-polarised; {UNPOLARISED}"),
        ("noncol", 186, f"magnetic; {UNPOLARISED}"),
        ("unconverged", 153, "the SCF did not converge; run pw.x to convergence"),
    ],
)
def test_a_log_of_what_is_not_covered_is_refused_with_its_line(calculated, run, tmp_path, name, line, message):
    shutil.rmtree(run / "tmp")
    shutil.copy(calculated / "others" / name / "pw.out", run)
    said = refused([run], tmp_path / "al2")
    assert re.sub(r"line \d+", "line N", said) == f"{run / 'pw.out'}, line N: {message}"
    wanted = {"spin": "Starting magnetic", "noncol": "total magnetization", "unconverged": "NOT achieved"}[name]
    number = int(re.search(r"line (\d+)", said)[1])
    assert wanted in (run / "pw.out").read_text().splitlines()[number - 1]


def test_xml_of_spin_polarised_electrons_is_refused(calculated, run, tmp_path):
    (run / "pw.out").unlink()
    shutil.copy(calculated / "others/spin" / NAME, run / "tmp/qe.save")
    assert refused([run], tmp_path / "al2").endswith(f"{NAME}: spin-polarised (lsda); {UNPOLARISED}")


@pytest.mark.parametrize("name, smearing", [("gauss", "gaussian"), ("cold", "marzari-vanderbilt")])
def test_electrons_without_a_temperature_are_refused(calculated, run, tmp_path, name, smearing):
    shutil.rmtree(run / "tmp")
    shutil.copy(calculated / "others" / name / "pw.out", run)
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{run / 'pw.out'}: states are occupied by {smearing}, where dftune knows electrons")


def test_xml_whose_smearing_was_edited_is_known_by_its_occupations(run, tmp_path):
    (run / "pw.out").unlink()
    xml = run / "tmp/qe.save" / NAME
    import_dataset([run], tmp_path / "right")  # it says gaussian, and its occupations are of Fermi-Dirac
    change(xml, '<occupations size="16">\n          1.000', '<occupations size="16">\n          0.900')
    assert "states are occupied by gaussian" in refused([run], tmp_path / "al2")


def test_a_charged_cell_is_refused(calculated, run, tmp_path):
    shutil.rmtree(run / "tmp")
    shutil.copy(calculated / "others/charged/pw.out", run)
    assert "charged cells are not supported" in refused([run], tmp_path / "al2", kernel="gaussian")


def test_a_log_that_was_cut_off_is_refused(run, tmp_path):
    shutil.rmtree(run / "tmp")
    lines = (run / "pw.out").read_text().splitlines(keepends=True)
    (run / "pw.out").write_text("".join(lines[:-20]))
    assert refused([run], tmp_path / "al2").startswith(f"{run / 'pw.out'}: ends before JOB DONE; run pw.x to its end")


def test_a_log_of_two_runs_is_refused(run, tmp_path):
    text = (run / "pw.out").read_text()
    (run / "pw.out").write_text(text + text)
    line = len(text.splitlines()) + 2
    assert refused([run], tmp_path / "al2").startswith(f"{run / 'pw.out'}, line {line}: a second run in one log")


def test_a_log_of_a_relaxation_is_refused(run, tmp_path):
    shutil.rmtree(run / "tmp")
    text = (run / "pw.out").read_text()
    energy = next(line for line in text.splitlines(keepends=True) if line.startswith("!"))
    change(run / "pw.out", energy, energy + energy)
    assert ": 2 SCF cycles in one log, of a relaxation" in refused([run], tmp_path / "al2")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("energy is     7.7254", "energy is     9.7254", "at its Fermi level of 9.7254 eV its eigenvalues hold 7.405"),
        ("width (Ry)=  0.0200", "width (Ry)=  0.0100", "at 1579 K its eigenvalues give an entropy term of -0.0783 eV"),
    ],
)
def test_a_log_that_contradicts_its_own_eigenvalues_is_refused(run, tmp_path, old, new, message):
    """Without them the LDOS would be compared with numbers that follow from the wrong temperature."""
    change(run / "pw.out", old, new)
    if "width" in old:
        assert "pw.out: degauss is 0.1361 eV, but 0.2721 in" in refused([run], tmp_path / "al2")
    shutil.rmtree(run / "tmp")
    assert refused([run], tmp_path / "al2", kernel="gaussian").startswith(f"{run / 'pw.out'}: {message}")


@pytest.mark.parametrize("content", ["", "<qes:espresso", '<?xml version="1.0"?><other/>'])
def test_xml_written_by_half_is_refused(run, tmp_path, content):
    xml = run / "tmp/qe.save" / NAME
    xml.write_text(content)
    assert refused([run], tmp_path / "al2").startswith(f"{xml}: ")


@pytest.mark.parametrize("tag", ["band_structure", "total_energy", "atomic_structure", "basis_set", "dft", "nelec"])
def test_xml_without_a_part_is_refused_or_does_without(run, tmp_path, tag):
    (run / "pw.out").unlink()
    xml = run / "tmp/qe.save" / NAME
    head, output = xml.read_text().split("<output>")
    output = re.sub(rf"<{tag}\b.*?</{tag}>", "", output, flags=re.DOTALL)
    xml.write_text(f"{head}<output>{output}")
    if tag == "total_energy":
        assert import_dataset([run], tmp_path / "al2").snapshots[0].total_energy is None
    else:
        assert refused([run], tmp_path / "al2").startswith(f"{xml}: ")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("MD5 check sum: 69", "MD5 check sum: 70", "the MD5 sum of the file of Al is 70dc"),
        ("SLA  PZ   NOGX NOGC", "SLA  PW   PBX  PBC", "the functional is pbe, but lda-pz in"),
        ("Al.pz-vbc.UPF", "Al.other.UPF", "pseudopotential is Al.other.UPF, but Al.pz-vbc.UPF in"),
    ],
)
def test_runs_of_different_pseudopotentials_are_refused_without_their_files_too(runs, tmp_path, old, new, message):
    shutil.rmtree(runs / "1/tmp")
    change(runs / "1/pw.out", old, new)
    assert f"{runs / '1/pw.out'}: {message}" in refused([runs], tmp_path / "al2", kernel="gaussian")


def test_no_cubes_at_all_are_missed(run, tmp_path):
    for cube in run.glob("*.cube"):
        cube.unlink()
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{run / 'pw.out'}: no cube or xsf file is there, so no LDOS; run pp.x with plot_num = 3")


def test_a_missing_energy_is_named(run, tmp_path):
    cubes(run)[4].unlink()
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{run}: the LDOS at -4 eV is missing, between tmp.pp004ldos.cube and tmp.pp006ldos.cube")


def test_a_cube_that_lost_the_last_digit_of_an_exponent_is_refused(run, tmp_path):
    cube = cubes(run)[0]
    text = cube.read_text().rstrip()
    cube.write_text(text)  # an editor may leave out the line end
    import_dataset([run], tmp_path / "whole")
    cube.write_text(text[:-1])
    assert refused([run], tmp_path / "al2").startswith(f"{cube}: ends within its last number; it was written by half")


def test_a_compressed_cube_is_named(run, tmp_path):
    cube = cubes(run)[4]
    cube.with_suffix(".cube.gz").write_bytes(gzip.compress(cube.read_bytes()))
    assert len(import_dataset([run], tmp_path / "with_both")) == 1
    cube.unlink()
    assert refused([run], tmp_path / "al2") == f"{cube}.gz: is compressed; unpack it, and all others of its folder"


def test_energies_missing_at_the_end_of_one_of_two_runs_are_known(runs, tmp_path):
    for cube in cubes(runs / "1")[-2:]:
        cube.unlink()
    said = refused([runs], tmp_path / "al2")
    assert said.startswith(f"{runs / '1/ldos.in'}: states 21 energies up to 12 eV, but tmp.pp020ldos.cube, the file of")


def test_a_cube_written_by_half_is_named_with_its_line(run, tmp_path):
    cube = cubes(run)[7]
    text = cube.read_text()
    cube.write_text(text[: len(text) // 2])
    lines = text[: len(text) // 2].count("\n") + 1
    said = refused([run], tmp_path / "al2")
    assert re.fullmatch(rf"{cube}, line {lines}: the file ends, and \d+ numbers more are needed here; .*", said)


def test_bytes_of_zero_in_a_cube_are_named_with_their_line(run, tmp_path):
    cube = cubes(run)[7]
    content = bytearray(cube.read_bytes())
    content[5000:5100] = bytes(100)
    cube.write_bytes(content)
    line = content[:5000].count(b"\n") + 1
    assert refused([run], tmp_path / "al2").startswith(f"{cube}, line {line}: ")


def test_a_cube_that_ends_in_its_head_is_named(run, tmp_path):
    cube = cubes(run)[7]
    cube.write_text("".join(cube.read_text().splitlines(keepends=True)[:7]))
    assert refused([run], tmp_path / "al2").startswith(f"{cube}, line 8: ends in its head; it was written by half")


@pytest.mark.parametrize("word", ["NaN", "**********", "0.1E", "0.1.2", "1e999"])
def test_a_word_among_the_numbers_is_named_with_its_line(run, tmp_path, word):
    cube = cubes(run)[7]
    lines = cube.read_text().splitlines()
    lines[20] = lines[20][:26] + f"  {word:>11}" + lines[20][39:]
    cube.write_text("\n".join(lines) + "\n")
    assert refused([run], tmp_path / "al2") == f"{cube}, line 21: '{word}' is no number; write this file again"


def test_a_cube_that_goes_on_after_its_end_is_named(run, tmp_path):
    cube = cubes(run)[7]
    text = cube.read_text()
    cube.write_text(text + "  0.10000E+00\n")
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{cube}, line {text.count(chr(10)) + 1}: goes on after the 9x9x12 values of its grid")


@pytest.mark.parametrize(
    "line, old, new, message",
    [
        (3, "    2    0.000000", "  two    0.000000", "'two    0.000000    0.000000    0.000000' where the number of"),
        (3, "    2    0.000000", "   -2    0.000000", "a cube of orbitals; give cubes of one quantity"),
        (3, "    2    0.000000", "    2    0.100000", "its grid does not begin at the origin of the cell"),
        (4, "    9    0.6", "    0    0.6", "0 is no number of grid points"),
        (4, "    9    0.6", "  9.5    0.6", "9.5 is no number of grid points"),
        (7, "   13", "  nan", "'nan   13.000000"),
    ],
)
def test_a_damaged_head_of_a_cube_is_named_with_its_line(run, tmp_path, line, old, new, message):
    cube = cubes(run)[0]
    lines = cube.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    cube.write_text("".join(lines))
    assert refused([run], tmp_path / "al2").startswith(f"{cube}, line {line}: {message}")


def test_a_cube_of_another_structure_is_named(runs, run, tmp_path):
    shutil.copy(runs / "1/tmp.pp005ldos.cube", run)
    said = refused([run], tmp_path / "al2")
    assert re.match(
        rf"{run}/tmp.pp005ldos.cube: of another structure than {run}/\S+: atom \d is 0\.\d+ Å away; keep the log", said
    )


def test_a_cube_that_lies_beside_another_calculation_than_its_own_is_named(runs, tmp_path):
    both = Path(shutil.copytree(runs, tmp_path / "both"))
    moved = both / "0/tmp.pp005ldos.cube"
    shutil.copy(both / "1/tmp.pp005ldos.cube", moved)
    lines = []
    with pytest.raises(DatasetError, match=r"0: the LDOS at -?[\d.]+ eV is missing"):
        import_dataset([both], tmp_path / "al2", report=lines.append)
    assert any(
        re.fullmatch(rf"{moved}: taken for {both}/1/\S+, whose structure it has; \S+ has another one", s) for s in lines
    )


def test_a_cube_of_another_cell_is_named(run, tmp_path):
    change(cubes(run)[4], "    9    0.601307", "    9    0.611307")
    assert "tmp.pp005ldos.cube: of another structure than" in (said := refused([run], tmp_path / "al2"))
    assert ": cell vectors differ by 0.0476 Å; keep the log" in said


def test_cubes_without_a_calculation_are_refused(run, tmp_path):
    shutil.rmtree(run / "tmp")
    (run / "pw.out").unlink()
    assert "no log of pw.x and no data-file-schema.xml is there" in refused([run], tmp_path / "al2")


def test_cubes_on_another_grid_than_the_density_are_refused(run, tmp_path):
    shutil.rmtree(run / "tmp")
    change(run / "pw.out", "FFT dimensions: (   9,   9,  12)", "FFT dimensions: (  10,  10,  12)")
    said = refused([run], tmp_path / "al2", kernel="gaussian")
    assert said.startswith(
        f"{cubes(run)[0]}: grid (9, 9, 12), but pw.x had (10, 10, 12); write the cubes on the FFT grid"
    )


def test_two_broadenings_in_one_snapshot_are_refused(run, tmp_path):
    change(cubes(run)[4], "broadening =   1.0000", "broadening =   0.9000")
    assert refused([run], tmp_path / "al2") == (
        f"{cubes(run)[4]}, line 2: a broadening of 0.9 eV, but {run / 'ldos.in'} had it written with 1 eV; it was "
        "changed since, so restore or remove it"
    )
    (run / "ldos.in").unlink()
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{cubes(run)[4]}: broadening of 0.9 eV, but 1.0 eV in {cubes(run)[0]}")


def test_energies_that_are_not_equally_far_apart_are_refused(run, tmp_path):
    change(cubes(run)[4], "Energy =  -4.0000", "Energy =  -3.9000")
    (run / "ldos.in").unlink()
    assert "the energies must be equally far apart" in refused([run], tmp_path / "al2")


def test_another_ldos_at_the_same_energy_is_refused(run, tmp_path):
    other = run / "tmp.pp1other.cube"
    shutil.copy(cubes(run)[3], other)
    change(other, other.read_text().split()[-1], "0.99999E+00")
    said = refused([run], tmp_path / "al2")
    assert said == f"{other}: another LDOS at -5 eV than {cubes(run)[3]}; keep one of the two"


def test_the_ldos_of_one_spin_is_refused(run, tmp_path):
    change(run / "ldos.in", "plot_num=3", "plot_num=3, spin_component=1")
    said = refused([run], tmp_path / "al2")
    assert said == f"{run / 'ldos.in'}: spin_component = 1; the LDOS of both spins is needed, so run pp.x with 0"


def test_a_log_of_another_calculation_beside_the_xml_is_refused(calculated, run, tmp_path):
    shutil.copy(calculated / "others/pbe/pw.out", run)
    said = refused([run], tmp_path / "al2")
    assert re.fullmatch(
        rf"{run}/pw.out: its total energy is 0.\d+ eV off that in .*; keep files of one calculation", said
    )


def test_another_pseudopotential_than_that_of_the_log_is_refused(run, tmp_path):
    (run / "Al.pz-vbc.UPF").write_text(upf())
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{run / 'Al.pz-vbc.UPF'}: has the MD5 sum ")
    assert f"but {run / 'tmp/qe.save' / NAME} was computed with another file of this name" in said


def test_of_two_pseudopotentials_of_one_name_the_wrong_one_is_named(run, tmp_path):
    (run / "Al.pz-vbc.UPF").write_text(upf())
    (run / "tmp/qe.save/Al.pz-vbc.UPF").write_text(upf(element="Mg", valence=2.0))
    assert refused([run], tmp_path / "al2").startswith(f"{run / 'Al.pz-vbc.UPF'}: has the MD5 sum ")


def with_pseudopotential(run):
    """Put a file of the same functional beside a run, and its checksum into the log."""
    (run / "Al.pz-vbc.UPF").write_text(upf())
    md5 = hashlib.md5(upf().encode()).hexdigest()
    text = (run / "pw.out").read_text()
    (run / "pw.out").write_text(re.sub(r"MD5 check sum: \w+", f"MD5 check sum: {md5}", text))


@pytest.mark.parametrize(
    "name, reason",
    [
        ("d2", "the total energy of the DFT has a term 'Dispersion Correction'"),
        ("field", "the total energy of the DFT has a term 'electric field correction'"),
    ],
)
def test_terms_that_are_not_known_leave_no_total_free_energies(calculated, run, tmp_path, name, reason):
    shutil.rmtree(run / "tmp")
    shutil.copy(calculated / "others" / name / "pw.out", run)
    with_pseudopotential(run)
    lines = []
    made = import_dataset([run], tmp_path / "al2", kernel="gaussian", report=lines.append)
    assert made.info.dft is None
    assert f"no total free energies from this dataset: {run / 'pw.out'}: {reason}" in lines


@pytest.mark.parametrize(
    "name, beyond",
    [
        ("d3", "a term 'DFT-D3 Dispersion'"),
        ("ts", "a term 'Dispersion T-S Correction'"),
        ("xdm", "a term 'Dispersion XDM Correction'"),
        ("2d", "assume_isolated = '2D'"),
        ("mt", "assume_isolated = 'mt'"),
        ("esm", "assume_isolated = 'esm'"),
        ("hubbard", "a Hubbard U"),
        ("pbe0", "exact exchange"),
    ],
)
def test_what_a_log_holds_beyond_the_known_terms_is_named(calculated, name, beyond):
    assert beyond in read_log(calculated / "others" / name / "pw.out").beyond


def test_of_a_hybrid_functional_the_last_cycle_counts(calculated):
    run = read_log(calculated / "others/pbe0/pw.out")
    assert run.fermi_level == 10.0737  # 9.9315 without exchange, 10.0746 in the cycle before
    assert run.total_energy == pytest.approx(-8.58543429 * RYDBERG)


def test_the_functional_is_that_of_the_calculation_and_not_of_the_pseudopotential(run, tmp_path):
    shutil.rmtree(run / "tmp")
    with_pseudopotential(run)
    change(run / "pw.out", "Exchange-correlation= SLA  PZ   NOGX NOGC", "Exchange-correlation= PBE")  # as by input_dft
    made = import_dataset([run], tmp_path / "al2", kernel="gaussian", check="warn")  # its numbers are those of LDA
    assert made.info.dft.functional == "pbe"


def test_a_functional_that_is_not_known_leaves_no_total_free_energies(run, tmp_path):
    shutil.rmtree(run / "tmp")
    with_pseudopotential(run)
    change(run / "pw.out", "Exchange-correlation= SLA  PZ   NOGX NOGC", "Exchange-correlation= SLA  PW   PSX  PSC")
    lines = []
    assert import_dataset([run], tmp_path / "al2", kernel="gaussian", report=lines.append).info.dft is None
    assert "the DFT used the functional 'SLA PW PSX PSC'; LDA-PZ and PBE are known" in "\n".join(lines)


def test_a_file_is_no_source(run, tmp_path):
    said = refused([run / "pw.out"], tmp_path / "al2", importer="quantum-espresso")
    assert said == f"{run / 'pw.out'}: no folder; give folders of snapshots"


def test_structures_that_are_there_twice_are_refused(run, tmp_path):
    (tmp_path / "both").mkdir()
    shutil.copytree(run, tmp_path / "both/a")
    shutil.move(run, tmp_path / "both/b")
    assert "has the same atoms as" in refused([tmp_path / "both"], tmp_path / "al2")


def test_a_failed_run_elsewhere_does_not_hinder_the_import(calculated, runs, tmp_path):
    shutil.copytree(calculated / "others/unconverged", runs / "tests/first")
    assert len(import_dataset([runs], tmp_path / "al2").snapshots) == 2


def test_a_kernel_that_is_not_known_is_asked_for(run, tmp_path):
    change(run / "tmp/qe.save" / NAME, ">gaussian<", ">m-v<", count=2)
    said = refused([run], tmp_path / "al2")
    assert "the smearing is marzari-vanderbilt, and pp.x broadens the LDOS in the same way" in said
    assert import_dataset([run], tmp_path / "al2", kernel="gaussian").info.energy_grid.kernel == "gaussian"


def test_a_kernel_told_against_the_input_of_pp_is_refused(run, tmp_path):
    change(run / "ldos.in", "plot_num=3", "plot_num=3, use_gauss_ldos=.true.")
    assert "the kernel of the broadening is gaussian, but --kernel says fermi-dirac" in refused(
        [run], tmp_path / "al2", kernel="fermi-dirac"
    )


def test_input_with_a_word_for_a_number_is_refused(run, tmp_path):
    change(run / "ldos.in", "emin=-8", "emin=low")
    assert (
        refused([run], tmp_path / "al2")
        == f"{run / 'ldos.in'}: emin = 'low' is no number; mend it, or remove this input"
    )


def test_the_wrong_kernel_is_noticed_by_the_band_energy(run, tmp_path):
    said = refused([run], tmp_path / "al2", kernel="fermi-dirac")
    assert "the LDOS holds 6.911 electrons below the Fermi level of 7.725 eV, the DFT has 6" in said


@pytest.mark.parametrize("told", [{"kernel": "fermi-dirac"}, {}])
def test_another_broadening_than_that_of_the_cubes_shows_in_the_dos(run, tmp_path, told):
    if not told:
        change(run / "ldos.in", "degauss_ldos=1.0", "degauss_ldos=0.9")
        for cube in cubes(run):
            change(cube, "broadening =   1.0000", "broadening =   0.9000")
    warnings = import_dataset([run], tmp_path / "al2", check="warn", **told).info.warnings
    (warning,) = [line for line in warnings if "off the eigenvalues in" in line]
    assert f"the DOS of the LDOS is up to {21 if told else 3.8} % off" in warning
    assert warning.endswith("(--kernel gaussian)") == bool(told)


def test_meshes_of_other_density_in_one_dataset_are_refused(runs, tmp_path):
    xml = runs / "1/tmp/qe.save" / NAME
    change(xml, 'nk1="4" nk2="4" nk3="3"', 'nk1="2" nk2="2" nk3="2"', count=2)
    assert refused([runs], tmp_path / "al2") == (
        f"{xml}: its k-points are 6.0 times sparser than those of {runs / '0/tmp/qe.save' / NAME} (2x2x2 and 4x4x3); "
        "compute all snapshots of a dataset with one density of k-points"
    )


def test_a_window_that_ends_below_the_fermi_level_is_refused(run, tmp_path):
    for cube in cubes(run)[14:]:  # from 6 eV on
        cube.unlink()
    change(run / "ldos.in", "emax=12.1", "emax=5.1")
    assert "the energies from -8 to 5 eV do not hold the Fermi level of 7.725 eV" in refused([run], tmp_path / "al2")
