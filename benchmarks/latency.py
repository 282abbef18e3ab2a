"""Claim: with the native engine a request of a 4-atom cell takes half of what it took; a command mostly starts.

The endpoint's application and the command `dftune model predict` answer for the same four displaced aluminium atoms,
with the model's descriptors computed by the native engine and by LAMMPS, in turns; CPU seconds, the shortest of a few.

    python benchmarks/latency.py MODEL [repeats=5]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import ase.io
import torch
from ase.build import bulk

from dftune import Model
from dftune.platform.serve.settings import EndpointSettings
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import ask

ENGINES = ("native", "lammps")


def seconds(action: Callable[[], None]) -> float:
    """CPU time, of processes that it starts as well."""
    before = time.process_time() + _children()
    action()
    return time.process_time() + _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    torch.set_num_threads(1)
    model, repeats = Model.open(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    atoms = bulk("Al", cubic=True, a=4.05)
    atoms.rattle(0.05, seed=0)
    body = {
        "structure": {
            "cell": atoms.cell.tolist(),
            "positions": atoms.positions.tolist(),
            "symbols": atoms.get_chemical_symbols(),
        }
    }
    settings = EndpointSettings(model="here", without_token=True)
    with tempfile.TemporaryDirectory() as temporary:
        structure = Path(temporary) / "al.xyz"
        ase.io.write(structure, atoms, format="extxyz")
        applications, folders = {}, {}
        for engine in ENGINES:
            descriptors = model.card.descriptors.model_copy(update={"engine": engine})
            card = model.card.model_copy(update={"descriptors": descriptors})
            one = Model.assemble(card, model.surrogate.tensors())
            folders[engine] = Path(temporary) / f"{engine}.model"
            one.save(folders[engine])
            applications[engine] = web_app(Shelf.of(one), settings)

        def request(engine: str) -> None:
            assert ask(applications[engine], "/v1/predict", body).status == 200

        def command(engine: str) -> None:
            words = ["model", "predict", str(folders[engine]), str(structure)]
            subprocess.run([sys.executable, "-m", "dftune.platform.cli.main", *words], check=True, capture_output=True)

        for name, action in (("request", request), ("command", command)):
            taken: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            for _ in range(repeats + 1):  # the first one warms up
                for engine in ENGINES:
                    taken[engine].append(seconds(lambda engine=engine, action=action: action(engine)))  # type: ignore[misc]
            best = {f"{engine}_cpu_seconds": min(times[1:]) for engine, times in taken.items()}
            about = {"two_j_max": model.card.descriptors.two_j_max, "torch": version("torch")}
            print(json.dumps({"case": name} | best | about), flush=True)


if __name__ == "__main__":
    main()
