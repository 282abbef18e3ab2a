"""Claim: an endpoint that is asked everything for an hour keeps its memory flat within 50 MB.

    python benchmarks/endpoint_soak.py MODEL [--seconds 3600] [--pause 1] [--swaps 10] [--large 120]

One replica of one CPU.  Every --pause seconds, or later so that it rests for twice as long as an answer took, it gets
a request: 4 and 32 atoms, forces, a batch, density and LDOS as Arrow and NPY, and three of ten that are damaged at
random, as in `endpoint_fuzz.py`.  Every --large seconds one as large as allowed.  --swaps times in all, evenly, a
version of the model is put beside the others; two are in memory at once.

Memory of replica and web server is that which they alone have, without Ray's object store; that of all processes of the
endpoint is their proportional share, the object store included, libraries not.  It is counted from --warm seconds on,
when each kind has been asked and the compiled kernels stand, each time after a pause of eleven seconds, in which memory
is given back.
It ends with 1 if an answer is unexpected or memory is not flat.
"""

import argparse
import asyncio
import collections
import json
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from endpoint import four_atoms
from endpoint_faults import GIVEN_BACK, MOST_GROWTH, PREDICT, REPLICA, WEB_SERVER, Endpoint, free_port, processes, row
from endpoint_fuzz import Request, body_of, large_requests, request, resident_mb, valid_bodies

from dftune.platform.model.model import Model
from dftune.platform.serve.interface import ARROW, NPY
from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointSettings
from dftune.tests.listeners import descendants

JSON = {"content-type": "application/json"}


def valid_requests() -> list[Request]:
    """Structures of 4 and 32 atoms in all ways that are usual."""
    four, large = body_of(four_atoms()), body_of(four_atoms().repeat(2))

    def asked(body: Any, query: str = "", **headers: str) -> Request:
        return "POST", PREDICT + query, JSON | headers, json.dumps(body).encode()

    return [
        asked({"structure": four}),
        asked({"structure": four, "forces": "mean"}),
        asked({"structures": [four] * 4}),
        asked({"structure": large}),
        asked({"structure": four}, "?quantity=ldos", accept=ARROW),
        asked({"structure": four}, "?quantity=density", accept=NPY),
        asked({"structure": large}, "?quantity=ldos", accept=NPY),
    ]


def shares_mb() -> float:
    """Memory of everything that this process has started, each with its share of what several have.

    Without libraries: their share is 150 MB more as soon as no other process of the machine has them.
    """
    found = 0
    for process in descendants() - {os.getpid()}:
        with suppress(OSError, IndexError):
            said = Path(f"/proc/{process}/smaps_rollup").read_text()
            found += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s*(\d+)", said, re.MULTILINE)))
    return found / 1024


def now_mb() -> tuple[int, int, int]:
    """Memory of replica, web server and all."""
    return tuple(round(one) for one in (*(resident_mb(processes(t)[0]) for t in (REPLICA, WEB_SERVER)), shares_mb()))


async def soak(endpoint: Endpoint, versions: Path, given: argparse.Namespace) -> bool:
    """A row."""
    model = Model.open(versions / "v1")
    example = model.surrogate.example()
    valid, bodies = valid_requests(), valid_bodies(example)
    large = large_requests(model, example, given.size)
    statuses: collections.Counter[str] = collections.Counter()
    curve: list[tuple[int, int, int]] = []
    slowest, n, larges, swaps, began = 0.0, 0, 0, 0, time.monotonic()
    while (now := time.monotonic() - began) < given.warm + given.seconds:
        if now > given.large * larges:
            kind, what = "large", large[larges % len(large)]
            larges += 1
        elif n % 10 in (2, 5, 8):
            kind, what = "damaged", request(bodies, n, 0)
        else:
            kind, what = "valid", valid[n % len(valid)]
        method, path, headers, content = what
        clean = {name: "".join(c for c in value if c.isprintable()) for name, value in headers.items()}
        answer = await endpoint.send(method, path, clean, content)
        statuses[f"{kind} {answer.status}"] += 1
        n, slowest = n + 1, max(slowest, answer.seconds)
        if now > given.warm + given.seconds / (1 + given.swaps) * (1 + swaps):
            swaps += 1
            await asyncio.to_thread(shutil.copytree, versions / "v1", versions / f"v{1 + swaps}")
        if now > given.warm + len(curve) * given.seconds / 20:
            await asyncio.sleep(GIVEN_BACK)
            curve.append(now_mb())
            print(
                json.dumps({"seconds": round(now), "requests": n, "memory_mb": curve[-1]}), file=sys.stderr, flush=True
            )
        await asyncio.sleep(max(given.pause, 2 * answer.seconds))
    await asyncio.sleep(GIVEN_BACK)
    curve.append(now_mb())
    (listed,) = json.loads((await endpoint.ask("/v1/models")).content)["models"]
    names = ("replica_mb", "web_server_mb", "all_mb")
    columns = dict(zip(names, zip(*curve, strict=True), strict=True))
    fine = re.compile(r"valid 200|large (200|413)|damaged ([234]\d\d|503|504)")
    return row(
        "soak",
        {
            "answers": not all(fine.fullmatch(one) for one in statuses),
            "swaps": listed["version"] != f"v{1 + given.swaps}",
            "memory": any(max(one) - one[0] > MOST_GROWTH for one in columns.values()),
        },
        seconds=given.seconds,
        requests=n,
        statuses=dict(sorted(statuses.items())),
        slowest_s=slowest,
        swaps=swaps,
        **columns,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    for name, seconds in (("seconds", 3600), ("warm", 300), ("pause", 1), ("large", 120)):
        options.add_argument(f"--{name}", type=float, default=seconds, help="[s]")
    options.add_argument("--swaps", type=int, default=10)
    options.add_argument("--size", type=int, default=200_000, help="that the endpoint takes, in the model's unit")
    given = options.parse_args()
    endpoint = Endpoint(free_port())
    with tempfile.TemporaryDirectory() as name:
        versions = Path(name) / "versions"
        shutil.copytree(given.model, versions / "v1")
        settings = EndpointSettings(
            models={"m": str(versions)}, loaded=2, size=given.size, without_token=True, time_limit=600
        )
        with served(settings, port=endpoint.port):
            holds = asyncio.run(soak(endpoint, versions, given))
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main()
