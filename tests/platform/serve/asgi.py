"""Requests to an ASGI application in this process."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


async def request(app, path, body=None, *, method=None, headers=None, pause=None) -> Answer:
    """An answer.

    Args:
        app: the application.
        path: with its query.
        body: bytes, values for JSON, or a list of bytes that come one after the other.
        method: by default GET without a body, else POST.
        headers: of the request.
        pause: seconds before each part of a body.
    """
    parts = body if isinstance(body, list) else [body if isinstance(body, bytes) else json.dumps(body).encode()]
    left, sent = list(parts), []

    async def receive():
        if not left:
            await asyncio.sleep(1000)  # a client that stays
        if pause is not None:
            await asyncio.sleep(pause)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    given = {"host": "here", "content-type": "application/json"} | (headers or {})
    where, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method or ("GET" if body is None else "POST"),
        "scheme": "http",
        "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "root_path": "",
        "server": ("here", 80),
        "client": ("there", 1),
    }
    try:
        await app(scope, receive, send)
    except Exception:
        if not sent:  # Starlette raises a bug again after it has answered
            raise
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], {n.decode().lower(): v.decode() for n, v in sent[0].get("headers", [])}, content)


def ask(app, path, body=None, **how) -> Answer:
    """One request, and its answer."""
    return asyncio.run(request(app, path, body, **how))


@contextmanager
def listening(app) -> Iterator[str]:
    """The URL of an application on loopback."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
