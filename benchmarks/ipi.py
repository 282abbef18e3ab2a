"""Claim: the socket protocol of i-PI costs less than 2 ms a step.

ASE's ``SocketIOCalculator`` asks `give_forces` of a surrogate that knows its answer at once, in another thread, so that
all time is that of the protocol and of ASE.  Rows: CPU milliseconds a step of both sides together, with the calculator
in the same process for comparison.

    python benchmarks/ipi.py
"""

import json
import os
import threading
import time
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.socketio import SocketIOCalculator

import dftune
from dftune.platform.md.ipi import give_forces
from dftune.trainables.surrogate import Surrogate

STEPS = 300


class Known(Surrogate):
    """Its forces are zero."""

    refuses_energies = None

    def options(self, *, forces: str = "none", stress: bool = False) -> dict[str, Any]:
        return {}

    def prepare(self, structure: ase.Atoms, **asked: Any) -> Any:
        found = SimpleNamespace(
            free_energy=0.0,
            forces=np.zeros((len(structure), 3)),
            stress=np.zeros((3, 3)),
            std={"free_energy": 0.0},
            warnings=[],
            outside_training=[],
        )
        return SimpleNamespace(size=0, verify=lambda: None, run=lambda: found)


def milliseconds(atoms: ase.Atoms, calculator: Calculator) -> float:
    """CPU time of this process for one of ``STEPS`` steps."""
    atoms.calc = calculator
    atoms.get_forces()
    started = time.process_time()
    for _ in range(STEPS):
        atoms.positions += 1e-3
        atoms.get_forces()
    return 1e3 * (time.process_time() - started) / STEPS


def main() -> None:
    model = dftune.Model(Known(), None)  # type: ignore[arg-type]
    about = {name: version(name) for name in ("numpy", "ase")} | {"cpus": os.cpu_count()}
    for n in (1, 2, 3):
        atoms = bulk("Al", cubic=True, a=4.05).repeat(n)
        direct = milliseconds(atoms.copy(), dftune.Calculator(model, stress=True))
        name = f"dftune-benchmark-{os.getpid()}"
        client = threading.Thread(target=give_forces, args=(model, atoms.copy(), f"unix:{name}"))
        client.start()
        with SocketIOCalculator(unixsocket=name) as server:
            by_socket = milliseconds(atoms.copy(), server)
            server.server.protocol.end()
            client.join()
        print(json.dumps({"atoms": len(atoms), "ms_direct": direct, "ms_by_socket": by_socket} | about), flush=True)


if __name__ == "__main__":
    main()
