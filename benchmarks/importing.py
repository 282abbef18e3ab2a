"""Claims: 50 MB or more of cubes are imported in a CPU second; memory does not grow with the number of energies.

It writes cubes of a made-up LDOS around the atoms of the tests' calculation, and a .npy file of the same, imports both,
and removes all.  The numbers mean nothing, so the checks warn.  A plain copy of the .npy file stands beside it.

    python benchmarks/importing.py [points=120] [energies=24]
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dftune.trainables.data.dataset import Dataset

DATA = Path(__file__).parents[1] / "tests" / "data" / "quantum_espresso.tar.xz"
N = int(sys.argv[1]) if len(sys.argv) > 1 else 120
N_ENERGY = int(sys.argv[2]) if len(sys.argv) > 2 else 24
SIDES = np.array([5.4117646, 5.4117646, 7.6533908])  # of the cell [bohr]
ONE = """
import json, re, sys, time
from pathlib import Path
from dftune.trainables.data.importing.importers import import_dataset
started = time.process_time()
import_dataset([Path(sys.argv[1])], Path(sys.argv[2]), kernel="gaussian", check="warn")
# Not ru_maxrss: a process inherits that of the one that started it, which holds the arrays that were written.
memory = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"cpu_s": time.process_time() - started, "memory_mb": memory}))
"""


def write_run(folder: Path) -> None:
    """A log of pw.x, and cubes on a finer grid than its own."""
    shutil.unpack_archive(DATA, folder / "all", filter="data")
    source, run = folder / "all" / "runs" / "0", folder / "run"
    run.mkdir()
    log = (source / "pw.out").read_text().replace("(   9,   9,  12)", f"({N:4d},{N:4d},{N:4d})")
    (run / "pw.out").write_text(log)
    lines = (source / "tmp.pp001ldos.cube").read_text().splitlines()
    head = [*lines[:3], *(f"{N:5d}" + "".join(f"{x:16.10f}" for x in row) for row in np.diag(SIDES / N)), *lines[6:8]]
    x, ldos = np.arange(N) / N, np.full((N, N, N), 0.3)
    for line in lines[6:8]:
        place = np.array(line.split()[2:], dtype=float) / SIDES
        a, b, c = (np.exp(-20 / 3 * (1 - np.cos(2 * np.pi * (x - p)))) for p in place)
        ldos += a[:, None, None] * b[:, None] * c
    ldos *= 0.0232 / ldos.mean()  # some six electrons below the Fermi level [1/(Ry bohr³)]
    rows = ([f"{value:13.5E}" for value in row] for row in ldos.reshape(-1, N))
    body = "".join("".join(row[i : i + 6]) + "\n" for row in rows for i in range(0, N, 6))
    for n in range(N_ENERGY):
        head[1] = f"  Energy = {n - 8:9.4f} eV, broadening = {1.0:8.4f} eV"
        (run / f"tmp.pp{n + 1:03d}ldos.cube").write_text("\n".join(head) + "\n" + body)


def write_npy(dataset: Dataset, folder: Path) -> None:
    """The same in the layout ``arrays``."""
    folder.mkdir()
    (snapshot,), grid = dataset.snapshots, dataset.info.energy_grid
    file = folder / "000.ldos.npy"
    values = np.lib.format.open_memmap(file, "w+", np.float32, (*snapshot.grid, grid.n_energy))
    flat, n = values.reshape(-1, grid.n_energy), 0
    for shard in dataset.ldos(snapshot).read():
        flat[n : n + len(shard)] = shard
        n += len(shard)
    values.flush()
    energies = {"emin": grid.minimum, "spacing": grid.spacing, "count": grid.n_energy}
    record = {
        "config": {
            "cell_angstrom": snapshot.cell.tolist(),
            "positions_angstrom": snapshot.positions.tolist(),
            "symbol": "Al",
            "zval": 3,
            "energy_grid_ev": energies | {"kernel": "gaussian", "width": 1.0},
        },
        "fft": list(snapshot.grid),
        "n_electrons": 6.0,
        "kt_ev": 0.27,
        "fermi_ev": snapshot.fermi_level,
    }
    (folder / "000.json").write_text(json.dumps(record))


def imported(case: str, source: Path, made: Path) -> None:
    """Import in a process of its own, and print what it took."""
    command = [sys.executable, "-c", ONE, str(source), str(made)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    size = sum(file.stat().st_size for file in source.iterdir()) / 1e6
    row = {"case": case, "points": N**3, "energies": N_ENERGY, "mb": size, "mb_per_cpu_s": size / found["cpu_s"]}
    print(json.dumps(row | found), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_run(folder)
        imported("cubes", folder / "run", folder / "of cubes")
        shutil.rmtree(folder / "run")
        write_npy(Dataset.open(folder / "of cubes"), folder / "arrays")
        imported("npy", folder / "arrays", folder / "of npy")
        before = time.process_time(), time.perf_counter()
        shutil.copyfile(folder / "arrays" / "000.ldos.npy", folder / "copy")
        cpu, wall = time.process_time() - before[0], time.perf_counter() - before[1]
        size = (folder / "copy").stat().st_size / 1e6
        print(json.dumps({"case": "plain copy", "mb_per_cpu_s": size / cpu, "mb_per_s": size / wall}))


if __name__ == "__main__":
    main()
