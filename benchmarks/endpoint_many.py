"""Claim: few replicas serve many models; each holds --loaded of them in memory, and no request is lost.

    python benchmarks/endpoint_many.py MODEL [--models 8] [--loaded 8 2] [--clients 8] [--rounds 4]

Copies of MODEL under names of their own, on two replicas of one CPU.  Each client asks all of them in turn for the
model's example, beginning with another one.  A row for each number of --loaded: what was answered, by which model, and
the memory of the larger replica [MB], before the first request, the most, and after the last, when what is not held has
been given back.  It ends with 1 if a request is lost, or answered by another model than the one asked.
"""

import argparse
import collections
import json
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from endpoint_faults import GIVEN_BACK, REPLICA, free_port, processes, quantiles, row
from endpoint_fuzz import resident_mb

from dftune.platform.model.model import Model
from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointSettings


def ask(port: int, name: str, body: bytes) -> tuple[str, float]:
    """The status and the model that answered, if it is another one, and the seconds."""
    began = time.monotonic()
    url = f"http://127.0.0.1:{port}/v1/models/{name}/predict"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            answer.read()
            by = answer.headers["X-Model"].partition("@")[0]
            said = "200" if by == name else f"200 by {by}"
    except urllib.error.HTTPError as error:
        said = f"{error.code} {error.read().decode(errors='replace')[:100]}"
    return said, time.monotonic() - began


def many(given: argparse.Namespace, folders: dict[str, str], loaded: int, body: bytes) -> bool:
    """A row."""
    port, names, ended, most = free_port(), list(folders), threading.Event(), [0.0]
    settings = EndpointSettings(models=folders, replicas=2, loaded=loaded, without_token=True, time_limit=600)

    def now() -> float:
        return max(map(resident_mb, processes(REPLICA)))

    def watch() -> None:
        while not ended.wait(0.2):
            most[0] = max(most[0], now())

    def client(number: int) -> list[tuple[str, float]]:
        turns = range(number, number + given.rounds * len(names))
        return [ask(port, names[turn % len(names)], body) for turn in turns]

    with served(settings, port=port):
        time.sleep(GIVEN_BACK)
        before = now()
        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(given.clients) as pool:
            answers = [one for some in pool.map(client, range(given.clients)) for one in some]
        ended.set()
        watching.join()
        time.sleep(GIVEN_BACK)
        after = now()
    statuses = collections.Counter(said for said, _ in answers)
    return row(
        "many",
        {"all are answered by their model": set(statuses) != {"200"}},
        models=len(names),
        loaded=loaded,
        clients=given.clients,
        answers=dict(statuses),
        seconds=quantiles([seconds for _, seconds in answers]),
        memory_mb=[round(one) for one in (before, most[0], after)],
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    for name, default in (("models", 8), ("clients", 8), ("rounds", 4)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--loaded", type=int, nargs="+", default=[8, 2])
    given = options.parse_args()
    body = json.dumps(Model.open(given.model).surrogate.example()).encode()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {f"m{n}": f"{scratch}/m{n}" for n in range(given.models)}
        for folder in folders.values():
            shutil.copytree(given.model, folder)
        holds = [many(given, folders, loaded, body) for loaded in given.loaded]
    if not all(holds):
        sys.exit(1)


if __name__ == "__main__":
    main()
