"""Claim: a distilled potential takes thousands of steps for one of its surrogate, and says how far off it is.

A linear SNAP potential is run by LAMMPS, on one core, at 933 K in cells of 4, 32 and 108 atoms.  Rows: steps a CPU
second; then the errors against the surrogate on frames of the potential's own run of 32 atoms, and the largest
difference of the radial distribution functions of both where a run of the surrogate is given, in units of its standard
error.  The last structure of the potential's run is written to POTENTIAL.xyz: there the run of the surrogate begins in
equilibrium.

    dftune md distill MODEL POSCAR POTENTIAL --number 24 --rattle 0.2
    python benchmarks/distilled.py POTENTIAL
    dftune md MODEL POTENTIAL.xyz --temperature 933 --timestep 3 --steps 60 --interval 2 --output RUN
    python benchmarks/distilled.py POTENTIAL RUN
"""

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.build import bulk
from numpy.typing import NDArray

from dftune.platform.md.distill import Distilled, judge
from dftune.trainables.descriptors.lammps_snap import empty_cell, place

TEMPERATURE, STEP = 933, 0.002  # K, ps
STEPS = {1: 4000, 2: 4000, 3: 1000}  # of n³ cubic cells
EVERY = 20
BINS = np.arange(1.5, 4.05, 0.15)  # Å; half of the cell of 32 atoms


def run(potential: Distilled, path: Path, n: int) -> tuple[dict[str, Any], list[ase.Atoms]]:
    """Dynamics of n³ cubic cells: a row, and the frames of the second half."""
    atoms, frames, seconds = bulk("Al", cubic=True, a=4.05).repeat(n), [], 0.0
    style, coefficients = potential.lammps
    with empty_cell(np.array(atoms.cell), 1) as (lmp, rotation):
        place(lmp, atoms.positions @ rotation + 1e-6, [1] * len(atoms))
        lmp.commands_list(
            [
                "mass * 26.98",
                style,
                coefficients.replace("Al.snap", f"{path}/Al.snap"),
                f"velocity all create {2 * TEMPERATURE} 1 mom yes",
                f"timestep {STEP}",
                f"fix move all nvt temp {TEMPERATURE} {TEMPERATURE} 0.1",
                "run 0 post no",
            ]
        )
        for number in range(STEPS[n] // EVERY):
            started = time.process_time()
            lmp.command(f"run {EVERY} pre no post no")
            seconds += time.process_time() - started
            if number >= STEPS[n] // EVERY // 2:
                order = np.argsort(lmp.numpy.extract_atom("id")[: len(atoms)])
                frame = atoms.copy()
                frame.positions = lmp.numpy.extract_atom("x")[: len(atoms)][order] @ rotation.T
                frames.append(frame)
    about = {"atoms": len(atoms), "steps": STEPS[n], "steps_a_cpu_second": STEPS[n] / seconds}
    return about, frames


def distribution(frames: list[ase.Atoms]) -> NDArray[np.float64]:
    """The radial distribution function g(r) of each frame, in the middle of each of ``BINS``."""
    found = []
    for atoms in frames:
        n, density = len(atoms), len(atoms) / atoms.get_volume()
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(n, 1)]
        shells = 4 / 3 * np.pi * np.diff(BINS**3)
        found.append(np.histogram(distances, BINS)[0] * 2 / n / density / shells)
    return np.array(found)


def compared(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
    """Two functions, and their difference by its standard error, from blocks of a fifth of each run."""
    means, errors = [], []
    for frames in (ours, theirs):
        blocks = np.array([block.mean(axis=0) for block in np.array_split(frames, 5)])
        means.append(frames.mean(axis=0))
        errors.append(blocks.std(axis=0, ddof=1) / np.sqrt(5))
    error = np.hypot(*errors)
    seen = error > 0.01
    off = np.abs(means[0] - means[1])[seen] / error[seen]
    return {
        "r": BINS[:-1].round(2).tolist(),
        "g_distilled": means[0].round(2).tolist(),
        "g_surrogate": means[1].round(2).tolist(),
        "standard_error": error.round(2).tolist(),
        "largest_difference_by_error": float(off.max()),
        "mean_difference_by_error": float(off.mean()),
    }


def main() -> None:
    path = Path(sys.argv[1]).absolute()
    potential = Distilled.open(path)
    about = {name: version(name) for name in ("lammps", "numpy", "ase")} | {"cpus": os.cpu_count()}
    frames: dict[int, list[ase.Atoms]] = {}
    for n in STEPS:
        row, frames[n] = run(potential, path, n)
        print(json.dumps(row | about), flush=True)
    if len(sys.argv) == 2:
        ase.io.write(path.with_name(f"{path.name}.xyz"), frames[2][-1])
    with tempfile.TemporaryDirectory() as folder:
        ase.io.write(Path(folder) / "frames.xyz", frames[2][:: len(frames[2]) // 4])
        found = judge(path, Path(folder) / "frames.xyz")
    print(json.dumps({"judged": "own run of 32 atoms", **found.model_dump()}), flush=True)
    if len(sys.argv) > 2:
        of_surrogate = ase.io.read(Path(sys.argv[2]) / "trajectory.xyz", ":")
        print(json.dumps(compared(distribution(frames[2]), distribution(of_surrogate))), flush=True)


if __name__ == "__main__":
    main()
