"""Claim: a streamed training takes the memory it is given, however large the data, at 0.7 times the speed or more.

The training snapshots of aluminium (examples/al4, 2J_max = 10) stand 8, 32 and 64 or 88 times in a temporary folder,
2 GB: 48, 192 and 384 or 528 files each of descriptors and LDOS.  A row a case, each in a process of its own:

memory: one epoch of a streamed training with 64 MB for its grid points, under a limit of the kernel (RLIMIT_DATA, which
    counts what a process allocates) 100 MB above that; ``grown_mb`` is the growth of its largest resident set since
    torch was imported, which holds mapped files, too, were there any.  In memory the same training ends at the limit.
scoring: under the same limit the scaling of all training snapshots, the scores of eight networks by rfr and NASWOT, and
    the judgement of a network on all of them.
readout: under the same limit the last layer in closed form of a random network with rows for energies.
speed: grid points trained per second of one epoch, in memory and streamed in turn, the best of 3 each; ``cold`` streams
    after the files were dropped from the page cache.

    python benchmarks/streaming.py [CASE ...]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.shards import ShardFile, to_batches, write
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

AL4 = Path(__file__).parents[1] / "examples" / "al4"
SETTINGS = BispectrumSettings(two_j_max=10)
CONFIG = SurrogateConfig(n_layers=2, width=64, activation="relu", batch_size=256, epochs=1)
REPEATS, MOST = 8, 88  # of the six training snapshots in the smallest and in the largest case
MEMORY, ABOVE = 64e6, 100e6  # bytes


def written(folder: Path) -> None:
    """Descriptors and LDOS of MOST repetitions, each with a file of its own."""
    dataset = Dataset.open(AL4)
    for s in (*dataset.split("train"), dataset.split("validation")[0]):
        arrays = {
            "descriptor": bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS),
            "ldos": dataset.ldos(s).array(),
        }
        for name, values in arrays.items():
            for copy in range(MOST if s.split == "train" else 1):
                write(folder / f"{s.id}-{copy}.{name}", to_batches(values, name, {}))
    os.sync()


def training_data(folder: Path, repeats: int) -> TrainingData:
    """So many repetitions of the training snapshots, and one validation snapshot."""
    dataset = Dataset.open(AL4)

    def stored(snapshot, copy):
        widths = {"descriptor": SETTINGS.n_components, "ldos": dataset.info.energy_grid.n_energy}
        files = [
            ShardFile(folder / f"{snapshot.id}-{copy}.{name}", name, n_points=snapshot.n_points, n=n, remedy="")
            for name, n in widths.items()
        ]
        return SnapshotData(snapshot, *(file.stored() for file in files))

    train = [stored(s, copy) for copy in range(repeats) for s in dataset.split("train")]
    validation = [stored(dataset.split("validation")[0], 0)]
    return TrainingData(train, validation, dataset.info.energy_grid, Scaling.fit(train[:6]))


def resident_set() -> float:
    """The largest of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def peak(folder: Path, repeats: int, memory: float) -> dict[str, object]:
    """One epoch under the limit."""
    train(CONFIG, training_data(folder, 1), seeds=[0], memory=1e6)  # what torch takes at its first use
    before = limited(MEMORY + ABOVE)
    given = training_data(folder, repeats)
    n_points = sum(d.snapshot.n_points for d in given.train)
    row: dict[str, object] = {"grid_points": n_points, "all_mb": 2 * 4 * (91 + 37) * n_points / 1e6}
    try:
        epoch = train(CONFIG, given, seeds=[0], memory=memory).last
    except (MemoryError, RuntimeError) as error:
        return row | {"ended": " ".join(str(error).split())[:80]}
    return row | {"grown_mb": resident_set() - before, "share_in_memory": epoch.share_in_memory}


def scoring(folder: Path, repeats: int, memory: float) -> dict[str, object]:
    """What a study does with the grid points besides training, under the limit."""
    configs = [CONFIG.model_copy(update={"width": width}) for width in (16, 24, 32, 48, 64, 96, 128, 192)]
    work(training_data(folder, 1), configs)  # what torch takes at its first use
    before = limited(memory + ABOVE)
    given = training_data(folder, repeats)
    n_points = sum(d.snapshot.n_points for d in given.train)
    work(given, configs)
    return {"grid_points": n_points, "all_mb": 4 * (91 + 37) * n_points / 1e6, "grown_mb": resident_set() - before}


def readout(folder: Path, repeats: int, memory: float) -> dict[str, object]:
    """A surrogate without training, of the LDOS and energies, under the limit."""
    config = SurrogateConfig.of({"training": "none", "width": 64, "force_weight": 0, "penalty": 1.0})
    fit(config, training_data(folder, 1), seeds=[0])  # what torch takes at its first use
    before = limited(memory + ABOVE)
    given, started = training_data(folder, repeats), time.process_time()
    n_points = sum(d.snapshot.n_points for d in given.train)
    found = fit(config, given, seeds=[0])
    about = {"validation_loss": found.best_loss[0], "cpu_s": time.process_time() - started}
    return {"grid_points": n_points, "grown_mb": resident_set() - before} | about


def work(data: TrainingData, configs: list[SurrogateConfig]) -> None:
    """Scale, score and judge."""
    data = replace(data, scaling=Scaling.fit(data.train))
    for name in ("rfr", "naswot"):
        batch = data.sample(SCORES[name].n_points, np.random.default_rng(0))
        assert np.isfinite(SCORES[name].function(configs, batch, 0)).all()
    network = Network(CONFIG, len(data.scaling.descriptor_mean), len(data.scaling.ldos_mean), seeds=[0])
    assert judge(network, data.scaling, data.energy_grid, data.train).accuracy.ldos_r2 < 1


def limited(size: float) -> float:
    """Allow this process ``size`` more bytes than it has; its largest resident set so far [MB]."""
    data = int(next(r for r in Path("/proc/self/status").read_text().splitlines() if "VmData" in r).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (int(data + size),) * 2)
    return resident_set()


def speed(folder: Path) -> dict[str, object]:
    """Points per second of one epoch: in memory, streamed, and streamed from files that are not in the page cache."""
    data, found = training_data(folder, REPEATS), dict[str, list[float]]()
    for _ in range(3):
        for case, memory in (("in memory", np.inf), ("streamed", MEMORY), ("cold", MEMORY)):
            if case == "cold":
                for file in folder.iterdir():
                    with open(file, "rb") as opened:
                        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            epoch = train(CONFIG, data, seeds=[0], memory=memory).last
            found.setdefault(case, []).append(epoch.points_per_second)
    best = {case: max(values) for case, values in found.items()}
    return best | {f"{case}_ratio": best[case] / best["in memory"] for case in ("streamed", "cold")}


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) == 5:  # in a process of its own
        folder, case, repeats, memory = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
        measure = {"speed": lambda *_: speed(folder), "scoring": scoring, "readout": readout}.get(case, peak)
        found = measure(folder, repeats, memory)
        about = {name: version(name) for name in ("torch", "numpy")} | {"cpus": os.cpu_count()}
        print(json.dumps({"case": case} | found | about), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder))
        times = {"memory": (1, 4, 8), "scoring": (1, 4, 8), "readout": (1, 4, MOST // REPEATS)}
        cases = [(case, REPEATS * n, MEMORY) for case, some in times.items() for n in some]
        for case in (*cases, ("in memory", REPEATS, np.inf), ("speed", REPEATS, MEMORY)):
            if case[0] not in (sys.argv[1:] or (case[0],)):
                continue
            subprocess.run([sys.executable, __file__, folder, *map(str, case)], check=True)


if __name__ == "__main__":
    main()
