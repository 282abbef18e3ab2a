"""Claims: the native engine gives what LAMMPS gives to 1e-12; for 2J_max = 6 to 10 it is 12 to 23 times faster, and
forces are at least 20 times faster; derivatives along each neighbour take a quarter to half of the time of central
differences for 4 atoms; from 4 atoms to a free energy takes a quarter second.

Both sides in turn in one process, one thread each, CPU seconds; the ratio is that of the shortest runs, as other work
on the machine only ever adds.

    python benchmarks/engines.py [repeats=5] [MODEL]
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum, bispectrum_forces
from dftune.trainables.descriptors.lammps_engine import ON_GRID_SHIFT, frame
from dftune.trainables.descriptors.native.forward import pair_derivatives
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.descriptor_screen import sample, score_setting

EXAMPLE = Path(__file__).parents[1] / "examples" / "al4"
GRID = (20, 20, 20)
REPEATS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
TRICLINIC = np.array([[4.1, 0.1, -0.3], [1.3, 3.9, 0.2], [-0.7, 0.4, 4.4]])  # Å


def cells() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    found = {}
    for name, n in (("4 atoms", 1), ("32 atoms", 2)):
        atoms = bulk("Al", cubic=True) * (n, n, n)
        found[name] = atoms.cell.array, atoms.positions + rng.normal(scale=0.05, size=atoms.positions.shape)
    positions = rng.uniform(size=(3, 3)) @ TRICLINIC
    return found | {"triclinic": (TRICLINIC, positions), "left-handed": (TRICLINIC[[1, 0, 2]], positions)}


def cpu(function: Callable[..., object], *arguments: Any, **named: Any) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    function(*arguments, **named)
    return time.process_time() - started


def engines() -> None:
    for name, (cell, positions) in cells().items():
        numbers = np.full(len(positions), 13)
        for two_j_max in (6, 8, 10):
            native = BispectrumSettings(two_j_max=two_j_max)
            lammps = native.model_copy(update={"engine": "lammps"})
            moved = positions - np.full(3, ON_GRID_SHIFT) @ frame(cell)[1].T
            a = bispectrum(cell, positions, numbers, GRID, native, dtype=np.float64)
            b = bispectrum(cell, moved, numbers, GRID, lammps, dtype=np.float64)
            gradient = np.random.default_rng(1).normal(size=a.shape)
            seconds: dict[str, list[float]] = {k: [] for k in ("native", "lammps", "native_forces", "lammps_forces")}
            bispectrum_forces(cell, positions, numbers, (2, 2, 2), native, gradient[:8])
            given = (cell, positions, numbers, GRID)
            for repeat in range(REPEATS):
                for engine, settings in (("native", native), ("lammps", lammps)):
                    for _ in range(3 if engine == "native" else 1):
                        seconds[engine].append(cpu(bispectrum, *given, settings))
                    if repeat < 2 and name == "4 atoms":
                        seconds[f"{engine}_forces"].append(cpu(bispectrum_forces, *given, settings, gradient))
            best = {k: 1e6 * min(v) / prod(GRID) for k, v in seconds.items() if v}
            row = {"case": name, "two_j_max": two_j_max, "us_a_point": {k: round(v, 2) for k, v in best.items()}}
            row |= {"ratio": round(best["lammps"] / best["native"], 1)}
            row |= {"difference": float((np.abs(a - b).max(axis=0) / np.abs(b).max(axis=0)).max())}
            if "native_forces" in best:
                row["ratio_of_forces"] = round(best["lammps_forces"] / best["native_forces"], 1)
            print(json.dumps(row), flush=True)


def species() -> None:
    """Two species with weights and radii, and with a density each, which is eight times as many numbers."""
    cell, positions = cells()["4 atoms"]
    numbers = np.array([13, 12, 13, 12])
    for two_j_max in (6, 8, 10):
        for how in ({"weights": {"Al": 1.0, "Mg": 0.6}, "radii": {"Mg": 0.55}}, {"chem": ["Al", "Mg"]}):
            native = BispectrumSettings(two_j_max=two_j_max, **how)
            lammps = native.model_copy(update={"engine": "lammps"})
            moved = positions - np.full(3, ON_GRID_SHIFT) @ frame(cell)[1].T
            a = bispectrum(cell, positions, numbers, GRID, native, dtype=np.float64)
            b = bispectrum(cell, moved, numbers, GRID, lammps, dtype=np.float64)
            gradient = np.ones(a.shape)
            bispectrum_forces(cell, positions, numbers, (2, 2, 2), native, gradient[:8])
            given = (cell, positions, numbers, GRID)
            seconds = np.array(
                [
                    [
                        cpu(bispectrum, *given, native),
                        cpu(bispectrum, *given, lammps),
                        cpu(bispectrum_forces, *given, native, gradient),
                    ]
                    for _ in range(min(REPEATS, 3))
                ]
            ).min(axis=0)
            row = {"case": f"two species, {', '.join(how)}", "two_j_max": two_j_max, "numbers": native.n_components}
            row["us_a_point"] = [round(1e6 * x / prod(GRID), 1) for x in seconds]  # native, LAMMPS, native forces
            row |= {"ratio": round(seconds[1] / seconds[0], 1)}
            row |= {"difference": float((np.abs(a - b).max(axis=0) / np.abs(b).max(axis=0)).max())}
            print(json.dumps(row), flush=True)


def threads() -> None:
    """One thread and two in turn: wall seconds, which only idle cores make meaningful, and CPU seconds."""
    cell, positions = cells()["32 atoms"]
    given = (cell, positions, np.full(32, 13), (40, 40, 40), BispectrumSettings())
    wall: dict[int, list[float]] = {1: [], 2: []}
    used: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3 * REPEATS):
        for n in (1, 2):
            started = time.perf_counter()
            used[n].append(cpu(bispectrum, *given, threads=n))
            wall[n].append(time.perf_counter() - started)
    row = {"case": "threads", "wall_s": {n: round(min(v), 3) for n, v in wall.items()}}
    row |= {"cpu_s": {n: round(min(v), 3) for n, v in used.items()}, "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(row | {"two_over_one": round(min(wall[1]) / min(wall[2]), 2)}), flush=True)


def screen_of_sixteen() -> None:
    """CPU seconds of a screen of 16 settings, 1,000 points to fit and 800 to predict, by either engine."""
    sampled = sample(Dataset.open(EXAMPLE), snapshots=4, points=1000, seed=0)
    descriptors, rest = {"native": 0.0, "lammps": 0.0}, 0.0
    for cutoff, two_j_max in product((2.5, 3.5, 4.68, 5.5), (4, 6, 8, 10)):
        for engine in ("native", "lammps"):
            found = score_setting(BispectrumSettings(cutoff=cutoff, two_j_max=two_j_max, engine=engine), sampled)
            descriptors[engine] += found.descriptor_seconds
            if engine == "native":
                rest += found.kernel_ridge_seconds + found.acsd_seconds
    row = {"case": "screen of 16 settings", "descriptors_cpu_s": {k: round(v, 2) for k, v in descriptors.items()}}
    total = {k: v + rest for k, v in descriptors.items()}
    print(json.dumps(row | {"rest_cpu_s": round(rest, 2), "ratio": round(total["lammps"] / total["native"], 1)}))


def derivatives() -> None:
    """∂B/∂R of 20³ points and all coordinates of 4 atoms, against central differences of fast descriptors."""
    cell, positions = cells()["4 atoms"]
    numbers, grid = np.full(4, 13), (20, 20, 20)
    for cutoff, two_j_max in ((3.0, 8), (4.68, 10)):
        settings, n_pairs = BispectrumSettings(cutoff=cutoff, two_j_max=two_j_max), 0
        seconds: dict[str, list[float]] = {"pairs": [], "descriptors": []}
        pair_derivatives(cell, positions, numbers, grid, settings, points=range(8))
        for _ in range(REPEATS):
            started, n_pairs = time.process_time(), 0
            for start in range(0, 8000, 2000):
                found = pair_derivatives(cell, positions, numbers, grid, settings, points=range(start, start + 2000))
                n_pairs += len(found.point)
            seconds["pairs"].append(time.process_time() - started)
            seconds["descriptors"].append(cpu(bispectrum, cell, positions, numbers, grid, settings))
        best = {k: min(v) for k, v in seconds.items()}
        row = {"case": "derivatives", "cutoff": cutoff, "two_j_max": two_j_max, "cpu_s": round(best["pairs"], 3)}
        row |= {"us_a_pair": round(1e6 * best["pairs"] / n_pairs, 2), "pairs_a_point": round(n_pairs / 8000, 1)}
        print(json.dumps(row | {"ratio": round(24 * best["descriptors"] / best["pairs"], 1)}), flush=True)


def first_call() -> None:
    """CPU seconds of a process that imports the engine and computes one point, from what was compiled before."""
    code = (
        "import time, numpy as np; from dftune.trainables.descriptors.bispectrum import bispectrum\n"
        "from dftune.trainables.descriptors.settings import BispectrumSettings\n"
        "bispectrum(4.0 * np.eye(3), np.zeros((1, 3)), np.ones(1, int), (1, 1, 1), BispectrumSettings())\n"
        "print(time.process_time())"
    )
    runs = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(REPEATS)]
    print(json.dumps({"case": "import and first call", "cpu_s": round(min(runs), 2)}), flush=True)


def free_energy(path: Path) -> None:
    """CPU seconds from a structure to its free energy, forces and stress, of a model that is warm."""
    from dftune import Model

    model, atoms = Model.open(path), bulk("Al", cubic=True)
    for forces, stress in (("none", False), ("mean", False), ("mean", True)):
        runs = [cpu(model.predict, atoms, forces=forces, stress=stress) for _ in range(1 + REPEATS)][1:]
        row = {"case": "4 atoms to a free energy", "forces": forces, "stress": stress, "cpu_s": round(min(runs), 3)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    print(json.dumps({name: version(name) for name in ("numba", "lammps", "numpy")} | {"cpus": os.cpu_count()}))
    engines()
    species()
    threads()
    screen_of_sixteen()
    derivatives()
    first_call()
    if len(sys.argv) > 2:
        free_energy(Path(sys.argv[2]))
