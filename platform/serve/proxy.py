"""In the web server of Ray Serve: answers where no replica gives one, in the form of all our errors.

Serve itself would say nothing while a killed replica starts again, and then `Internal Server Error` as plain text.  Its
web server finds ``middlewares`` by the environment (``ENVIRONMENT``).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware

from ...trainables.errors import one_line
from .settings import RETRY_AFTER

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "dftune.platform.serve.proxy.middlewares"}
PATIENCE = 2.0  # seconds without an answer until it is asked whether a replica stands at all

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def middlewares() -> list[Middleware]:
    """What Serve puts before its web server."""
    return [Middleware(AnswerAlways)]


def replicas_stand() -> bool:
    """Whether every application of this Serve has a replica that runs, as its controller sees it."""
    from ray import serve

    deployments = [one for a in serve.status().applications.values() for one in a.deployments.values()]
    return all(one.replica_states.get("RUNNING", 0) for one in deployments)


class AnswerAlways:
    """An application before the one of Serve.

    Args:
        app: that one.
        stand: whether replicas run; it may block.
        patience: seconds without an answer until that is asked, and asked again.
    """

    def __init__(self, app: App, stand: Callable[[], bool] = replicas_stand, patience: float = PATIENCE) -> None:
        self._app, self._stand, self._patience = app, stand, patience
        self._question: asyncio.Future[bool] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        served = asyncio.ensure_future(self._app(scope, receive, answer.send))
        try:
            while True:
                await asyncio.wait({served, answer.begun}, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
                if served.done() or answer.begun.done() or not await self._replicas_stand():
                    break
            if answer.begun.done():
                await served
        finally:
            served.cancel()  # nothing if it is done
            await asyncio.wait({served})
        if not answer.begun.done():  # no replica, or one that ended with this request
            await answer.refuse(503, "the process that predicts has ended and starts again")

    async def _replicas_stand(self) -> bool:
        """All requests that ask at once are told by one question."""
        if self._question is None or self._question.done():
            self._question = asyncio.ensure_future(asyncio.to_thread(self._stand))
        try:
            return await asyncio.shield(self._question)
        except Exception:  # whatever Ray says of a controller that is away: it is asked again
            return True


class _Answer:
    """What goes to the client: as it comes, but errors that are no JSON in our form."""

    def __init__(self, send: Send) -> None:
        self._send, self._status, self._text = send, 0, b""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun.set_result(None)
            kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
            if message["status"] >= 400 and not any(kind.startswith(b"application/json") for kind in kinds):
                self._status = message["status"]
                return
        if not self._status:
            await self._send(message)
            return
        self._text += message.get("body", b"")
        if not message.get("more_body", False):
            # 408 is Serve's word for its own limit of time, which stands behind ours.
            status = 504 if self._status == 408 else self._status
            await self.refuse(status, one_line(self._text.decode(errors="replace"), 300))

    async def refuse(self, status: int, detail: str) -> None:
        """An error in our form."""
        headers = [(b"content-type", b"application/json")]
        if status == 503:
            detail += f"; try again in {RETRY_AFTER} s"
            headers.append((b"retry-after", str(RETRY_AFTER).encode()))
        body = json.dumps({"detail": detail}).encode()
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
