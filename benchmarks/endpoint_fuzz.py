"""Claim: of 10,000 malformed requests none gets an answer of 5xx but 503 and 504, and memory stays flat within 50 MB.

    python benchmarks/endpoint_fuzz.py MODEL                        in this process, without Ray
    python benchmarks/endpoint_fuzz.py MODEL --url http://127.0.0.1:8000 --pid PID --requests 1000
    python benchmarks/endpoint_fuzz.py MODEL --large 3 --requests 0     valid ones as large as allowed, at once, thrice

Each request is a valid one that was damaged at random, by a seed: bytes, numbers, keys, nesting, header, query.  The
valid ones are a structure in each form that the endpoint reads, alone and several at once.  Large ones, --large times
before them, are a crystal on as many grid points as --size allows, its density and LDOS, as many atoms as are read, and
as many structures.

Memory is counted from the moment at which --warm valid requests have been answered: compiled kernels, pools of threads
and the C library's arenas are there from then on.  It ends with 1 where the claim does not hold.
"""

import argparse
import asyncio
import collections
import copy
import io
import itertools
import json
import random
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ase
import ase.io

from dftune import Model
from dftune.platform.serve.interface import ARROW
from dftune.platform.serve.settings import EndpointSettings
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.turns import SOON, give_back_after_work
from dftune.platform.serve.web import web_app
from dftune.trainables.json_body import MOST_STRUCTURES
from dftune.trainables.ldos.request import CIF, POSCAR, XYZ
from dftune.trainables.structures import MOST_ATOMS

NASTY: list[Any] = [
    None, True, -1, 0, 1e308, -1e308, 1e-320, 10**400, "", "Al", "\x00", "𝕬" * 50, [], {}, [[]], [[[[]]]],
    {"$ref": "#"}, "9" * 400, "NaN", "../../etc/passwd", [0.1] * 1000, ["Al"] * 1000, -0.0, 2**63, "ä\ud800",
]  # fmt: skip
KINDS = [
    "application/json",
    XYZ,
    CIF,
    POSCAR,
    "text/plain",
    "",
    "application/json; charset=utf-7",
    "multipart/form-data",
    "\x7f",
]
QUERIES = ["temperature=1e400", "forces=mean", "forces=", "quantity=ldos", "temperature=nan", "%00=%ff", "grid=1,1,1"]
WRITERS = {XYZ: "extxyz", CIF: "cif", POSCAR: "vasp"}
COARSE = [13, 13, 13]
MOST_GROWTH = 50  # MB
KEPT = 2**20  # bytes of an answer: what asks in this process is not to be measured
PATHS = ["/v1/predict"] * 30 + ["/v1/model", "/healthz", "/", "/v1", "/docs/x", "/v1/predict/", "/%00", "/v1/../v1"]
METHODS = ["POST"] * 20 + ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]


Request = tuple[str, str, dict[str, str], bytes]  # method, path, headers, body


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a value."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


def valid_bodies(example: dict[str, Any], several: int = 2) -> list[tuple[str, str, Any]]:
    """Content type, query, and body, as text or as values for JSON, of a structure in every form.

    On a coarse grid: what remains valid is to take little time.

    Args:
        example: JSON of a request.
        several: structures of a request with more than one.
    """
    structure = example["structure"]
    if isinstance(structure, str):  # the elements on the sites of a lattice
        return [(KINDS[0], "", example), (KINDS[0], "", {"structures": [structure] * several})]
    atoms = ase.Atoms(structure["symbols"], structure["positions"], cell=structure["cell"], pbc=True)
    sites = [
        {"species": [{"element": symbol, "occu": 1.0}], "abc": place.tolist(), "properties": {}}
        for symbol, place in zip(atoms.symbols, atoms.get_scaled_positions(), strict=True)
    ]
    as_ase = {name: value.tolist() for name, value in atoms.todict().items()}
    structures = [structure, as_ase, {"lattice": {"matrix": structure["cell"]}, "sites": sites}]
    bodies = [{"structure": one} for one in structures] + [{"structures": [structure] * several}]
    found: list[tuple[str, str, Any]] = [(KINDS[0], "", {**body, "grid": COARSE}) for body in bodies]
    texts = {}
    for kind, name in WRITERS.items():
        sink: Any = io.BytesIO() if name == "cif" else io.StringIO()
        ase.io.write(sink, atoms, format=name)
        texts[kind] = sink.getvalue().decode() if name == "cif" else sink.getvalue()
    query = "grid=" + ",".join(map(str, COARSE))
    return found + [(kind, query, text) for kind, text in texts.items()] + [(XYZ, query, texts[XYZ] * several)]


def damaged(body: Any, rng: random.Random) -> bytes:
    """A valid body with one to four faults; a text with more, or most would still be valid."""
    if isinstance(body, str):
        for _ in range(rng.randint(3, 10)):
            at = rng.randrange(len(body) + 1)
            new = rng.choice(["", "\n", "9", "-", "e", '"', " ", "nan", "\x00", "é"])
            body = body[:at] + new + body[at + rng.randint(0, 8) :]
        return body.encode()
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 4)):
        if not (ways := places(body)):
            break
        *way, last = rng.choice(ways)
        holder: Any = body
        for key in way:
            holder = holder[key]
        if rng.random() < 0.3 and isinstance(holder, dict):
            holder[rng.choice(["x", "", "cell", "pbc", "numbers", "__class__"])] = copy.deepcopy(rng.choice(NASTY))
        elif rng.random() < 0.3:
            holder.pop(last)
        else:
            holder[last] = copy.deepcopy(rng.choice(NASTY))
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        at = rng.randrange(len(raw))
        raw = raw[:at] + rng.randbytes(rng.randint(0, 6)) + raw[at + rng.randint(0, 6) :]
    if rng.random() < 0.02:
        raw = rng.choice([b"[" * 100_000, b'{"structure":' * 20_000, raw * 1000, b'"' + b"x" * 1_000_000])
    return raw


def request(bodies: list[tuple[str, str, Any]], number: int, seed: int) -> Request:
    """Method, path, headers and body of the n-th request."""
    rng = random.Random(f"{seed} {number}")
    path, (kind, query, body) = rng.choice(PATHS), rng.choice(bodies)
    queries = [query] if query else []
    if rng.random() < 0.2:
        queries.append(rng.choice(QUERIES))
    headers = {"content-type": kind if rng.random() < 0.8 else rng.choice(KINDS)}
    if rng.random() < 0.1:
        headers["accept"] = rng.choice([ARROW, "\x00", "text/html", ""])
    return rng.choice(METHODS), "?".join([path, "&".join(queries)]), headers, damaged(body, rng)


def large_requests(model: Model, example: dict[str, Any], size: int) -> list[Request]:
    """Valid requests as large as an endpoint of a model takes them.

    Args:
        model: which is asked.
        example: JSON of a request.
        size: what the endpoint takes, in the unit of the model.
    """
    structure, json_of = example["structure"], {"content-type": KINDS[0]}
    if isinstance(structure, str):  # the elements on the sites of a lattice
        return [("POST", "/v1/predict", json_of, json.dumps({"structures": [structure] * MOST_STRUCTURES}).encode())]
    unit = ase.Atoms(structure["symbols"], structure["positions"], cell=structure["cell"], pbc=True)
    n = next(n for n in itertools.count(1) if model.prepare(unit.repeat(n + 1)).size > size)
    close = unit.repeat(int(MOST_ATOMS ** (1 / 3)))
    close.set_cell(close.cell / 2, scale_atoms=True)  # for a shorter text; more than a metal's, less than is refused
    several = min(size // model.prepare(unit, grid=COARSE).size, MOST_STRUCTURES)
    crystal, most = ({"structure": body_of(atoms)} for atoms in (unit.repeat(n), close))
    bodies = [crystal, most, {"structures": [structure] * several, "grid": COARSE}]
    found: list[Request] = [("POST", "/v1/predict", json_of, json.dumps(body).encode()) for body in bodies]
    arrays = [(f"/v1/predict?quantity={name}", json_of | {"accept": ARROW}) for name in model.surrogate.quantities]
    return found + [("POST", path, headers, found[0][3]) for path, headers in arrays]


def body_of(atoms: ase.Atoms) -> dict[str, Any]:
    """A structure as JSON."""
    return {
        "cell": atoms.cell.tolist(),
        "positions": atoms.positions.round(3).tolist(),
        "numbers": atoms.numbers.tolist(),
    }


def warm_up(ask: Any, bodies: list[tuple[str, str, Any]], example: Any, quantities: Any, n: int) -> None:
    """Ask so many valid requests, each kind in turn.  Raises RuntimeError: one is refused."""
    as_json = {"content-type": KINDS[0]}
    asked = [(f"/v1/predict?{query}", {"content-type": kind}, body) for kind, query, body in bodies]
    asked += [(f"/v1/predict?quantity={name}", as_json | {"accept": ARROW}, example) for name in quantities]
    asked.append(("/v1/predict", as_json, example | ({"forces": "spread", "stress": True} if quantities else {})))
    for number in range(n):
        path, headers, body = asked[number % len(asked)]
        sent = (body if isinstance(body, str) else json.dumps(body)).encode()
        ((status, content),) = ask([("POST", path, headers, sent)])
        if status != 200:
            raise RuntimeError(f"{status} for a valid request, {path}: {content[:300]!r}")


def resident_mb(pid: int | None) -> float:
    """The resident memory of a process, by default this one, but for that which it shares, Ray's object store [MB]."""
    said = Path(f"/proc/{pid or 'self'}/status").read_text()
    return (
        sum(int(re.findall(rf"^{name}:\s*(\d+) kB", said, re.MULTILINE)[0]) for name in ("RssAnon", "RssFile")) / 1024
    )


def in_process(app: Any) -> Any:
    """What asks an ASGI application in this process, several requests at once."""
    loop = asyncio.new_event_loop()

    async def asked(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        sent: list[Any] = []
        where, _, query = path.partition("?")
        scope = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": where}
        scope |= {"raw_path": where.encode(), "query_string": query.encode(), "root_path": "", "server": ("here", 80)}
        scope["headers"] = [(n.encode(), v.encode("latin-1", "replace")) for n, v in headers.items()]

        left = [body]

        async def receive() -> dict[str, Any]:
            if not left:
                await asyncio.sleep(1000)  # a client that stays
            left.clear()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if not sent or sum(len(one.get("body", b"")) for one in sent) < KEPT:
                sent.append(message)

        try:
            await app(scope, receive, send)
        except Exception as error:
            if not sent:
                raise
            print(json.dumps({"bug": repr(error)[:200], "method": method, "path": path, "body": repr(body[:200])}))
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])

    async def all_at_once(requests: list[Request]) -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(asked(*one) for one in requests))

    return lambda requests: loop.run_until_complete(all_at_once(requests))


def over_http(url: str) -> Any:
    """What asks an endpoint that runs, several requests at once."""

    def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        clean = {name: "".join(c for c in value if c.isprintable()) for name, value in headers.items()}
        asked = urllib.request.Request(url + path, body, clean, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=300) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def all_at_once(requests: list[Request]) -> list[tuple[int, bytes]]:
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(lambda one: ask(*one), requests))

    return all_at_once


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("--url", help="of an endpoint of that model that runs without a token")
    options.add_argument("--pid", type=int, help="of its replica, whose memory is to be measured")
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--warm", type=int, default=40, help="valid requests before the others")
    options.add_argument("--large", type=int, default=0, help="rounds of large requests")
    options.add_argument("--size", type=int, default=20_000, help="that the endpoint takes, in the model's unit")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    model = Model.open(given.model)
    example = model.surrogate.example()
    settings = EndpointSettings(model=str(given.model), without_token=True, size=given.size, time_limit=3600)
    ask = over_http(given.url) if given.url else in_process(web_app(Shelf.of(model), settings))
    if not given.url:
        threading.Thread(target=give_back_after_work, daemon=True).start()
    bodies = valid_bodies(example)
    large = large_requests(model, example, given.size) if given.large else []
    start = resident_mb(given.pid)
    warm_up(ask, bodies, example, model.surrogate.quantities, given.warm)
    statuses: collections.Counter[int] = collections.Counter()
    without_detail, memory, slowest = 0, [resident_mb(given.pid)], 0.0
    for _ in range(given.large):
        statuses.update([status for status, _ in ask(large)])
        warm_up(ask, bodies, example, model.surrogate.quantities, len(bodies))  # it answers as before
        time.sleep(2 * SOON + 1)  # until it has given back twice
        memory.append(resident_mb(given.pid))
    for number in range(given.requests):
        if number % max(1, given.requests // 20) == 0:
            memory.append(resident_mb(given.pid))
        what = request(bodies, number, given.seed)
        started = time.monotonic()
        ((status, content),) = ask([what])
        slowest = max(slowest, time.monotonic() - started)
        statuses[status] += 1
        if status >= 400 and what[0] != "HEAD":
            try:
                without_detail += "detail" not in json.loads(content)
            except ValueError:
                without_detail += 1
                print(json.dumps({"no detail": status, "what": what[:2], "content": repr(content[:80])}))
    memory.append(resident_mb(given.pid))
    bugs = sum(n for s, n in statuses.items() if s >= 500 and s not in (503, 504))
    growth = max(memory) - memory[0]
    print(
        json.dumps(
            {
                "requests": given.requests,
                "seed": given.seed,
                "over": "HTTP" if given.url else "ASGI",
                "statuses": dict(sorted(statuses.items())),
                "5xx but 503 and 504": bugs,
                "errors without detail": without_detail,
                "size": given.size,
                "large": given.large,
                "before_warm_mb": round(start),
                "memory_mb": [round(m) for m in memory],
                "growth_mb": round(growth, 1),
                "slowest_s": round(slowest, 2),
                "cpu_s": round(time.process_time(), 1),
            }
        )
    )
    if bugs or without_detail or growth > MOST_GROWTH:
        sys.exit(1)


if __name__ == "__main__":
    main()
