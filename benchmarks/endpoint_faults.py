"""Claim: nothing that an endpoint has accepted is lost under overload, while models are replaced, and when replicas are
killed; its memory stays flat within 50 MB.

    python benchmarks/endpoint_faults.py [MODEL] [--overload 20] [--swaps 3] [--kills 1]
    python benchmarks/endpoint_faults.py --overload 120 --swaps 20 --kills 10      the whole of it

A surrogate (two layers of 256, T = 5, trained for one epoch on examples/al4, or MODEL) answers for the 4-atom cell, or
with --example for the one atom of the model's own example, on one CPU a replica.  A row each, with what does not hold;
it ends with 1 if there is anything:

    overload   for so many seconds ten times as many requests a second as the endpoint answers.  An accepted one is
               answered within the turns before its own; the others get 503 as soon as `/healthz` is answered, which is
               asked twice a second; afterwards a request is answered as before within 5 s more than `/healthz` took.
               Memory is that at rest before, the most under usual load and under this one, and that at rest after.
    faults     two replicas; --clients ask without a pause while a version is put beside the others --swaps times and a
               replica is killed --kills times, in an order of chance, and until --requests are answered.  A request is
               lost that gets anything but 200, unless it is 503 and a replica was killed while it was under way.

All bounds are relative to what the machine gives at that time, because it may be busy.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from endpoint import a_model, four_atoms
from endpoint_fuzz import body_of, resident_mb

from dftune.platform.model.model import Model
from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointSettings
from dftune.platform.serve.turns import SOON
from dftune.tests.listeners import descendants

ABOUT = {name: version(name) for name in ("ray", "torch")} | {"cpus": os.cpu_count()}
MOST_GROWTH = 50.0  # MB
GIVEN_BACK = 2 * SOON + 1  # seconds after a request, until its memory is given back twice
REPLICA, WEB_SERVER = "ray::ServeReplica:dftune:", "ray::ProxyActor"
RECOVERY = 5.0  # s
PREDICT = "/v1/predict"


@dataclass(frozen=True)
class Answer:
    """status: of HTTP, or 0 if the connection broke.  sent, got: monotonic [s]."""

    status: int
    content: bytes
    sent: float
    got: float

    @property
    def seconds(self) -> float:
        return self.got - self.sent


@dataclass(frozen=True)
class Endpoint:
    """Asked with as little work as can be: the machine that asks is the one that answers."""

    port: int

    async def ask(self, path: str = "/healthz", body: Any = None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.send("GET" if body is None else "POST", path, {"content-type": "application/json"}, content)

    async def send(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += f"Content-Length: {len(content)}\r\n\r\n"
        sent, text = time.monotonic(), b""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode() + content)
            text = await reader.read(-1)
            writer.close()
        except OSError:
            text = b""
        head_text, _, rest = text.partition(b"\r\n\r\n")
        return Answer(int(head_text.split()[1]) if head_text else 0, rest, sent, time.monotonic())


def processes(title: str) -> list[int]:
    """Processes with a title, of those that this one has started."""
    found = []
    for process in sorted(descendants()):
        with suppress(OSError):
            if Path(f"/proc/{process}/cmdline").read_text().startswith(title):
                found.append(process)
    return found


def memory(title: str) -> float:
    """Resident memory of processes, without Ray's object store, which they share [MB]."""
    found = 0.0
    for process in processes(title):
        with suppress(OSError, IndexError):
            found += resident_mb(process)
    return found


def quantiles(times: list[float]) -> dict[str, Any]:
    if not times:
        return {"n": 0}
    ordered = sorted(times)
    shares = {"p50": statistics.median(times), "p95": ordered[int(0.95 * len(times))], "most": ordered[-1]}
    return {"n": len(times), **{name: round(value, 3) for name, value in shares.items()}}


def row(case: str, wrong: dict[str, bool], **values: Any) -> bool:
    """Print a row; whether all of it holds."""
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
    broken = [name for name, is_so in wrong.items() if is_so]
    print(json.dumps({"case": case, **rounded, "does_not_hold": broken} | ABOUT), flush=True)
    return not broken


async def overload(endpoint: Endpoint, body: Any, queue: int, seconds: float) -> bool:
    """Ten times as many requests a second as are answered."""
    for _ in range(10):
        await endpoint.ask(PREDICT, body)
    rounds, working = [], list[float]()

    async def watch() -> None:
        while True:
            working.append(memory(REPLICA))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    for _ in range(3):
        usual = await asyncio.gather(*(endpoint.ask(PREDICT, body) for _ in range(1 + queue)))
        began = min(one.sent for one in usual)
        rounds.append((max(one.got for one in usual) - began) / sum(one.status == 200 for one in usual))
    watching.cancel()
    each = min(rounds)
    await asyncio.sleep(GIVEN_BACK)
    before, web_before = memory(REPLICA), memory(WEB_SERVER)
    asked: list[asyncio.Task[Answer]] = []
    health: list[asyncio.Task[Answer]] = []
    curve: list[float] = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        while len(asked) * each / 10 <= now:
            asked.append(asyncio.create_task(endpoint.ask(PREDICT, body)))
        if len(health) * 0.5 <= now:
            health.append(asyncio.create_task(endpoint.ask()))
            curve.append(memory(REPLICA))
        await asyncio.sleep(min(each / 10, 0.1))
    ended = time.monotonic()
    while (again := await endpoint.ask(PREDICT, body)).status != 200:
        await asyncio.sleep(0.05)
    recovered = again.got - ended
    answers, healthy = await asyncio.gather(*asked), await asyncio.gather(*health)
    after = await endpoint.ask(PREDICT, body)
    await asyncio.sleep(GIVEN_BACK)
    rest = memory(REPLICA)
    times = collections.defaultdict(list)
    for one in answers:
        times[one.status].append(one.seconds)
    quiet, away = quantiles([one.seconds for one in healthy]), quantiles(times[503])
    longest = max(sum(json.loads(one.content)["seconds"].values()) for one in answers if one.status == 200)
    bound = (2 + queue) * longest + quiet["most"]
    return row(
        "overload",
        {
            "200 or 503": not set(times) <= {200, 503},
            "some are sent away": not times[503],
            "accepted within their turns": max(times[200]) > bound,
            "sent away at once": bool(times[503]) and away["p95"] > 2 * quiet["p95"] + 0.1,
            "health": {one.status for one in healthy} != {200},
            "memory": max(curve) - max(working) > MOST_GROWTH or rest - before > MOST_GROWTH,
            "recovery": recovered > RECOVERY + quiet["most"] or after.status != 200,
        },
        seconds=seconds,
        answered_a_second_before=1 / each,
        offered_a_second=len(asked) / seconds,
        answered_a_second=len(times[200]) / seconds,
        accepted=quantiles(times[200]),
        bound_of_accepted=bound,
        sent_away=away,
        health=quiet,
        recovered_after=recovered,
        memory_mb=[round(one) for one in (before, max(working), max(curve), rest)],
        memory_of_web_server_mb=[web_before, memory(WEB_SERVER)],
    )


async def faults(
    endpoint: Endpoint, body: Any, versions: Path, clients: int, requests: int, swaps: int, kills: int
) -> bool:
    """Requests while models are replaced and replicas killed."""
    answers: list[Answer] = []
    killed: list[float] = []
    ended = asyncio.Event()

    async def go_on() -> None:
        while not ended.is_set() or len(answers) < requests:
            answers.append(await endpoint.ask(PREDICT, body))

    going = [asyncio.create_task(go_on()) for _ in range(clients)]
    events = ["swap"] * swaps + ["kill"] * kills
    random.Random(0).shuffle(events)
    began = time.monotonic()
    for number, event in enumerate(events):
        await asyncio.sleep(3)
        while len(processes(REPLICA)) < 2 or await asyncio.to_thread(running) < 2:  # the one before starts again
            await asyncio.sleep(1)
        if event == "swap":
            await asyncio.to_thread(shutil.copytree, versions / "v1", versions / f"v{number + 2}")
            last = f"v{number + 2}"
        else:
            killed.append(time.monotonic())
            os.kill(random.Random(number).choice(processes(REPLICA)), signal.SIGKILL)
    while {one["version"] for one in await answered(endpoint)} != {last if swaps else "v1"}:
        await asyncio.sleep(1)
    ended.set()
    await asyncio.gather(*going)
    statuses = collections.Counter(one.status for one in answers)
    excused = [one for one in answers if one.status == 503 and any(one.sent < at < one.got for at in killed)]
    lost = [one for one in answers if one.status != 200 and one not in excused]
    return row(
        "faults",
        {"nothing is lost": bool(lost), "at most those in flight": len(excused) > clients * kills},
        seconds=time.monotonic() - began,
        swaps=swaps,
        kills=kills,
        clients=clients,
        answers=dict(sorted(statuses.items())),
        on_killed_replicas=len(excused),
        lost=[(one.status, one.content.decode(errors="replace")[:200]) for one in lost][:5],
        answered=quantiles([one.seconds for one in answers if one.status == 200]),
    )


def running() -> int:
    """Replicas that Serve sends requests to."""
    from ray import serve

    (application,) = serve.status().applications.values()
    return sum(one.replica_states.get("RUNNING", 0) for one in application.deployments.values())


async def answered(endpoint: Endpoint) -> list[dict[str, Any]]:
    """What a few requests say of the model; each replica is likely to be among them."""
    some = await asyncio.gather(*(endpoint.ask("/v1/models") for _ in range(8)))
    return [json.loads(one.content)["models"][0] for one in some if one.status == 200]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    for name, default in (("swaps", 3), ("kills", 1), ("clients", 4), ("requests", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--overload", type=float, default=20, help="[s]")
    parser.add_argument("--example", action="store_true", help="ask for the model's example")
    given = parser.parse_args()
    body = {"structure": body_of(four_atoms())}
    endpoint, holds = Endpoint(free_port()), []
    with tempfile.TemporaryDirectory() as name:
        versions = Path(name) / "versions"
        shutil.copytree(a_model(given.model, Path(name)), versions / "v1")
        if given.example:
            body = Model.open(versions / "v1").surrogate.example()
        settings = EndpointSettings(models={"m": str(versions)}, queue=4, without_token=True, time_limit=600)
        if given.overload:
            with served(settings, port=endpoint.port):
                holds.append(asyncio.run(overload(endpoint, body, settings.queue, given.overload)))
        if given.swaps or given.kills:
            two = settings.model_copy(update={"replicas": 2, "queue": 16})
            with served(two, port=endpoint.port):
                asked = (given.clients, given.requests, given.swaps, given.kills)
                holds.append(asyncio.run(faults(endpoint, body, versions, *asked)))
    if not all(holds):
        sys.exit(1)


if __name__ == "__main__":
    main()
