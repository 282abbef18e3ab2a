"""Claims: imports of cubes take a CPU second for 50 MB or more, those of large .npy files reach half of a copy's speed.

Their memory does not grow with the number of energies.  The benchmark writes a made-up LDOS around the atoms of the
tests' calculation, imports it, and removes all.  The numbers mean nothing, so the checks warn.  Imports of the .npy
file take turns with `cp` and `sync` of it, as a busy disk slows both: with the file in the page cache, and without.

    python benchmarks/importing.py [points=120] [energies=24] [layout=cubes|npy] [turns=3]
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dftune.tests.places import DATA, unpack

RUNS = DATA / "quantum_espresso.tar.xz"
GIVEN = [*sys.argv[1:], *["120", "24", "cubes", "3"][len(sys.argv) - 1 :]]
N, N_ENERGY, LAYOUT, TURNS = int(GIVEN[0]), int(GIVEN[1]), GIVEN[2], int(GIVEN[3])
SIDES = np.array([5.4117646, 5.4117646, 7.6533908])  # of the cell [bohr]
PLACES = np.array([[5.391793, 0.096818, 0.019008], [2.721741, 2.624901, 3.881361]])  # of the atoms [bohr]
BOHR, FERMI_LEVEL = 0.529177210903, 7.7254  # [Å], [eV]
ONE = """
import json, re, sys, time
from pathlib import Path
from dftune.trainables.data.importing.importers import import_dataset
wall, cpu = time.perf_counter(), time.process_time()
import_dataset([Path(sys.argv[1])], Path(sys.argv[2]), kernel="gaussian", check="warn")
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
# Not ru_maxrss: a process inherits that of the one that started it, which holds the arrays that were written.
memory = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"wall_s": wall, "cpu_s": cpu, "memory_mb": memory}))
"""


def made_up() -> NDArray[np.float64]:
    """An LDOS that is the same at all energies, (N, N, N) [1/(Ry bohr³)]."""
    x, ldos = np.arange(N) / N, np.full((N, N, N), 0.3)
    for place in PLACES / SIDES:
        a, b, c = (np.exp(-20 / 3 * (1 - np.cos(2 * np.pi * (x - p)))) for p in place)
        ldos += a[:, None, None] * b[:, None] * c
    return ldos * (0.0232 / ldos.mean())  # some six electrons below the Fermi level, from 8 energies of 1 eV


def energies() -> dict[str, float]:
    """From -8 eV on: 24 are 1 eV apart, more of them closer."""
    return {"emin": -8.0, "spacing": min(1.0, 24 / N_ENERGY), "count": N_ENERGY}


def write_cubes(folder: Path) -> None:
    """A log of pw.x, and cubes on a finer grid than its own."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as unpacked:
        unpack(RUNS, Path(unpacked))
        source = Path(unpacked) / "runs" / "0"
        log = (source / "pw.out").read_text().replace("(   9,   9,  12)", f"({N:4d},{N:4d},{N:4d})")
        lines = (source / "tmp.pp001ldos.cube").read_text().splitlines()
    (folder / "pw.out").write_text(log)
    head = [*lines[:3], *(f"{N:5d}" + "".join(f"{x:16.10f}" for x in row) for row in np.diag(SIDES / N)), *lines[6:8]]
    rows = ([f"{value:13.5E}" for value in row] for row in made_up().reshape(-1, N))
    body = "".join("".join(row[i : i + 6]) + "\n" for row in rows for i in range(0, N, 6))
    grid = energies()
    for n in range(N_ENERGY):
        head[1] = f"  Energy = {grid['emin'] + n * grid['spacing']:9.4f} eV, broadening = {1.0:8.4f} eV"
        (folder / f"tmp.pp{n + 1:03d}ldos.cube").write_text("\n".join(head) + "\n" + body)


def write_npy(folder: Path) -> None:
    """The same in the layout ``arrays``."""
    folder.mkdir()
    values = np.lib.format.open_memmap(folder / "000.ldos.npy", "w+", np.float32, (N, N, N, N_ENERGY))
    for plane, of_density in zip(values, made_up() / (13.605693123 * BOHR**3), strict=True):
        plane[:] = of_density[..., None]
    values.flush()
    config = {
        "cell_angstrom": np.diag(SIDES * BOHR).tolist(),
        "positions_angstrom": (PLACES * BOHR).tolist(),
        "symbol": "Al",
        "zval": 3,
        "energy_grid_ev": energies() | {"kernel": "gaussian", "width": 1.0},
    }
    record = {"config": config, "fft": [N, N, N], "n_electrons": 6.0, "kt_ev": 0.27, "fermi_ev": FERMI_LEVEL}
    (folder / "000.json").write_text(json.dumps(record))


def imported(source: Path, made: Path) -> dict[str, float]:
    """Import in a process of its own; what it took."""
    command = [sys.executable, "-c", ONE, str(source), str(made)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    shutil.rmtree(made)
    return found


def copied(file: Path, made: Path) -> dict[str, float]:
    """Copy a file to the disk as a shell does; what it took."""
    cpu, wall = os.times(), time.perf_counter()
    subprocess.run(["cp", "--reflink=never", file, made], check=True)
    subprocess.run(["sync", made], check=True)
    after = os.times()
    cpu_s = after.children_user - cpu.children_user + after.children_system - cpu.children_system
    found = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s}
    made.unlink()
    return found


def set_cached(file: Path, *, cached: bool) -> None:
    """Bring a file into the page cache, or out of it."""
    with file.open("rb") as stream:
        if not cached:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while cached and stream.read(1 << 22):
            pass


def show(case: str, size: float, found: dict[str, float], **more: Any) -> None:
    row = {"case": case, "points": N**3, "energies": N_ENERGY, "mb": size, **more}
    speeds = {"mb_per_s": size / found["wall_s"], "mb_per_cpu_s": size / found["cpu_s"]}
    print(json.dumps(row | speeds | found), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "source", Path(name) / "made"
        {"cubes": write_cubes, "npy": write_npy}[LAYOUT](source)
        size = sum(file.stat().st_size for file in source.iterdir()) / 1e6
        if LAYOUT == "cubes":
            show("cubes", size, imported(source, made))
            return
        file = source / "000.ldos.npy"
        for cached in (True, False):
            ratios = []
            for _ in range(TURNS):
                set_cached(file, cached=cached)
                copy = copied(file, made)
                set_cached(file, cached=cached)
                own = imported(source, made)
                ratios.append(copy["wall_s"] / own["wall_s"])
                show("cp and sync", size, copy, cached=cached)
                show("npy", size, own, cached=cached)
            print(json.dumps({"case": "npy / copy", "cached": cached, "median_ratio": statistics.median(ratios)}))


if __name__ == "__main__":
    main()
