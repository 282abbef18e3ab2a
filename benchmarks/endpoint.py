"""Claim: a 4-atom cell takes at most 1.2 times as long by the endpoint, plus 15 ms, as by `Model.predict`.

A surrogate (2J_max = 6, two layers of 256, T = 5, trained for one epoch on examples/al4, or MODEL) predicts the 4-atom
cell on one CPU.  Rows:

    start               seconds until the endpoint is ready, and of the first request
    /v1/models          what a request takes that computes nothing
    in process, endpoint, calculator    one request after the other, in turns, since the machine may be busy
    32 clients          at once; requests a second
    32 in one request   against 32 requests one after the other, in turns

    python benchmarks/endpoint.py [MODEL] [--requests 40]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase

from dftune.platform.model.model import Model
from dftune.platform.serve.client import Client
from dftune.platform.serve.remote_calculator import RemoteCalculator
from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointSettings
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.settings import BispectrumSettings

PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
EXAMPLE = Path(__file__).parents[1] / "examples" / "al4"
ABOUT = {name: version(name) for name in ("ray", "torch")} | {"cpus": os.cpu_count()}


def four_atoms() -> ase.Atoms:
    """The 4-atom cell that is asked for."""
    snapshot = Dataset.open(EXAMPLE)["001"]
    return ase.Atoms(snapshot.numbers, snapshot.positions, cell=snapshot.cell, pbc=True)


def say(case: str, **values: Any) -> None:
    """Print a row."""
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
    print(json.dumps({"case": case, **rounded} | ABOUT), flush=True)


def timed(function: Any, *arguments: Any) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def quantiles(times: list[float]) -> dict[str, Any]:
    """Median, 95th percentile and number of some seconds."""
    if not times:
        return {"requests": 0}
    return {"requests": len(times), "p50": statistics.median(times), "p95": sorted(times)[int(0.95 * len(times))]}


def a_model(given: Path | None, folder: Path) -> Path:
    """The folder of the model."""
    if given is not None:
        return given
    from surrogate import CONFIG, trained_on

    config = CONFIG.model_copy(update={"epochs": 1})
    trained_on(Dataset.open(EXAMPLE), BispectrumSettings(two_j_max=6), config).save(folder / "m.model")
    return folder / "m.model"


def replicas() -> list[int]:
    """Processes of the endpoint's replicas."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_text().startswith("ray::ServeReplica:dftune:"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def cpu_seconds() -> float:
    """CPU time that the replicas have used, however busy the machine is."""
    words = [Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split() for p in replicas()]
    return sum(int(one[11]) + int(one[12]) for one in words) / os.sysconf("SC_CLK_TCK")


def speed(model: Model, atoms: ase.Atoms, n: int, begun: float) -> None:
    """All rows without faults."""
    client = Client(URL)
    say("start", seconds=time.perf_counter() - begun, first_request_seconds=timed(client.predict, atoms))
    say("/v1/models", **quantiles([timed(client.models) for _ in range(200)]))
    moved = atoms.copy()
    moved.calc = RemoteCalculator(client)
    here, there, calculated = [], [], []
    for number in range(n):
        here.append(timed(lambda: model.predict(atoms, cpus=1)))
        there.append(timed(client.predict, atoms))
        moved.positions[0, 0] = 0.001 * number
        calculated.append(timed(moved.get_potential_energy))
    say("in process", **quantiles(here))
    ratio, more = statistics.median(there) / statistics.median(here), statistics.median(there) - statistics.median(here)
    say("endpoint", **quantiles(there), ratio=ratio, more_seconds=more)
    say("calculator", **quantiles(calculated))
    started, before = time.process_time(), cpu_seconds()
    for _ in range(16):
        model.predict(atoms, cpus=1)
    alone = (time.process_time() - started) / 16
    with ThreadPoolExecutor(32) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: client.predict(atoms), range(2 * 32)))
        rate = 2 * 32 / (time.perf_counter() - started)
    each = (cpu_seconds() - before) / (2 * 32)
    say("32 clients", requests_a_second=rate, cpu_seconds_of_replica=each, cpu_seconds_in_process=alone)
    one, several = [], []
    for _ in range(2):
        one.append(timed(lambda: [client.predict(atoms) for _ in range(32)]))
        several.append(timed(client.predict, [atoms] * 32))
    say("32 in one request", seconds=min(several), seconds_of_32_requests=min(one))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--requests", type=int, default=40)
    given = parser.parse_args()
    atoms = four_atoms()
    with tempfile.TemporaryDirectory() as name:
        folder = a_model(given.model, Path(name))
        model = Model.open(folder)
        model.predict(atoms, cpus=1)
        begun = time.perf_counter()
        settings = EndpointSettings(models={"m": str(folder)}, queue=40, without_token=True)
        with served(settings, port=PORT):
            speed(model, atoms, given.requests, begun)


if __name__ == "__main__":
    main()
