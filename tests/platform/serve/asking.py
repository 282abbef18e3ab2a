"""Requests to an endpoint over HTTP."""

import json
import socket
import urllib.error
import urllib.request

import numpy as np

TOKEN = "correct-horse-battery-staple"
ONE = {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_json(atoms, **changes) -> dict:
    value = {"cell": atoms.cell.tolist(), "positions": atoms.positions.tolist(), "numbers": atoms.numbers.tolist()}
    return {k: v for k, v in (value | changes).items() if v is not None}


def ask(port, path="/v1/predict", body=None, *, kind="application/json", token=TOKEN, accept="*/*"):
    """Status, headers and content of an answer."""
    headers = {"Content-Type": kind, "Accept": accept} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
