"""Claim: an endpoint with `--max-replicas` starts another replica under load and ends it when idle; no request is lost.

    python benchmarks/endpoint_scaling.py [MODEL] [--most 2] [--clients 8]

--clients ask for the 4-atom cell without a pause until --most replicas run and for half a minute more.  Then one
asks half of the time until one replica runs, and ten seconds more.  A row: seconds until the most
replicas ran, answers a second before and after, seconds until one ran again, all statuses.  It ends with 1 if a request
was refused or lost, or if the replicas were not as many as they should.
"""

import argparse
import asyncio
import collections
import sys
import tempfile
import time
from pathlib import Path

from endpoint import a_model, four_atoms
from endpoint_faults import PREDICT, Answer, Endpoint, free_port, row, running
from endpoint_fuzz import body_of

from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointSettings

MORE, LATER = 30.0, 10.0  # s
PATIENCE = 300.0  # s


async def until(number: int, began: float) -> float:
    """Seconds until so many replicas run."""
    while await asyncio.to_thread(running) != number:
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"{await asyncio.to_thread(running)} replicas run after {PATIENCE:g} s, not {number}")
        await asyncio.sleep(0.5)
    return time.monotonic() - began


async def scaled(endpoint: Endpoint, body: object, most: int, clients: int) -> bool:
    """A row."""
    answers: list[Answer] = []
    full = asyncio.Event()

    async def go_on() -> None:
        while not full.is_set():
            answers.append(await endpoint.ask(PREDICT, body))

    async def trickle() -> None:
        while True:
            answers.append(await endpoint.ask(PREDICT, body))
            await asyncio.sleep(answers[-1].seconds)

    began = time.monotonic()
    going = [asyncio.create_task(go_on()) for _ in range(clients)]
    up = await until(most, began)
    alone = len(answers)
    await asyncio.sleep(MORE)
    together = len(answers) - alone
    full.set()
    await asyncio.gather(*going)
    under_load, fewer = len(answers), time.monotonic()
    few = asyncio.create_task(trickle())
    down = await until(1, fewer)
    await asyncio.sleep(LATER)
    few.cancel()
    await asyncio.gather(few, return_exceptions=True)
    statuses = collections.Counter(one.status for one in answers)
    return row(
        "scaling",
        {"nothing is lost": set(statuses) != {200}},
        clients=clients,
        seconds_until_most=up,
        answers_a_second=[alone / up, together / MORE],
        seconds_until_one=down,
        answers=dict(statuses),
        answers_while_fewer=len(answers) - under_load,
        slowest_while_fewer_s=max(one.seconds for one in answers[under_load:]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--most", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    body = {"structure": body_of(four_atoms())}
    endpoint = Endpoint(free_port())
    with tempfile.TemporaryDirectory() as name:
        models = {"m": str(a_model(given.model, Path(name)))}
        settings = EndpointSettings(models=models, max_replicas=given.most, without_token=True, time_limit=600)
        with served(settings, port=endpoint.port):
            holds = asyncio.run(scaled(endpoint, body, given.most, given.clients))
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main()
