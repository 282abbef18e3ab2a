"""Forces for another program, over the socket protocol of i-PI.

i-PI (Kapil et al., Comput. Phys. Commun. 236, 214 (2019)) and ASE's ``SocketIOCalculator`` are servers of it: they
listen, move the atoms and ask for forces.  A surrogate is a client, and so is LAMMPS with ``fix ipi``: the two have
nothing to say to each other, but a server can add the forces of both.  Lengths in Å and energies in eV here; the
messages, which ASE writes and reads, are in atomic units.
"""

import json
import socket
import struct
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.calculators.socketio import IPIProtocol, SocketClosed, actualunixsocketname

from ...trainables.errors import InputError, ModelError, one_line
from ..model.calculator import Calculator
from ..model.model import Model

WAIT = 30.0  # s for a server that does not listen yet
AGAIN = 0.2  # s until the next try


class PeerError(InputError):
    """The server has gone away, or is none of this protocol."""


@dataclass(frozen=True)
class Address:
    """Where a server listens: a host and a port, or the name of a Unix socket."""

    host: str = ""
    port: int = 0
    name: str = ""

    @classmethod
    def of(cls, text: str) -> "Address":
        """From ``HOST:PORT`` or ``unix:NAME``, of the socket /tmp/ipi_NAME.  Raises InputError: neither."""
        if text.startswith("unix:") and (name := text.removeprefix("unix:")) and "/" not in name:
            return cls(name=name)
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InputError(f"'{text}' is no address of an i-PI server; give HOST:PORT or unix:NAME")
        return cls(host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        return f"unix:{self.name}" if self.name else f"{self.host}:{self.port}"

    def connect(self, wait: float) -> socket.socket:
        """A connection to the server.  Raises PeerError: nobody listens there for ``wait`` seconds."""
        until = time.monotonic() + wait
        while True:
            try:
                if not self.name:
                    return socket.create_connection((self.host, self.port), timeout=wait)
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(actualunixsocketname(self.name))
                except OSError:
                    connection.close()
                    raise
                return connection
            except OSError as error:
                if time.monotonic() > until or not isinstance(error, ConnectionRefusedError | FileNotFoundError):
                    raise PeerError(
                        f"{self}: no i-PI server ({error.strerror or error}); start the server first"
                    ) from error
            time.sleep(AGAIN)


def give_forces(
    model: Model,
    atoms: ase.Atoms,
    address: str,
    *,
    virial: bool = True,
    wait: float = WAIT,
    say: Callable[[str], None] = lambda text: None,
    **asked: Any,
) -> int:
    """Answer a server with forces until it says that it is done.

    Args:
        model: what predicts them.
        atoms: the species, in the order of the server's atoms, and the cell whose grid is held.
        address: ``HOST:PORT`` or ``unix:NAME``.
        virial: False sends zeros for it, so that the server must not move the cell.
        wait: seconds for a server that does not listen yet.
        say: called with what people should know.
        asked: as of ``Calculator``.

    Returns:
        How many structures were answered.

    Raises:
        ModelError: a model without a stress, and ``virial`` is True.
        PeerError: nobody listens, the server went away without saying so, or what it says is not of the protocol.
        InputError: a structure that cannot be predicted.
    """
    where = Address.of(address)
    if virial and (why := model.surrogate.refuses_stress) is not None:
        raise ModelError(
            f"no virial from this model: {why}; without the virial (--no-virial) hold the server's cell fixed"
        )
    atoms = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.calc = calculator = Calculator(model, **({"stress": True} if virial else {"forces": "mean"}), **asked)
    calculator.hold_for(atoms)
    with closing(where.connect(wait)) as connection:
        connection.settimeout(None)  # a server may think for as long as it likes
        if not where.name:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        say(f"connected to {where}")
        client = _Client(IPIProtocol(connection), calculator, atoms, virial, say)
        try:
            client.answer()
        except (SocketClosed, ConnectionError) as error:
            raise PeerError(
                f"{where}: the server went away after {client.answered} structures, without saying that it is done"
            ) from error
        except (AssertionError, UnicodeDecodeError, struct.error) as error:
            raise PeerError(
                f"{where}: not what an i-PI server says; {one_line(error) or 'a number is not finite'}"
            ) from error
        return client.answered


class _Client:
    """Our side of the protocol."""

    def __init__(
        self, peer: IPIProtocol, calculator: Calculator, atoms: ase.Atoms, virial: bool, say: Callable[[str], None]
    ) -> None:
        self.peer, self.calculator, self.atoms, self.virial, self.say = peer, calculator, atoms, virial, say
        self.answered, self._has_forces, self._warned = 0, False, False

    def answer(self) -> None:
        """Until EXIT, or until the server is gone and has all that it asked for.  Raises as ``give_forces``."""
        while not self._left() and (message := self.peer.recvmsg()) != "EXIT":
            if message == "STATUS":
                self.peer.sendmsg("HAVEDATA" if self._has_forces else "READY")
            elif message == "INIT":
                self._take_init()
            elif message == "POSDATA":
                self._take_positions()
            elif message == "GETFORCE" and self._has_forces:
                self._send_forces()
            else:
                raise PeerError(f"'{message[:12]}' is not what an i-PI server says here")

    def _left(self) -> bool:
        """Whether the server closed the connection between two steps, as ASE's does at its end: it never says EXIT."""
        if self._has_forces or not self.answered or self.peer.socket.recv(1, socket.MSG_PEEK):
            return False
        self.say(f"the server has gone after {self.answered} structures, without saying that it is done")
        return True

    def _take_init(self) -> None:
        """Number of the replica, and a text; neither matters here."""
        _, length = self.peer.recv(2, np.int32)
        if not 0 <= length < 1_000_000:
            raise PeerError(f"the server's first text is said to have {length:,} bytes; is it an i-PI server?")
        self.peer.recv(int(length), np.byte)

    def _take_positions(self) -> None:
        peer, n_atoms = self.peer, len(self.atoms)
        cell = peer.recv((3, 3), np.float64).T.copy()
        peer.recv((3, 3), np.float64)  # its inverse
        (told,) = peer.recv(1, np.int32)
        if told != n_atoms:
            raise PeerError(f"the server has {told:,} atoms, and the structure given here {n_atoms}; give the server's")
        positions = peer.recv((n_atoms, 3), np.float64)
        self.atoms.set_cell(cell * ase.units.Bohr)
        self.atoms.set_positions(positions * ase.units.Bohr)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.atoms.get_forces()
        found = self.calculator.prediction
        if found.warnings and not self._warned:
            self.say(f"structure {self.answered + 1}: {found.warnings[0]}")
            self._warned = True
        self._has_forces = True

    def _send_forces(self) -> None:
        """Energy, forces, virial -V σ, and what is known of their errors as JSON, which i-PI can write to a file."""
        found = self.calculator.results
        virial = np.zeros((3, 3))
        if self.virial:
            virial = -self.atoms.get_volume() * self.atoms.get_stress(voigt=False)
        more = {"energy_std": found["energy_std"], "distance": getattr(self.calculator.prediction, "distance", None)}
        text = np.frombuffer(json.dumps(more).encode("ascii"), dtype=np.byte)
        self.peer.sendforce(found["energy"], found["forces"], virial, text)
        self.answered += 1
        self._has_forces = False
