"""Files of LSMS: two recorded runs, and what is wrong with others."""

import shutil
from contextlib import suppress

import numpy as np
import pytest

from dftune.tests.places import ROOT
from dftune.trainables.alloys.lattice import Lattice
from dftune.trainables.alloys.lsms import read_lsms, residual_in, results_in
from dftune.trainables.errors import DatasetError

RUNS = ROOT / "tests" / "data" / "lsms"


@pytest.fixture
def copied(tmp_path):
    for path in RUNS.glob("CuAu_*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "CuAu_info_evec_out"


def test_two_runs_are_read():
    gold, iron = (read_lsms(path) for path in results_in(RUNS))
    assert (str(gold.atoms.symbols[:2]), len(gold.atoms), gold.converged) == ("AuCu", 32, True)
    assert gold.energy == pytest.approx(-522989.792397737735882 * 13.605693122994)
    assert gold.fermi_energy == pytest.approx(0.602518522762919 * 13.605693122994)
    assert gold.atoms.cell.lengths() == pytest.approx(np.full(3, 14.52 * 0.529177210903))
    assert (gold.charge[0], gold.moment[0]) == (78.725889, 0.0)
    assert gold.charge.sum() == pytest.approx(gold.atoms.numbers.sum(), abs=1e-4), "the cell is neutral"
    assert iron.charge.sum() == pytest.approx(iron.atoms.numbers.sum(), abs=1e-4)
    assert iron.moment.max() > 2.5


@pytest.mark.parametrize("n, count", [(0, 1536), (1, 512)])
def test_their_atoms_are_on_the_papers_lattices(n, count):
    lattice = Lattice.of(read_lsms(results_in(RUNS)[n]).atoms)
    assert len(lattice.permutations) == count


def test_only_the_last_residual_says_whether_a_run_has_converged(copied):
    iterations = copied.with_name("CuAu_k.out")
    lines = iterations.read_text().splitlines(keepends=True)
    iterations.write_text("".join(lines[:10]))
    assert read_lsms(copied).converged is False
    iterations.unlink()
    assert read_lsms(copied).converged is None


def cut(path, n):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:n]))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_record_of_iterations_cut_off_anywhere_never_passes_for_another_residual(copied):
    path = copied.with_name("CuAu_k.out")
    whole = path.read_text()
    of_lines = {float(line.split()[-1]) for line in whole.splitlines()}
    for n in range(len(whole)):
        path.write_text(whole[:n])
        with suppress(DatasetError):
            assert residual_in(path) in of_lines, n


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda p: cut(p, 20), "i_lsms: an input of 32 atoms, beside a result of 19; the run was cut off"),
        (lambda p: cut(p, 1), "has no atoms; the run was cut off"),
        (lambda p: p.write_text(""), "line 1: not the three energies"),
        (lambda p: p.write_text(p.read_text()[:5000]), r"line \d+: \d+ columns and not 18"),
        (lambda p: replace(p, "78.725889", "nan"), "line 2: numbers that are not finite"),
        (lambda p: replace(p, " 79 ", "179 "), "line 2: no element has the atomic number 179"),
        (lambda p: replace(p, " 29        1 ", " 29        0 "), "atoms are missing or stand twice"),
        (lambda p: p.with_name("CuAu_i_lsms").unlink(), "i_lsms: missing, and the cell is in no other file"),
        (lambda p: replace(p.with_name("CuAu_i_lsms"), "bravais[2]", "b[2]"), r"no cell vector bravais\[2\]"),
        (lambda p: p.with_name("CuAu_k.out").write_text("stopped\n"), r"k.out, last line: no whole iteration of LSMS"),
    ],
)
def test_damage_is_named_with_file_and_line(copied, damage, text):
    damage(copied)
    with pytest.raises(DatasetError, match=text):
        read_lsms(copied)
