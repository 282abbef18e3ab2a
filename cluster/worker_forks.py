"""Forks the workers of an embedded Ray, which saves each two seconds of CPU: ``python worker_forks.py SOCKET``.

It waits for the first :mod:`.worker_stand_in`, imports once what nearly all workers need, and gives each that asks a
fork of itself.  Ray and the libraries read variables of the environment when they are imported, so whoever asks with
another environment than the first gets none.  It ends with its input, which is a pipe of the raylet.

What forks would have in common and must not is left alone until then, or made anew in each: generators of random
numbers, of which Ray draws the names of objects.
"""

import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# Variables that differ between the workers of one Ray, and that nothing reads when it is imported.
LATE = {"RAY_JOB_ID", "PL_DISABLE_FORK", "DFTUNE_CACHE"}
NO_JOB = "ffffffff"  # of a worker that Ray starts before there is a job: it is given one with its first task
Order = dict[str, Any]


def imports() -> bool:
    """Import what nearly all workers need.  Returns whether it was found.

    A dftune that only the path of whoever started Ray leads to is not: forks of this process know no such paths yet.
    """
    found = importlib.util.find_spec("dftune")
    if not found or not found.origin or not Path(found.origin).parent.samefile(Path(__file__).parents[1]):
        return False
    importlib.import_module("dftune.cluster.worker_imports")
    return True


def received(connection: socket.socket) -> tuple[Order, list[int]]:
    """What is asked for, nothing where that cannot be read, and the input and outputs of whoever asks."""
    files = list[int]()
    try:
        connection.settimeout(10)
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        return json.loads(b"".join(iter(lambda: connection.recv(65536), b""))), files
    except (OSError, ValueError):
        return {}, files


def early(environment: dict[str, str]) -> dict[str, str]:
    """The variables that something may have read when it was imported."""
    return {name: value for name, value in environment.items() if name not in LATE}


def forked(listener: socket.socket) -> tuple[Order, list[int]]:
    """Fork for each who asks with the environment of the first.  Returns in the forks alone."""
    first, ready = None, False
    while True:
        if 0 in select.select([0, listener.fileno()], [], [])[0] and not os.read(0, 4096):
            sys.exit()
        connection, _ = listener.accept()
        order, files = received(connection)
        if order and first is None:
            first = early(order["environment"])
            os.environ.clear()
            # Ray gives a worker a thread for each of its CPUs when it has its first task, when it would import these.
            os.environ.update({"OMP_NUM_THREADS": "1"} | first, RAY_JOB_ID=NO_JOB)
            if not sys.flags.safe_path:  # else Python puts no script's folder there
                sys.path[0] = os.path.dirname(os.path.realpath(order["command"][0]))  # in the place of ours
            ready = imports()
            gc.collect()
            gc.freeze()
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries those that have ended
        with connection:
            if ready and order and early(order["environment"]) == first and is_fork():
                listener.close()
                os.setpgid(0, order["group"])
                connection.sendall(b".")
                return order, files
        for file in files:
            os.close(file)


def is_fork() -> bool:
    """Fork.  Returns whether this is the new process; in the old one also where there is no room for one more."""
    try:
        return os.fork() == 0
    except OSError:
        return False


def become(order: Order, files: list[int]) -> None:
    """Be the worker, as if this process had been started by Ray."""
    import numpy

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(order["oom_score"])
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    numpy.random.seed()  # Python's own generator is seeded anew by every fork
    sys.argv = order["command"]
    runpy.run_path(sys.argv[0], run_name="__main__")


def main(address: str) -> None:
    """Wait until the input ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        order, files = forked(listener)
    become(order, files)


if __name__ == "__main__":
    main(*sys.argv[1:])
