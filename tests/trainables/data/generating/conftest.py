"""A stand-in for pw.x: a real process that writes what pw.x 6.7 wrote for two atoms, or goes wrong."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dftune.tests.places import DATA, unpack
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.generating.computing import Order
from dftune.trainables.data.generating.spec import Run

# Behaviours by name; each is the body of a Python script with the recorded calculation in ``recorded``.
BEHAVIOURS = {
    "well": "finish()",
    "alone": "assert os.environ['OMPI_MCA_btl'] == 'self' and os.environ['UCX_TLS'] == 'self,sm'\nfinish()",
    "crashes": """
print("     Program PWSCF v.6.7MaX starts")
print(" " + "%" * 70)
print("     Error in routine  readpp (2):\\n     file Al.UPF not found")
print(" " + "%" * 70)
sys.exit(1)""",
    "hangs": "print('     Program PWSCF v.6.7MaX starts', flush=True); time.sleep(60)",
    "killed": "os.kill(os.getpid(), 9)",
    "leaves nothing": "print('     Program PWSCF v.6.7MaX starts\\n   JOB DONE.')",
    "ends early": "print('     Program PWSCF v.6.7MaX starts')",
    "without memory": "print('forrtl: insufficient virtual memory', file=sys.stderr); sys.exit(41)",
    "converges never": "print('     Program PWSCF v.6.7MaX starts\\n convergence NOT achieved after 100 iterations')",
    "converges gently": """
if "mixing_beta      = 0.2" in open(sys.argv[-1]).read():
    finish()
else:
    print("convergence NOT achieved after 100 iterations: stopping")
    sys.exit(2)""",
    "old": "finish(lambda text: text.replace('v.6.7MaX', 'v.5.4.0'))",
    "writes half": "finish()\nfile = 'out/dft.save/wfc3.dat'\nopen(file, 'r+b').truncate(1000)",
    "no wavefunctions": "finish()\nos.remove('out/dft.save/wfc1.dat')",
    "without room": """
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
big = os.open("big", os.O_WRONLY | os.O_CREAT)
os.write(big, bytes(2000))
os.write(big, bytes(2000))""",
}
SCRIPT = """#!{python} -IS
import os, resource, shutil, signal, sys, time
recorded = {recorded!r}

def finish(change=lambda text: text):
    shutil.copytree(recorded + "/tmp/dft.save", "out/dft.save", copy_function=shutil.copy)
    print(change(open(recorded + "/pw.out").read()), flush=True)

{body}
"""
GRID = EnergyGrid(minimum=-6.0, spacing=0.25, n_energy=72, kernel="gaussian", width=0.4)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """The calculation of tests/trainables/data/quantum_espresso/test_wavefunctions.py."""
    folder = tmp_path_factory.mktemp("recorded")
    unpack(DATA / "wavefunctions.tar.xz", folder)
    return folder / "mesh"


@pytest.fixture
def pw(recorded, tmp_path) -> Callable[[str], Path]:
    """Makes a pw.x that behaves in a way."""

    def make(behaviour: str) -> Path:
        program = tmp_path / "bin" / "pw.x"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SCRIPT.format(python=sys.executable, recorded=str(recorded), body=BEHAVIOURS[behaviour]))
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def order(pw) -> Callable[..., Order]:
    """Makes an order for a pw.x that behaves in a way."""

    def make(behaviour: str, name: str = "000", grids: tuple[EnergyGrid, ...] = (GRID,), **run: object) -> Order:
        inputs = ("mixing_beta      = 0.5\n", "mixing_beta      = 0.2\n")
        return Order(name, inputs, {"Al.UPF": b"<UPF>"}, grids, Run(pw=str(pw(behaviour)), **run), key=f"key of {name}")

    return make
