"""i-PI and ASE move the same atoms by our forces and by those of LAMMPS' `fix ipi`: all ways give one trajectory.

i-PI is no dependency of ours: pip puts it into a folder of its own, without its optional parts, and needs a package
index.  The potential is one that ASE and LAMMPS know, so that the surrogate is the same as LAMMPS.
"""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import ase.io
import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.socketio import SocketIOCalculator, actualunixsocketname
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

import dftune
from dftune.platform.md.ipi import give_forces
from dftune.tests.emt_model import emt_model

IPI = "ipi==3.3.1"
SIGMA, EPSILON, CUTOFF = 2.6, 0.4, 6.0  # Å, eV, Å
STEPS, TIMESTEP = 10, 2.0  # fs
WAIT = 60.0  # s
LAMMPS = f"""units metal
atom_style atomic
atom_modify map yes
read_data data
pair_style lj/cut {CUTOFF}
pair_coeff 1 1 {EPSILON} {SIGMA}
pair_modify shift yes
neigh_modify delay 0 every 1 check yes
fix 1 all ipi NAME 31415 unix
run 1000000
"""
INPUT = """<simulation verbosity="low" floatformat="%24.16e">
  <output prefix="out">
    <properties filename="energies"> [ step, potential, virial_md ] </properties>
    <trajectory filename="places" format="bin"> positions </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <ffsocket name="driver" mode="unix" pbc="false"> <address>{name}</address> <latency>1e-3</latency> </ffsocket>
  <system>
    <initialize nbeads="1">
      <positions mode="manual"> {positions} </positions>
      <labels mode="manual"> {labels} </labels>
      <masses mode="manual"> {masses} </masses>
      <cell mode="manual"> {cell} </cell>
      <velocities mode="manual"> {velocities} </velocities>
    </initialize>
    <forces> <force forcefield="driver"/> </forces>
    <motion mode="dynamics"> <dynamics mode="nve"> <timestep> {timestep} </timestep> </dynamics> </motion>
    <ensemble> <temperature units="kelvin">600</temperature> </ensemble>
  </system>
</simulation>
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def atoms():
    found = bulk("Al", cubic=True, a=4.05).repeat(2)
    thermalize_momenta(found, temperature_K=600, rng=np.random.default_rng(0))
    Stationary(found)  # i-PI holds the centre of mass
    return found


@pytest.fixture
def name():
    """Of a Unix socket."""
    found = f"dftune-test-{os.getpid()}"
    yield found
    Path(actualunixsocketname(found)).unlink(missing_ok=True)  # i-PI leaves it


@pytest.fixture(scope="module")
def ipi(tmp_path_factory):
    """The folder with i-PI."""
    folder = tmp_path_factory.mktemp("ipi")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", folder, IPI], check=True)
    return folder


def lennard_jones():
    """A surrogate that is the same as ``LAMMPS``."""
    return emt_model(calculator=partial(LennardJones, sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF))


class Ours:
    """Forces of the surrogate, in a thread."""

    def __init__(self, atoms, name, folder):
        given = lennard_jones(), atoms.copy(), f"unix:{name}"
        self._thread = threading.Thread(target=give_forces, args=given, daemon=True)
        self._thread.start()

    def end(self):
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


class Lammps:
    """Forces of LAMMPS, as a program, which begins when the server listens."""

    def __init__(self, atoms, name, folder):
        ase.io.write(folder / "data", atoms, format="lammps-data", specorder=["Al"], masses=True)
        (folder / "in").write_text(LAMMPS.replace("NAME", name))
        deadline = time.monotonic() + WAIT
        while not Path(actualunixsocketname(name)).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        program = Path(sys.prefix) / "bin" / "lmp"
        with (folder / "out").open("w") as out:
            self._process = subprocess.Popen([program, "-in", "in", "-log", "none"], cwd=folder, stdout=out, stderr=out)

    def end(self):
        self._process.wait(WAIT)  # LAMMPS takes the end of its server for an error


def by_ase(atoms):
    """Energies [eV] and positions [Å] of each step, moved by ASE, and the stress of the last [eV/Å³]."""
    dynamics = VelocityVerlet(atoms, TIMESTEP * ase.units.fs)
    energies, positions = [atoms.get_potential_energy()], [atoms.positions.copy()]
    for _ in range(STEPS):
        dynamics.step()
        energies.append(atoms.get_potential_energy())
        positions.append(atoms.positions.copy())
    return np.array(energies), np.array(positions), atoms.get_stress()


def by_ipi(ipi, client, atoms, name, folder):
    """As ``by_ase``, moved by i-PI; numbers go there and back in atomic units."""
    bohr, time_unit, mass = ase.units.Bohr, ase.units.AUT, ase.units._amu / ase.units._me

    def text(values):
        return "[" + ", ".join(f"{x:.17g}" for x in np.ravel(values)) + "]"

    places = text(atoms.positions / bohr), text(atoms.cell.T / bohr), text(atoms.get_velocities() * time_unit / bohr)
    about = dict(zip(("positions", "cell", "velocities"), places, strict=True))
    about |= {"masses": text(atoms.get_masses() * mass), "labels": f"[{', '.join(atoms.get_chemical_symbols())}]"}
    about |= {"timestep": f"{TIMESTEP * ase.units.fs / time_unit:.17g}", "steps": STEPS, "name": name}
    (folder / "input.xml").write_text(INPUT.format(**about))
    environment = os.environ | {"PYTHONPATH": str(ipi)}
    command = [sys.executable, ipi / "bin" / "i-pi", "input.xml"]
    with (folder / "ipi.out").open("w") as out:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    try:
        clients = client(atoms, name, folder)
        assert server.wait(WAIT) == 0, (folder / "ipi.out").read_text()[-2000:]
        clients.end()
    finally:
        server.kill()
    records = np.frombuffer((folder / "out.places_0.bin").read_bytes(), dtype=np.uint8).reshape(STEPS + 1, -1)
    begin = 9 * 8 + 8  # behind the cell and the number of atoms
    positions = records[:, begin : begin + 24 * len(atoms)].copy().view(np.float64).reshape(-1, len(atoms), 3)
    table = np.loadtxt(folder / "out.energies")
    stress = -table[-1, [2, 3, 4, 7, 6, 5]] * ase.units.Ha / bohr**3  # xx, yy, zz, xy, xz, yz in the order of Voigt
    return table[:, 1] * ase.units.Ha, positions * bohr, stress


def test_servers_and_clients_of_ipi_agree_on_one_trajectory(atoms, name, ipi, tmp_path):
    alone = atoms.copy()
    alone.calc = dftune.Calculator(lennard_jones(), stress=True)
    energies, positions, stress = by_ase(alone)
    assert abs(positions[-1] - positions[0]).max() > 0.05, "they move"
    for client, error in ((Ours, 1e-12), (Lammps, 1e-8)):  # LAMMPS has its own values of a bohr and a hartree
        moved, folder = atoms.copy(), tmp_path / client.__name__
        folder.mkdir()
        with SocketIOCalculator(unixsocket=name, timeout=WAIT) as server:
            clients, moved.calc = client(atoms, name, folder), server
            by_server = {"ASE": by_ase(moved)}
            server.server.protocol.end()
            clients.end()
        by_server["i-PI"] = by_ipi(ipi, client, atoms, name, folder)
        for said, found in by_server.items():
            ways = f"{client.__name__} and {said}"
            np.testing.assert_allclose(found[0], energies, rtol=1e-7, err_msg=ways)
            np.testing.assert_allclose(found[1], positions, atol=error, err_msg=ways)
            known = stress.copy()
            if ways == "Lammps and ASE":
                known[3:] /= 2  # LAMMPS sends one triangle of the virial; ASE takes the mean of both, and i-PI this one
            np.testing.assert_allclose(found[2], known, rtol=1e-5, atol=1e-9, err_msg=ways)
