"""Stands in for a worker of Ray until one is forked: ``python -I -S worker_stand_in.py SOCKET WORKER [OPTION ...]``.

Ray starts a worker as a new process, which imports Ray twice, and then torch for nearly all that we do: two seconds of
CPU.  An embedded Ray has one process that has imported all that (:mod:`.worker_forks`), and this asks it for a fork of
itself.  Where it does not get one, this becomes the worker itself, as Ray would start it.  It imports what loads
quickly.
"""

import json
import os
import socket
import sys

PATIENCE = 120  # seconds; the first to ask waits for all imports
CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="  # Ray's, for the script that this one replaces


def ask(address: str, order: dict[str, object]) -> bool:
    """Give an order, and the files that are this process' input and output.  Returns whether a worker was forked."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(address)
            socket.send_fds(connection, [b"."], [0, 1, 2])
            connection.sendall(json.dumps(order).encode())
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(1) == b"."
        except OSError:
            return False


def main(address: str, *words: str) -> None:
    """Have a worker forked, or become it."""
    for word in words:
        if word.startswith(CONTEXT):
            os.environ.update(json.loads(word.removeprefix(CONTEXT)).get("env_vars", {}))
    worker = [word for word in words if not word.startswith((CONTEXT, LANGUAGE))]
    with open("/proc/self/oom_score_adj") as score:
        order = {
            "command": worker,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "group": os.getpgid(0),  # all of which Ray ends with the worker
            "oom_score": score.read(),  # Ray has the system end workers first when memory is short
        }
    if worker[0].startswith("-") or not ask(address, order):  # options of Python's, which a fork cannot take over
        os.execv(sys.executable, [sys.executable, *worker])


if __name__ == "__main__":
    main(*sys.argv[1:])
