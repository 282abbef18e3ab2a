"""Claims: descriptors by Ray actors cost at most 15 % more CPU time than the kernel alone, on one node and several; two
actors are 1.8 times as fast as one; the object store holds one copy of each shard; an actor's memory does not grow with
the grid.  And what MPI ranks are worth.

2J_max = 10 on the 20 x 20 x 20 grids of 20 snapshots like those of examples/al4.  The kernel alone is one process
that computes the same and writes nothing.  Actors have started and loaded the kernel before the clock starts; the row
"with start-up" times the whole of ``compute_descriptors``, start of the actors included, that of Ray not.  Nodes are
Rays of one CPU each on this machine: more of them than it has CPUs wait for each other, which CPU time does not see.
The large cell is a 2 x 2 x 2 supercell of one snapshot, 32 atoms on 40 x 40 x 40 points.

    python benchmarks/descriptors.py [repeats=5] [parts=nodes,memory,ranks]
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dftune.cluster.connection import SETTINGS as RAY_SETTINGS
from dftune.cluster.connection import connected
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.snapshot import SNAPSHOTS, Snapshot
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.descriptors.slabs import pieces

SETTINGS = BispectrumSettings(two_j_max=10)
MODERATE = BispectrumSettings(two_j_max=8, engine="lammps")
CHEAP = BispectrumSettings(two_j_max=4)
EXAMPLE = Path(__file__).parents[1] / "examples" / "al4"
MB = 1e6


def alone_cpu_seconds(snapshots: list[Snapshot]) -> float:
    """CPU time of the kernel alone in this process, which has loaded it."""
    bispectrum(snapshots[0].cell, snapshots[0].positions, snapshots[0].numbers, (2, 2, 2), SETTINGS)
    started = time.process_time()
    for s in snapshots:
        bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS)
    return time.process_time() - started


def dataset_of(folder: Path, snapshots: list[Snapshot]) -> Dataset:
    """A dataset of these snapshots, without their LDOS."""
    folder.mkdir()
    shutil.copy(EXAMPLE / "dataset.json", folder)
    pq.write_table(
        pa.Table.from_pylist([s.to_row() for s in snapshots], schema=SNAPSHOTS), folder / "snapshots.parquet"
    )
    return Dataset.open(folder)


def snapshots_of(example: Dataset, n: int = 20) -> list[Snapshot]:
    """Snapshots of 20³ points: those of the example, moved where there are more."""
    rng = np.random.default_rng(0)
    return [
        replace(s, id=f"{k:03d}", positions=s.positions + 0.01 * rng.normal(size=s.positions.shape))
        for k, s in enumerate(example.snapshots[k % len(example.snapshots)] for k in range(n))
    ]


def supercell(snapshot: Snapshot, n: int, grid: tuple[int, int, int]) -> Snapshot:
    """The cell n times along each of its vectors."""
    shifts = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3) @ snapshot.cell
    positions = (snapshot.positions + shifts).reshape(-1, 3)
    numbers = np.tile(snapshot.numbers, n**3)
    return replace(snapshot, cell=n * snapshot.cell, positions=positions, numbers=numbers, grid=grid, forces=None)


@contextmanager
def nodes_of_one_cpu(n: int) -> Iterator[None]:
    """Connected to n nodes of one CPU each, and the driver's without one."""
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray writes the address there, wherever its own folder is
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        store = {"object_store_memory": 100_000_000}
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": temporary, **store}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(n):
            cluster.add_node(num_cpus=1, **store)
        with connected(cluster.address):
            yield
        cluster.shutdown()


class Actors:
    """Actors as ``compute_descriptors`` starts them, fed by hand, so that their CPU time can be asked for."""

    def __init__(self, dataset: Dataset, settings: BispectrumSettings, n: int, ranks: int = 1) -> None:
        import ray

        from dftune.cluster.descriptors.descriptors import DescriptorActor

        self._ray, self._dataset = ray, dataset
        options: dict[str, Any] = {"num_cpus": ranks, "scheduling_strategy": "SPREAD"}
        self._actors = [DescriptorActor.options(**options).remote(dataset.path, settings, ranks) for _ in range(n)]
        ray.get([a.ready.remote() for a in self._actors])

    def ask(self, function: Any) -> list[Any]:
        return self._ray.get([a.__ray_call__.remote(lambda self, f=function: f()) for a in self._actors])

    def compute(self, n: int, snapshots: list[Snapshot] | None = None) -> tuple[float, float]:
        """Wall and CPU seconds of n of the actors, pieces dealt in turn."""
        shutil.rmtree(self._dataset.path / "descriptors", ignore_errors=True)
        tasks = [(s.id, p) for s in snapshots or self._dataset.snapshots for p in pieces(s.grid)]
        cpu, started = sum(self.ask(time.process_time)), time.perf_counter()
        self._ray.get([self._actors[i % n].compute.remote(*task) for i, task in enumerate(tasks)])
        wall = time.perf_counter() - started
        return wall, sum(self.ask(time.process_time)) - cpu

    def join(self) -> None:
        self._ray.get([self._actors[0].join.remote(s.id) for s in self._dataset.snapshots])

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)


def peak_memory() -> float:
    """Largest resident set of this process so far [MB]."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1e3


def show_copies(dataset: Dataset, nodes: int, common: dict[str, Any]) -> None:
    """Copies of each shard, by Ray's directory and by the memory that its stores have in use."""
    import ray

    from dftune.cluster.descriptors.descriptors import compute_descriptors

    def used() -> float:
        time.sleep(2)  # nodes tell of themselves now and then
        return ray.cluster_resources()["object_store_memory"] - ray.available_resources()["object_store_memory"]

    shutil.rmtree(dataset.path / "descriptors", ignore_errors=True)
    before = used()
    made = compute_descriptors(dataset, SETTINGS, keep=True)
    taken = used() - before
    refs = [ref for shards in made.shards.values() for ref in shards]
    places = ray.experimental.get_object_locations(refs)
    made.close()
    n_bytes = 4 * SETTINGS.n_components * sum(s.n_points for s in dataset.snapshots)
    holding = {node for ref in refs for node in places[ref]["node_ids"]}
    row = {"case": "copies of shards", "nodes": nodes, "shards": len(refs)}
    row["copies"] = sum(len(places[ref]["node_ids"]) for ref in refs) / len(refs)
    row |= {"bytes_used_over_bytes_of_shards": taken / n_bytes, "nodes_that_hold_some": len(holding)}
    print(json.dumps(row | common), flush=True)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    parts = (sys.argv[2] if len(sys.argv) > 2 else "nodes,memory,ranks").split(",")
    os.environ.update(RAY_SETTINGS | {"RAY_AUTH_MODE": "disabled"})  # all nodes listen on loopback
    example = Dataset.open(EXAMPLE)
    common = {"repeats": repeats, "lammps": version("lammps"), "ray": version("ray"), "cpus": os.cpu_count()}
    plain = ProcessPoolExecutor(1, get_context("spawn"))
    with plain, tempfile.TemporaryDirectory() as folder:
        small = dataset_of(Path(folder) / "small", snapshots_of(example))

        def overhead(actors: Actors, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            """CPU seconds of LAMMPS alone, wall and CPU seconds of n actors, in turn."""
            rounds = []
            for _ in range(repeats):
                alone = plain.submit(alone_cpu_seconds, small.snapshots).result()
                rounds.append((alone, *actors.compute(n)))
            alone, wall, cpu = np.array(rounds).T
            return alone, wall, cpu

        def show_overhead(nodes: int, n: int, alone: np.ndarray, wall: np.ndarray, cpu: np.ndarray) -> None:
            row = {"case": "CPU time, warm actors", "nodes": nodes, "actors": n, "cpu_s": np.median(cpu)}
            row |= {"alone_cpu_s": np.median(alone), "busy": np.median(cpu / wall / n)}
            print(json.dumps(row | ratio(cpu, alone) | {"claimed_at_most": 1.15} | common), flush=True)

        if "nodes" in parts:
            plain.submit(alone_cpu_seconds, small.snapshots[:1]).result()
            with connected():
                one_node(small, overhead, show_overhead, repeats, common)
                show_copies(small, 1, common)
            for n in (2, 4):
                with nodes_of_one_cpu(n):
                    actors = Actors(small, SETTINGS, n)
                    actors.compute(n)  # warm-up: LAMMPS loaded
                    show_overhead(n, n, *overhead(actors, n))
                    actors.close()
                    show_copies(small, n, common)
        with connected():
            if "memory" in parts:
                memory(Path(folder), example.snapshots[0], common)
            if "ranks" in parts:
                ranks(Path(folder), example.snapshots[0], repeats, common)


def one_node(dataset: Dataset, overhead: Any, show_overhead: Any, repeats: int, common: dict[str, Any]) -> None:
    from dftune.cluster.descriptors.descriptors import compute_descriptors

    def with_start_up(n: int) -> float:
        shutil.rmtree(dataset.path / "descriptors", ignore_errors=True)
        started = time.perf_counter()
        compute_descriptors(dataset, SETTINGS, actors=n).close()
        return time.perf_counter() - started

    started = np.array([(with_start_up(1), with_start_up(2)) for _ in range(repeats)]).T
    actors = Actors(dataset, SETTINGS, 2)
    actors.compute(2)  # warm-up: LAMMPS loaded
    walls = []
    for n in (1, 2):
        alone, wall, cpu = overhead(actors, n)
        show_overhead(1, n, alone, wall, cpu)
        walls.append(wall)
    actors.close()
    for case, (one, two) in (("two over one, warm actors", walls), ("two over one, with start-up", started)):
        row = {"case": case, "wall_s_1": np.median(one), "wall_s_2": np.median(two), "claimed_at_least": 1.8}
        print(json.dumps(row | ratio(one, two) | common), flush=True)


def memory(folder: Path, snapshot: Snapshot, common: dict[str, Any]) -> None:
    """Peak memory of one actor that computes a whole snapshot and joins its pieces, on three grids."""
    for n in (40, 80, 160):
        dataset = dataset_of(folder / f"grid {n}", [replace(snapshot, grid=(n, n, n))])
        actors = Actors(dataset, CHEAP, 1)
        (idle,) = actors.ask(peak_memory)
        actors.compute(1)
        actors.join()
        (peak,) = actors.ask(peak_memory)
        actors.close()
        row = {"case": "memory of an actor", "two_j_max": CHEAP.two_j_max, "grid_points": n**3, "idle_mb": idle}
        row |= {"peak_mb": peak, "descriptors_mb": 4 * CHEAP.n_components * n**3 / MB}
        print(json.dumps(row | common), flush=True)
        shutil.rmtree(dataset.path)


def ranks(folder: Path, snapshot: Snapshot, repeats: int, common: dict[str, Any]) -> None:
    """One cell by two actors, a piece each at a time, against two MPI ranks that share each piece."""
    from dftune.cluster.descriptors.mpi_group import MpiGroup

    group, started = MpiGroup(2), time.perf_counter()
    corner = (snapshot.cell, snapshot.positions, snapshot.numbers, (2, 2, 2), MODERATE)
    calls = [started]
    for _ in range(10):
        group.bispectrum(*corner, points=range(8))
        calls.append(time.perf_counter())
    group.close()
    row = {"case": "calls of 2 MPI ranks, 8 grid points", "first_s": np.diff(calls)[0]}
    print(json.dumps(row | {"later_s": np.median(np.diff(calls)[1:])} | common), flush=True)
    for work, grid in (("4 pieces", (40, 40, 40)), ("1 piece", (25, 25, 25))):
        dataset = dataset_of(folder / work, [supercell(snapshot, 2, grid)])
        walls, values = [], []
        for n, n_ranks in ((2, 1), (1, 2)):
            actors = Actors(dataset, MODERATE, n, n_ranks)
            actors.compute(n)  # warm-up: kernel or LAMMPS loaded, ranks started
            walls.append(np.array([actors.compute(n)[0] for _ in range(repeats)]))
            actors.join()
            values.append(dataset.descriptors(dataset.snapshots[0], MODERATE).array())
            actors.close()
        row = {
            "case": "2 MPI ranks against 2 actors",
            "work": work,
            "two_j_max": MODERATE.two_j_max,
            "wall_s_actors": np.median(walls[0]),
        }
        row |= {"wall_s_ranks": np.median(walls[1])} | ratio(walls[1], walls[0])
        row["largest_difference"] = float(np.abs(values[1] - values[0]).max() / np.abs(values[0]).max())
        print(json.dumps(row | common), flush=True)


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Median and range of the ratios of paired repeats."""
    return {"ratio": np.median(a / b), "ratio_min": (a / b).min(), "ratio_max": (a / b).max()}


if __name__ == "__main__":
    main()
