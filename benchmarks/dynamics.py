"""Claim: 100 fs of molecular dynamics at constant energy conserve it to 1 meV/atom.

Displaced fcc aluminium of 32 atoms starts with the velocities of 600 K and takes 50 steps of 2 fs by ASE's velocity
Verlet; cells of 4 and 108 atoms take a few steps for the time.  Rows: CPU seconds a step, the share of each part of a
prediction, and the largest change of the total energy.

    python benchmarks/dynamics.py MODEL [steps of 32 atoms=50]
"""

import json
import os
import sys
import time
import warnings
from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

import dftune

STEP = 2.0  # fs


def run(model: dftune.Model, n: int, steps: int) -> dict[str, Any]:
    """Dynamics of n³ cubic cells."""
    atoms = bulk("Al", cubic=True, a=4.05).repeat(n)
    rng = np.random.default_rng(0)
    thermalize_momenta(atoms, temperature_K=600, rng=rng)
    if len(atoms) > 1:
        Stationary(atoms)
    atoms.calc = calculator = dftune.Calculator(model)
    dynamics = VelocityVerlet(atoms, timestep=STEP * units.fs)
    totals, parts = [], Counter[str]()

    def note() -> None:
        totals.append(atoms.get_total_energy() / len(atoms))
        parts.update(calculator.prediction.seconds)

    dynamics.attach(note)
    atoms.get_forces()  # the first prediction loads the kernels
    started = time.process_time()
    dynamics.run(steps)
    seconds, whole = time.process_time() - started, sum(parts.values())
    return {
        "atoms": len(atoms),
        "fs": steps * STEP,
        "cpu_seconds_a_step": seconds / steps,
        "steps_a_cpu_second": steps / seconds,
        "shares": {name: round(part / whole, 2) for name, part in parts.items()},
        "drift_mev_per_atom": 1e3 * float(np.abs(np.array(totals) - totals[0]).max()),
        "temperature_k": atoms.get_temperature(),
    }


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = dftune.Model.open(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    about = {name: version(name) for name in ("torch", "numba", "ase")} | {"cpus": os.cpu_count()}
    for n, some in ((1, min(10, steps)), (2, steps), (3, min(2, steps))):
        print(json.dumps(run(model, n, some) | about), flush=True)


if __name__ == "__main__":
    main()
