"""Claim: a distilled potential takes thousands of steps for one of its surrogate, and says how far off it is.

A linear SNAP potential is run by LAMMPS, on one core, at 933 K in cells of 4, 32 and 108 atoms.  Rows: steps a CPU
second; then the errors against the surrogate on frames of the potential's own run of 32 atoms.  The last structure of
that run is written to POTENTIAL.xyz: there a run of the surrogate begins near its equilibrium.

Where a run of the surrogate is given, its radial distribution function, from step SKIP on, is compared with those of
60 windows as long, of the potential's own run with the same timestep, thermostat and distance of the frames.  So the
scatter of means over so short a time, and of bins with each other, is known.

    dftune md distill MODEL POSCAR POTENTIAL --number 24 --rattle 0.2
    python benchmarks/distilled.py POTENTIAL
    dftune md MODEL POTENTIAL.xyz --temperature 933 --timestep 3 --steps 1000 --interval 2 --thermostat-time 100 \\
        --output RUN
    python benchmarks/distilled.py POTENTIAL RUN [SKIP=200]
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.build import bulk
from numpy.typing import NDArray
from scipy import stats

from dftune.platform.md.distill import Distilled, judge
from dftune.trainables.descriptors.lammps_snap import empty_cell, place

TEMPERATURE = 933  # K
STEPS = {1: 4000, 2: 4000, 3: 1000}  # of n³ cubic cells
EVERY = 20
WINDOWS = 60
BINS = np.arange(1.5, 4.05, 0.15)  # Å; half of the cell of 32 atoms


@contextmanager
def dynamics(
    path: Path, n: int, timestep: float, thermostat_time: float
) -> Iterator[tuple[Any, Callable[[], ase.Atoms]]]:
    """LAMMPS with the potential and n³ cubic cells, hot; and what gives their atoms.  Times in ps."""
    potential = Distilled.open(path)
    atoms = bulk("Al", cubic=True, a=4.05).repeat(n)
    style, coefficients = potential.lammps
    with empty_cell(np.array(atoms.cell), 1) as (lmp, rotation):
        place(lmp, atoms.positions @ rotation + 1e-6, [1] * len(atoms))
        lmp.commands_list(
            [
                "mass * 26.98",
                style,
                coefficients.replace("Al.snap", f"{path}/Al.snap"),
                f"velocity all create {2 * TEMPERATURE} 1 mom yes",
                f"timestep {timestep}",
                "fix move all nve",
                f"fix heat all temp/csvr {TEMPERATURE} {TEMPERATURE} {thermostat_time} 1",
                "run 0 post no",
            ]
        )

        def now() -> ase.Atoms:
            order = np.argsort(lmp.numpy.extract_atom("id")[: len(atoms)])
            frame = atoms.copy()
            frame.positions = lmp.numpy.extract_atom("x")[: len(atoms)][order] @ rotation.T
            return frame

        yield lmp, now


def run(path: Path, n: int) -> tuple[dict[str, Any], list[ase.Atoms]]:
    """A row, and the frames of the second half."""
    frames, seconds = [], 0.0
    with dynamics(path, n, 0.002, 0.1) as (lmp, now):
        for number in range(STEPS[n] // EVERY):
            started = time.process_time()
            lmp.command(f"run {EVERY} pre no post no")
            seconds += time.process_time() - started
            if number >= STEPS[n] // EVERY // 2:
                frames.append(now())
    return {"atoms": len(frames[0]), "steps": STEPS[n], "steps_a_cpu_second": STEPS[n] / seconds}, frames


def windows(path: Path, n_frames: int, every: int, timestep: float, thermostat_time: float) -> NDArray[np.float64]:
    """g(r) of each frame of windows of 32 atoms' run, (WINDOWS, n_frames, n_bins); times in ps."""
    found = []
    with dynamics(path, 2, timestep, thermostat_time) as (lmp, now):
        lmp.command("run 2000 pre no post no")
        for _ in range(WINDOWS * n_frames):
            lmp.command(f"run {every} pre no post no")
            found.append(distribution([now()])[0])
    return np.array(found).reshape(WINDOWS, n_frames, -1)


def distribution(frames: list[ase.Atoms]) -> NDArray[np.float64]:
    """The radial distribution function g(r) of each frame, in the middle of each of ``BINS``."""
    found = []
    for atoms in frames:
        n, density = len(atoms), len(atoms) / atoms.get_volume()
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(n, 1)]
        shells = 4 / 3 * np.pi * np.diff(BINS**3)
        found.append(np.histogram(distances, BINS)[0] * 2 / n / density / shells)
    return np.array(found)


def compared(of_surrogate: NDArray[np.float64], windows: NDArray[np.float64]) -> dict[str, Any]:
    """Whether a run of the surrogate is one more window of the potential's own run.

    The windows' means say by how much, and in which bins together, a mean over so short a time scatters (Hotelling's
    T² with its F distribution).

    Args:
        of_surrogate: g(r) of each frame of the surrogate's run, (n_frames, n_bins).
        windows: the same of windows as long of the potential's run, (n_windows, n_frames, n_bins).
    """
    means, found = windows.mean(axis=1), of_surrogate.mean(axis=0)
    seen = means.std(axis=0) > 1e-3
    off, n, p = (found - means.mean(axis=0))[seen], len(means), int(seen.sum())
    scatter = np.cov(means[:, seen].T)
    t_squared = float(off @ np.linalg.solve(scatter, off)) / (1 + 1 / n)
    blocks = np.array([block.mean(axis=0) for block in np.array_split(of_surrogate, 5)])
    by_error = np.abs(off) / np.sqrt(np.diag(scatter) * (1 + 1 / n))
    return {
        "windows": n,
        "frames": len(of_surrogate),
        "r": BINS[:-1][seen].round(2).tolist(),
        "g_distilled": means.mean(axis=0)[seen].round(3).tolist(),
        "g_surrogate": found[seen].round(3).tolist(),
        "standard_error": np.sqrt(np.diag(scatter)).round(3).tolist(),
        "standard_error_of_surrogate_by_5_blocks": (blocks.std(axis=0, ddof=1)[seen] / np.sqrt(5)).round(3).tolist(),
        "largest_difference_by_error": float(by_error.max()),
        "mean_difference_by_error": float(by_error.mean()),
        "t_squared": t_squared,
        "bins": p,
        "p_value": float(stats.f.sf(t_squared * (n - p) / (p * (n - 1)), p, n - p)),
    }


def main() -> None:
    path = Path(sys.argv[1]).absolute()
    about = {name: version(name) for name in ("lammps", "numpy", "ase")} | {"cpus": os.cpu_count()}
    if len(sys.argv) > 2:
        of_surrogate, skip = Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 200
        asked = json.loads((of_surrogate / "run.json").read_text())["settings"]
        thin = 5  # of the frames of the surrogate, one is compared
        ours = distribution(ase.io.read(of_surrogate / "trajectory.xyz", f"{skip // asked['interval']}::{thin}"))
        times = asked["timestep"] / 1000, asked["thermostat_time"] / 1000
        row = compared(ours, windows(path, len(ours), thin * asked["interval"], *times))
        print(json.dumps({"steps": skip} | row | about), flush=True)
        return
    frames: dict[int, list[ase.Atoms]] = {}
    for n in STEPS:
        row, frames[n] = run(path, n)
        print(json.dumps(row | about), flush=True)
    ase.io.write(path.with_name(f"{path.name}.xyz"), frames[2][-1])
    with tempfile.TemporaryDirectory() as folder:
        ase.io.write(Path(folder) / "frames.xyz", frames[2][:: len(frames[2]) // 4])
        found = judge(path, Path(folder) / "frames.xyz")
    print(json.dumps({"judged": "own run of 32 atoms", **found.model_dump()}), flush=True)


if __name__ == "__main__":
    main()
