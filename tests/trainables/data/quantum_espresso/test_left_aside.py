"""What lies beside the files that are read: energies that are stated and not there, logs that are none, other runs."""

import gzip
import re
import shutil

import pytest

from dftune.tests.exported import refused
from dftune.trainables.data.importing.importer import Told
from dftune.trainables.data.importing.importers import import_dataset, plan_import
from dftune.trainables.data.importing.quantum_espresso.inputs import read_inputs
from dftune.trainables.data.importing.quantum_espresso.pw_xml import NAME

KNOWN = Told(kernel="gaussian")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def said_of(sources, told=KNOWN):
    """What an import would do, and what it says of it."""
    lines = []
    plan_import(sources, told=told, report=lines.append)
    return lines


def log_of_pp(run, n=21):
    """A log of pp.x as 6.7 writes it."""
    lines = ["     Program POST-PROC v.6.7MaX starts on 30Nov2026 at  3:59:13 "]
    for k in range(n):
        lines += ["     Calling punch_plot, plot_num =   3", f"     Energy = {k - 8:9.5f} eV, broadening =   1.00000eV"]
    for k in range(1, n + 1):
        lines += [f"     Writing data to be plotted to file tmp.pp{k:03d}ldos.cube"]
    (run / "pp.out").write_text("\n".join([*lines, "   JOB DONE.", ""]))


@pytest.mark.parametrize(
    "emin, emax, spacing, fewest, most",
    [
        (-8, 12.1, 1.0, 21, 21),
        (-8, 12.6, 1.0, 21, 21),
        (-7, 11, 0.45, 40, 41),
        (-8, 12, 1.0, 20, 21),
        (0, 0.5, 1.0, 1, 1),
    ],
)
def test_the_number_of_energies_is_that_of_pp_x(tmp_path, emin, emax, spacing, fewest, most):
    """pp.x 6.7 of Debian wrote 21, 21, 40, 21 and 1; of the multiples it may write one less."""
    (tmp_path / "a.in").write_text(f"&inputpp plot_num=3, emin={emin}, emax={emax}, delta_e={spacing} /")
    (one,), _, _ = read_inputs([tmp_path / "a.in"])
    assert one.n_energies == (fewest, most)


def test_where_rounding_decides_the_number_is_by_the_rydberg_of_pp_x(tmp_path):
    """pp.x 6.7 of Debian wrote 40, 21 and 11 energies; an earlier Rydberg may give the other number."""
    found = []
    for emin, emax, spacing in ((-7, 11, 0.45), (-8, 12, 1.0), (-5, 20, 2.5)):
        (tmp_path / "a.in").write_text(f"&inputpp plot_num=3, emin={emin}, emax={emax}, delta_e={spacing} /")
        (one,), _, _ = read_inputs([tmp_path / "a.in"])
        found.append(one.rounded_energies)
    assert found == [[41, 40], [21], [11]]


def test_a_missing_last_cube_is_named_by_the_input(run, tmp_path):
    (run / "tmp.pp021ldos.cube").unlink()
    assert refused([run], tmp_path / "al2") == (
        f"{run / 'ldos.in'}: states 21 energies up to 12 eV, but tmp.pp021ldos.cube, the file of that at 12 eV, is "
        "missing; copy it, or run pp.x to its end; if this is of another LDOS, move it elsewhere"
    )


def test_a_missing_last_cube_is_named_by_the_log_of_pp_x(run, tmp_path):
    (run / "ldos.in").unlink()
    log_of_pp(run)
    import_dataset([run], tmp_path / "whole")
    (run / "tmp.pp021ldos.cube").unlink()
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{run / 'pp.out'}: states 21 energies up to 12 eV, but tmp.pp021ldos.cube, the file of")


def test_a_last_energy_that_rounding_decides_is_only_told(run):
    change(run / "ldos.in", "12.1", "12")
    (run / "tmp.pp021ldos.cube").unlink()
    (told,) = [line for line in said_of([run]) if "tmp.pp021ldos.cube" in line]
    assert told.startswith(f"{run / 'ldos.in'}: tmp.pp021ldos.cube, the file of the last energy, 12 eV, is not there;")


def test_a_file_between_the_steps_of_pp_x_tells_the_last_energy(run, tmp_path):
    change(run / "ldos.in", "12.1", "12")
    (run / "tmp.pp021ldos.cube").unlink()
    (run / "tmp.pp021").write_text("what pp.x writes before it writes the cube")
    assert "tmp.pp021ldos.cube, the file of that at 12 eV, is missing" in refused([run], tmp_path / "al2")


def windows(run):
    """Three windows of seven energies, each with its input."""
    text = (run / "ldos.in").read_text()
    for w in range(3):
        new = text.replace("emin=-8", f"emin={7 * w - 8}").replace("emax=12.1", f"emax={7 * w - 1.9}")
        (run / f"window{w}.in").write_text(new.replace("ldos.cube", f"window{w}.cube"))
        for n in range(1, 8):
            (run / f"tmp.pp{7 * w + n:03d}ldos.cube").rename(run / f"tmp.pp{n:03d}window{w}.cube")
    (run / "ldos.in").unlink()


def test_a_missing_last_window_is_named_by_its_input(run, tmp_path):
    windows(run)
    import_dataset([run], tmp_path / "whole")
    for cube in run.glob("*window2.cube"):
        cube.unlink()
    assert refused([run], tmp_path / "al2").startswith(
        f"{run / 'window2.in'}: states 7 energies up to 12 eV, but tmp.pp001window2.cube, the file of that at 6 eV, is "
        "missing, and those of 6 more energies; copy it"
    )


def test_an_input_of_other_energies_elsewhere_is_no_sign(runs, tmp_path):
    """It is that of another run, or of an LDOS with another width."""
    windows(runs / "1")
    (runs / "1/window2.in").rename(runs / "window9.in")  # above the runs, so that it belongs to none
    change(runs / "1/window0.in", "emin=-8", "emin=-8")
    (runs / "0/other.in").write_text(
        (runs / "0/ldos.in").read_text().replace("12.1", "15.1").replace("degauss_ldos=1.0", "degauss_ldos=0.2")
    )
    said_of([runs])


def test_a_last_cube_that_another_snapshot_has_is_named(runs, tmp_path):
    for run in runs.iterdir():
        (run / "ldos.in").unlink()
    (runs / "0/tmp.pp021ldos.cube").unlink()
    said = refused([runs], tmp_path / "al2")
    assert said.startswith(f"{runs / '0'}/tmp/qe.save/{NAME}: its energy grid has n_energy 20, that of {runs / '1'}")
    assert "the LDOS at 12 eV is missing here, so compute or copy it" in said


def test_where_nothing_tells_the_band_energy_names_the_possibility(run, tmp_path):
    (run / "ldos.in").unlink()
    (run / "tmp.pp021ldos.cube").unlink()
    said = refused([run], tmp_path / "al2")
    assert "files of its lowest or highest energies are missing (it has 20, from -8 to 11 eV)" in said


def test_numbers_that_begin_late_are_told(run):
    (run / "ldos.in").unlink()
    assert not [line for line in said_of([run]) if "begin with number" in line]
    for n in (1, 2):
        (run / f"tmp.pp{n:03d}ldos.cube").unlink()
    (told,) = [line for line in said_of([run]) if "begin with number" in line]
    assert told.startswith(f"{run / 'tmp.pp003ldos.cube'}: the files of the LDOS begin with number 3, at -6 eV; if")


@pytest.mark.parametrize(
    "content, problem",
    [(b"", "is empty"), (b"\n\n", "is empty"), (b"\x00\x01\xff" * 99, "is no text")],
)
@pytest.mark.parametrize("name", ["pw.out", "al.scf.out", "scf.log", "al.pwo"])
def test_a_log_without_anything_is_not_passed_over(run, tmp_path, name, content, problem):
    (run / "pw.out").unlink()
    (run / name).write_bytes(content)
    assert refused([run], tmp_path / "al2").startswith(
        f"{run / name}: {problem}; give the whole log of pw.x, or remove"
    )


def test_the_end_of_a_log_is_known_by_whatever_name(run, tmp_path):
    lines = (run / "pw.out").read_text().splitlines(keepends=True)
    (run / "pw.out").unlink()
    (run / "job.out").write_text("".join(lines[60:]))
    assert "job.out: has the end of a log of pw.x, and not its beginning; give" in refused([run], tmp_path / "al2")


@pytest.mark.parametrize("lines", [300, 3000])
def test_what_is_written_before_a_log_begins_does_not_hide_it(run, lines):
    shutil.rmtree(run / "tmp")
    text = (run / "pw.out").read_text()
    (run / "pw.out").write_text("WARNING: no network found for MPI\n" * lines + text)
    assert not [line for line in said_of([run]) if "pw.out" in line and "left out" in line]


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("slurm.out", b"", "is empty"),
        ("job.log", b"\x00\x00", "is no text"),
        ("pw.out.gz", b"\x1f\x8b\x00", "is compressed; unpack it, if it is a log of pw.x"),
        ("old.in", b"", "is empty"),
        ("old.inp", b"&inputpp\x00", "is no text"),
    ],
)
def test_files_that_may_be_something_else_are_told(run, name, content, problem):
    (run / name).write_bytes(content)
    assert f"left out {run / name}: {problem}" in said_of([run])


def test_a_compressed_log_is_named_where_there_is_no_other(run, tmp_path):
    shutil.rmtree(run / "tmp")
    (run / "pw.out.gz").write_bytes(gzip.compress((run / "pw.out").read_bytes()))
    (run / "pw.out").unlink()
    said = refused([run], tmp_path / "al2")
    assert f"no log of pw.x and no {NAME} is there ({run / 'pw.out.gz'}: is compressed; unpack it" in said


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_xml_cut_off_beside_a_good_log_is_not_passed_over(run, tmp_path, size):
    xml = run / "tmp/qe.save" / NAME
    xml.write_bytes(xml.read_bytes()[:size])
    said = refused([run], tmp_path / "al2", kernel="gaussian")
    assert said.startswith(f"{xml}: not a whole XML file (")
    assert said.endswith("run pw.x again, or remove it if the whole log of that calculation is there")


def test_a_failed_run_elsewhere_is_told(runs):
    (runs / "2").mkdir()
    (runs / "2/pw.out").write_text("")
    assert f"left out {runs / '2/pw.out'}: is empty" in "\n".join(said_of([runs]))


def test_a_log_of_another_run_is_told(runs):
    """It is of the other structure, which has files of its own."""
    shutil.copy(runs / "1/pw.out", runs / "0/pw.out")
    lines = said_of([runs])
    assert any(re.match(f"left out {runs / '0/pw.out'}: no cubes of its structure are nearer to it", x) for x in lines)


def test_logs_with_other_fermi_levels_are_refused(run, tmp_path):
    """By half of what their eigenvalues would tell."""
    shutil.copy(run / "pw.out", run / "scf.out")
    shutil.rmtree(run / "tmp")
    change(run / "scf.out", "the Fermi energy is     7.7254 ev", "the Fermi energy is     7.7204 ev")
    said = refused([run], tmp_path / "al2", kernel="gaussian")
    assert said.startswith(
        f"{run / 'scf.out'}: fermi_level is 7.7204 eV, but 7.7254 in {run / 'pw.out'}; keep files of"
    )


def test_logs_with_other_forces_are_refused(run, tmp_path):
    shutil.copy(run / "pw.out", run / "scf.out")
    shutil.rmtree(run / "tmp")
    text = (run / "scf.out").read_text()
    first = re.search(r"atom +1 type +1 +force = +(\S+)", text)[1]
    (run / "scf.out").write_text(text.replace(first, f"{float(first) + 0.1:.8f}", 1))
    assert "scf.out: forces are up to" in refused([run], tmp_path / "al2", kernel="gaussian")


@pytest.mark.parametrize("content", ["", "<UPF", "\x00" * 50])
def test_a_pseudopotential_without_anything_is_refused(run, tmp_path, content):
    (run / "Al.pz-vbc.UPF").write_text(content)
    said = refused([run], tmp_path / "al2")
    assert said.startswith(f"{run / 'Al.pz-vbc.UPF'}: not a UPF pseudopotential")
    assert said.endswith("copy again the file that the DFT used")
