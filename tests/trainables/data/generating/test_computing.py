"""One snapshot by real processes that stand in for pw.x and go wrong in every way."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.generating.computing import DONE, FAILURE, Kept, check_rule, check_window, compute
from dftune.trainables.data.generating.programs import _GUARD, find, find_launcher
from dftune.trainables.data.importing.quantum_espresso.pw_xml import read_xml
from dftune.trainables.data.importing.quantum_espresso.wavefunctions import Wavefunctions
from dftune.trainables.errors import DatasetError, InputError

from .conftest import GRID


@pytest.fixture
def kept(tmp_path):
    """Computes an order, and gives the folder of what is kept."""

    def keep(order, name="kept") -> Path:
        scratch, folder = tmp_path / f"scratch-{name}", tmp_path / name
        scratch.mkdir()
        folder.mkdir()
        into = Kept(folder)
        for part in compute(order, scratch):
            into.add(part)
        into.close()
        return folder

    return keep


def test_results_are_those_of_the_wavefunctions(kept, order, recorded):
    other = EnergyGrid(minimum=-6.0, spacing=0.25, n_energy=71, kernel="fermi-dirac", width=0.3)
    folder = kept(order("well", grids=(GRID, other)))
    waves = Wavefunctions(recorded / "tmp/dft.save")
    for name, grid in (("ldos.npy", GRID), ("ldos1.npy", other)):
        found = np.load(folder / name)
        assert found.shape == (*waves.grid, grid.n_energy)
        alone = np.concatenate([block for (block,) in waves.ldos([grid])])
        np.testing.assert_allclose(found.reshape(-1, grid.n_energy), alone, rtol=1e-5)
    np.testing.assert_allclose(np.load(folder / "density.npy"), waves.density(), rtol=1e-6)
    done = json.loads((folder / DONE).read_text())
    assert done["key"] == "key of 000"
    assert done["cpu_seconds"] > 0
    assert sorted(done["steps"]) == ["ldos", "scf"]
    assert not (folder / FAILURE).exists()


@pytest.mark.parametrize(
    "behaviour, said",
    [
        ("crashes", r"pw.x ended with code 1: readpp \(2\): file Al.UPF not found"),
        ("killed", "pw.x was killed by SIGKILL, by somebody or for want of memory"),
        ("ends early", "pw.x ended before its work was done"),
        (
            "leaves nothing",
            r"pw.x says that its job is done and left no out/dft.save/data-file-schema.xml; is it that of",
        ),
        ("without memory", "pw.x ended with code 41: forrtl: insufficient virtual memory"),
        ("converges never", "the SCF did not converge .twice, the second time with gentler mixing.; see pw.try2.out"),
        ("old", "pw.x is 5.4; Quantum ESPRESSO 6.3 or later is needed"),
        ("writes half", "wfc3.dat: not a whole file of wavefunctions"),
        ("no wavefunctions", "wfc1.dat: missing"),
        ("without room", "pw.x ended with code 1: OSError: .* File too large"),
    ],
)
def test_a_failure_keeps_its_reason_and_its_logs(kept, order, behaviour, said):
    folder = kept(order(behaviour))
    reason = (folder / FAILURE).read_text()
    assert len(reason.splitlines()) == 1
    with pytest.raises(InputError, match=said):
        raise InputError(reason)
    assert {"pw.in", "pw.out", "pw.out.err"} <= {path.name for path in folder.iterdir()}
    assert not (folder / DONE).exists()


@pytest.mark.parametrize(
    "content, said",
    [
        (
            "#!/no/such/interpreter\n",
            "it cannot be started: No such file or directory; is the interpreter or loader that",
        ),
        ("\x7fELF", "it cannot be started: Exec format error"),
    ],
)
def test_a_program_that_cannot_be_started_says_why(kept, order, content, said):
    one = order("well")
    Path(one.run.pw).write_text(content)
    assert f"pw.x ended with code 1: {said}" in (kept(one) / FAILURE).read_text()


def test_a_machine_with_too_little_memory_is_named_before_anything_runs(kept, order):
    folder = kept(replace(order("hangs"), memory=1e18))
    assert "pw.x would take 1,000,000,000 GB for it, and " in (folder / FAILURE).read_text()
    assert not (folder / "pw.in").exists()


def test_a_program_that_hangs_is_stopped(kept, order):
    began = time.monotonic()
    folder = kept(order("hangs", silence=0.005))
    assert time.monotonic() - began < 15
    assert "pw.x hangs: no output for 0.005 minutes, so it was stopped" in (folder / FAILURE).read_text()


def test_an_scf_is_tried_again_with_gentler_mixing(kept, order):
    folder = kept(order("converges gently"))
    assert (folder / DONE).exists()
    assert "convergence NOT achieved" in (folder / "pw.out").read_text()
    assert "JOB DONE" in (folder / "pw.try2.out").read_text()


def test_a_missing_program_is_named_with_the_package(kept, order, tmp_path):
    one = order("well")
    os.remove(one.run.pw)
    assert "pw.x is not found on" in (kept(one) / FAILURE).read_text()
    with pytest.raises(InputError, match="apt-get install quantum-espresso"):
        find("pw.x-that-is-not-there")
    Path(one.run.pw).touch(0o644)
    with pytest.raises(InputError, match=rf"{one.run.pw} on \S+ is not executable; chmod \+x {one.run.pw}, or"):
        find(one.run.pw)
    with pytest.raises(InputError, match="is a folder"):
        find(str(tmp_path))


def test_mpirun_of_another_mpi_is_noticed(kept, order, tmp_path):
    """It starts each rank as a calculation of its own, all on the same files."""
    launcher = tmp_path / "bin" / "mpirun"
    one = order("well", ranks=2)
    launcher.write_text('#!/bin/sh\n[ -z "$OMPI_MCA_btl" ] || exit 9\nshift 2\nexec "$1" -in "$3"\n')
    launcher.chmod(0o755)
    assert find_launcher(Path(one.run.pw), None) == launcher
    reason = (kept(one) / FAILURE).read_text()
    assert "pw.x ran on 1 MPI ranks instead of 2" in reason
    assert "is of another MPI; give the right mpirun as [run] launcher" in reason


def test_a_program_without_a_launcher_is_told_that_it_is_alone(kept, order):
    """Open MPI would start a daemon, and both would listen on all interfaces."""
    assert not (kept(order("alone")) / FAILURE).exists()


def test_a_program_ends_with_the_process_that_started_it():
    """Even if that is killed: the kernel sees to it."""
    script = (
        "import os, subprocess, sys\n"
        "guard = [sys.executable, '-ISc', sys.argv[1], str(os.getpid()), '9']\n"
        "child = subprocess.Popen([*guard, 'sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-ISc", script, _GUARD], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    end = time.monotonic() + 10
    while Path(f"/proc/{child}/comm").read_text().strip() != "sleep" and time.monotonic() < end:
        time.sleep(0.01)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    def is_there() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    while is_there() and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_there()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"minimum": -3.0, "n_energy": 60}, r"from -3 to 11.75 eV cut .* % of the electrons: states begin at -2.98 eV"),
        ({"n_energy": 53}, r"from -6 to 7 eV cut .* % of the electrons.* Fermi level is 8.69 eV; widen the window"),
        ({"n_energy": 119}, r"8 bands are complete to .* eV, and an LDOS up to 23.5 eV needs them to 25.10"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(recorded, change, said):
    found = read_xml(recorded / "tmp/dft.save/data-file-schema.xml")
    check_window(found, [GRID])
    with pytest.raises(DatasetError, match=said):
        check_window(found, [GRID.model_copy(update=change)])


def test_energies_too_coarse_for_the_band_energy_are_refused(recorded):
    found = read_xml(recorded / "tmp/dft.save/data-file-schema.xml")
    check_rule(found, [GRID])
    coarse = EnergyGrid(minimum=-9.0, spacing=1.5, n_energy=15, kernel="gaussian", width=1.0)
    with pytest.raises(DatasetError, match=r"a spacing of 1.5 eV .* meV/atom off; take a smaller spacing"):
        check_rule(found, [coarse])
