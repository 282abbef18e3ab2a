import socket
import struct
import threading
import time

import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.socketio import SocketIOCalculator
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

import dftune
from dftune.platform.md.ipi import Address, PeerError, give_forces
from dftune.tests.emt_model import emt_model
from dftune.trainables.errors import InputError


@pytest.fixture
def crystal():
    atoms = bulk("Al", cubic=True, a=4.0)
    thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(0))
    return atoms


@pytest.fixture
def port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def name(port):
    """Of a Unix socket.  A server of ASE at a port would listen beyond this machine."""
    return f"dftune-test-{port}"


class Client(threading.Thread):
    """Forces given in a thread; ``answered`` or ``error`` says how it ended."""

    def __init__(self, atoms, address, model=None, **how):
        super().__init__(daemon=True)
        self.given, self.answered, self.error, self.said = (model or emt_model(), atoms, address), None, None, []
        self.how = how
        self.start()

    def run(self):
        try:
            self.answered = give_forces(*self.given, say=self.said.append, **self.how)
        except InputError as error:
            self.error = str(error)

    def end(self):
        self.join(20)
        assert not self.is_alive()
        return self.error


def steps_of(atoms, n=5):
    dynamics, found = VelocityVerlet(atoms, 2 * ase.units.fs), []
    for _ in range(n):
        dynamics.step()
        found.append([atoms.get_potential_energy(), *atoms.positions.ravel(), *atoms.get_stress()])
    return np.array(found)


def test_ase_as_the_server_moves_atoms_as_the_calculator_does(crystal, name):
    direct = crystal.copy()
    direct.calc = dftune.Calculator(emt_model())
    client = Client(crystal.copy(), f"unix:{name}")  # it waits for the server
    time.sleep(0.1)
    with SocketIOCalculator(unixsocket=name, timeout=20) as server:
        crystal.calc = server
        found = steps_of(crystal)
        server.server.protocol.end()
        assert client.end() is None
    assert client.answered == 5 + 1, "the first forces, and those of each step"
    # Positions go through atomic units, which costs the last bits.
    np.testing.assert_allclose(found, steps_of(direct), atol=1e-9)


class Server:
    """An i-PI server by hand."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.listener.settimeout(20)

    def __enter__(self):
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(20)
        return self

    def __exit__(self, *error):
        self.peer.close()
        self.listener.close()

    def say(self, text):
        self.peer.sendall(text.encode().ljust(12))

    def hear(self, n=12):
        found = b""
        while len(found) < n:
            found += self.peer.recv(n - len(found)) or pytest.fail("the client has hung up")
        return found

    def positions(self, atoms, n_atoms=None):
        self.say("POSDATA")
        inverse = np.linalg.inv(atoms.cell)
        for part in (atoms.cell.T / ase.units.Bohr, inverse.T * ase.units.Bohr):
            self.peer.sendall(np.asarray(part, dtype=float).tobytes())
        self.peer.sendall(struct.pack("i", len(atoms) if n_atoms is None else n_atoms))
        self.peer.sendall((atoms.positions / ase.units.Bohr).tobytes())


def test_the_states_and_the_errors_of_forces_are_those_that_ipi_reads(crystal, port):
    listening = Server(port)
    client = Client(crystal.copy(), f"127.0.0.1:{port}")
    with listening as server:
        server.say("STATUS")
        assert server.hear().strip() == b"READY"
        server.say("INIT")
        server.peer.sendall(struct.pack("ii", 3, 5) + b"hello")
        server.positions(crystal)
        server.say("STATUS")
        assert server.hear().strip() == b"HAVEDATA"
        server.say("GETFORCE")
        assert server.hear().strip() == b"FORCEREADY"
        energy, n_atoms = struct.unpack("=di", server.hear(12))
        forces, virial = server.hear(96), np.frombuffer(server.hear(72)).reshape(3, 3)
        (length,) = struct.unpack("i", server.hear(4))
        more = server.hear(length)
        server.say("EXIT")
    assert client.end() is None
    expected = emt_model().predict(crystal, forces="mean", stress=True)
    assert (n_atoms, client.answered) == (4, 1)
    assert energy * ase.units.Ha == pytest.approx(expected.free_energy, abs=1e-9)
    np.testing.assert_allclose(
        np.frombuffer(forces).reshape(4, 3) * ase.units.Ha / ase.units.Bohr, expected.forces, atol=1e-9
    )
    np.testing.assert_allclose(virial * ase.units.Ha, -crystal.get_volume() * expected.stress, atol=1e-9)
    assert more == b'{"energy_std": 0.0, "distance": %s}' % repr(float(expected.distance)).encode()


def gone_in_a_message(server, crystal):
    server.peer.sendall(b"STAT")


def gone_in_positions(server, crystal):
    server.say("POSDATA")
    server.peer.sendall(b"1234")


def gone_before_the_forces(server, crystal):
    server.positions(crystal)


def nonsense(server, crystal):
    server.say("HTTP/1.1 400")


def forces_too_early(server, crystal):
    server.say("GETFORCE")


def other_atoms(server, crystal):
    server.positions(crystal, 2_000_000_000)


def not_finite(server, crystal):
    crystal.positions[0, 0] = np.nan
    server.positions(crystal)


def binary(server, crystal):
    server.peer.sendall(b"\xff\xfe" * 6)


def long_text(server, crystal):
    server.say("INIT")
    server.peer.sendall(struct.pack("ii", 0, -5))


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (gone_in_a_message, "the server went away after 0 structures, without saying that it is done"),
        (gone_in_positions, "the server went away after 0 structures"),
        (gone_before_the_forces, "the server went away after 0 structures"),
        (nonsense, "'HTTP/1.1 400' is not what an i-PI server says here"),
        (forces_too_early, "'GETFORCE' is not what an i-PI server says here"),
        (other_atoms, "the server has 2,000,000,000 atoms, and the structure given here 4"),
        (not_finite, "not what an i-PI server says; a number is not finite"),
        (binary, "not what an i-PI server says"),
        (long_text, "said to have -5 bytes; is it an i-PI server?"),
    ],
)
def test_a_peer_that_dies_or_is_none_ends_it_with_one_line(crystal, port, says, error):
    listening = Server(port)
    client = Client(crystal.copy(), f"127.0.0.1:{port}")
    with listening as server:
        says(server, crystal)
        if says.__name__.startswith("gone"):
            server.peer.close()
        assert error in client.end()


def test_a_structure_that_cannot_be_predicted_ends_it_and_the_server_notices(crystal, port):
    listening = Server(port)
    client = Client(crystal.copy(), f"127.0.0.1:{port}")
    with listening as server:
        crystal.positions[1] = crystal.positions[0]
        server.positions(crystal)
        assert "two atoms, or images of one" in client.end()
        assert server.peer.recv(12) == b""


def test_nobody_who_listens_and_no_address(crystal, port):
    with pytest.raises(PeerError, match=f"127.0.0.1:{port}: no i-PI server .*; start the server first"):
        give_forces(emt_model(), crystal, f"127.0.0.1:{port}", wait=0.1)
    with pytest.raises(PeerError, match="unix:nobody-here: no i-PI server"):
        give_forces(emt_model(), crystal, "unix:nobody-here", wait=0.1)
    for text in ("31415", "localhost", "localhost:0", "localhost:70000", "unix:", "unix:/etc/passwd", ":1"):
        with pytest.raises(InputError, match="is no address of an i-PI server; give HOST:PORT or unix:NAME"):
            Address.of(text)
    assert Address.of("[::1]:31415") == Address(host="::1", port=31415)


def test_a_model_without_stress_needs_no_virial_said(crystal, name):
    model = emt_model(refuses_stress="one volume")
    with pytest.raises(InputError, match=r"no virial from this model: one volume; without the virial \(--no-virial\)"):
        give_forces(model, crystal, f"unix:{name}", wait=0.1)
    client = Client(crystal.copy(), f"unix:{name}", model, virial=False)
    with SocketIOCalculator(unixsocket=name, timeout=20) as server:
        crystal.calc = server
        assert not crystal.get_stress().any()
        expected = model.predict(crystal, forces="mean").forces
        np.testing.assert_allclose(crystal.get_forces(), expected, atol=1e-9)
        server.server.protocol.end()
        assert client.end() is None


def test_an_extrapolation_is_said_once(crystal, name):
    client = Client(crystal.copy(), f"unix:{name}", emt_model(shortest=5.0))
    with SocketIOCalculator(unixsocket=name, timeout=20) as server:
        crystal.calc = server
        steps_of(crystal, 2)
    assert client.end() is None, "ASE's server never says EXIT"
    assert client.said[-1] == "the server has gone after 3 structures, without saying that it is done"
    (said,) = [text for text in client.said if "apart" in text]
    assert said.startswith("structure 1: two atoms are")
