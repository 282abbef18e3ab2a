"""How many steps and how much time a predicted density saves an SCF of Quantum ESPRESSO, the prediction included.

Displaced aluminium (0.10 Å) of 8 and 32 atoms at 15 Ry, with 5 x 10 x 10 and 3 x 3 x 3 k-points, two cells each, and 32
atoms with a denser mesh where it is asked for. Each SCF is made twice by pw.x in one process: from superposed atoms, as
pw.x does by itself, and from the density of MODEL, put into what the first run of this cell left behind. One row of
JSON a structure.

    python benchmarks/starting_density.py MODEL [CELL ...]     8 and 32 by default, or 32-dense; pw.x on the PATH
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.build import bulk

from dftune.trainables.data.generating.inputs import OUT, PREFIX, PSEUDO, pw_input
from dftune.trainables.data.generating.spec import Dft

UPF = Path("/usr/share/espresso/pseudo/Al.pz-vbc.UPF")
DFT = Dft(pseudopotentials={"Al": str(UPF)}, cutoff_ry=15, k_points=(5, 5, 5), temperature=3157.75)
CELLS = {  # name -> cells of 4 atoms, k-points, bands, seeds
    "8": ((2, 1, 1), (5, 10, 10), 34, (1, 2)),
    "32": ((2, 2, 2), (3, 3, 3), 72, (1, 2)),
    "32-dense": ((2, 2, 2), (4, 4, 4), 72, (1,)),
}
SIGMA = 0.10  # Å


def cell(name: str, seed: int) -> ase.Atoms:
    """fcc aluminium with Gaussian displacements; their mean is 0."""
    atoms = bulk("Al", "fcc", a=4.05, cubic=True).repeat(CELLS[name][0])
    moved = np.random.default_rng(seed).normal(0, SIGMA, (len(atoms), 3))
    atoms.positions += moved - moved.mean(axis=0)
    return atoms


def timed(command: list[str], folder: Path, log: Path) -> dict[str, float]:
    """Run a command with one thread; CPU and wall seconds of it and its children."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(cpu, 1), "wall_s": round(time.perf_counter() - started, 1)}


def scf(folder: Path, text: str, start: str) -> dict[str, Any]:
    """An SCF from ``atomic`` or ``file``: steps, first estimated accuracy [Ry], seconds, energy [Ry]."""
    name = f"pw.{start}"
    (folder / f"{name}.in").write_text(re.sub(r"(?im)^&electrons.*$", rf"\g<0>\n startingpot = '{start}'", text))
    seconds = timed(["pw.x", "-in", f"{name}.in"], folder, folder / f"{name}.out")
    said = (folder / f"{name}.out").read_text()
    accuracies = [float(x) for x in re.findall(r"estimated scf accuracy\s+<\s+(\S+)", said)]
    steps = re.search(r"convergence has been achieved in\s+(\d+)", said)
    energy = re.search(r"!\s+total energy\s+=\s+(\S+)", said)
    if steps is None or energy is None:
        raise SystemExit(said[-2000:])
    return {"steps": int(steps[1]), "first": accuracies[0], **seconds, "energy": float(energy[1])}


def main() -> None:
    model, names = Path(sys.argv[1]).resolve(), sys.argv[2:] or ["8", "32"]
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            _, mesh, bands, seeds = CELLS[name]
            pattern = None  # what a run of this cell left behind
            for seed in seeds:
                folder = Path(temporary) / f"{name}-{seed}"
                (folder / PSEUDO).mkdir(parents=True)
                shutil.copy(UPF, folder / PSEUDO)
                text = pw_input(cell(name, seed), DFT, {"Al": UPF.name}, mesh=mesh, bands=bands)
                atomic = scf(folder, text, "atomic")
                left, kept = folder / OUT / f"{PREFIX}.save", Path(temporary) / f"{name}.save"
                pattern = pattern or shutil.copytree(left, kept, ignore=shutil.ignore_patterns("wfc*"))
                shutil.rmtree(folder / OUT)
                shutil.copytree(pattern, left)
                command = ["dftune", "model", "predict", str(model), "pw.atomic.in", "--save-qe", str(left)]
                predicting = timed(command, folder, folder / "predict.out")
                ours = scf(folder, text, "file")
                row = {
                    "cell": name,
                    "k_points": mesh,
                    "seed": seed,
                    "atomic": atomic,
                    "prediction": predicting,
                    "predicted": ours,
                }
                row["saved_cpu_s"] = round(atomic["cpu_s"] - ours["cpu_s"] - predicting["cpu_s"], 1)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
