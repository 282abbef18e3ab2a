"""In the web server of Ray Serve: answers where no replica gives one, in the form of all our errors, and counts them.

Serve itself would say nothing while a killed replica starts again, and then `Internal Server Error` as plain text.  Its
web server finds ``middlewares`` by the environment (``ENVIRONMENT``).

Each request has an X-Request-ID, its client's or a new one.  Its answer and the lines of Serve's logs name it.

Requests for predictions beyond those that the replicas can take are sent away here.  A replica would do it, too, but on
a busy machine the web server came so far behind with handing them on that the row took 85 s to work off.
"""

import asyncio
import json
import math
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from enum import Enum
from typing import Any

from starlette.middleware import Middleware

from ...trainables.errors import one_line
from .broken_http import refuse_as_json
from .metrics import REQUEST_ID, ROOM, Metrics, route_of
from .settings import RETRY_AFTER
from .turns import give_back_after_work, worked

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "dftune.platform.serve.proxy.middlewares"}
PATIENCE = 2.0  # seconds without an answer until it is asked what there is of replicas
LEFT = 16 * 2**20  # bytes of a body that are still read when its answer is there, and for so long [s]
LEFT_FOR = 2.0
NOBODY = "the process that predicts has ended or has not started yet"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def middlewares() -> list[Middleware]:
    """What Serve puts before its web server; and how that refuses what is no HTTP, and leaves no memory behind."""
    refuse_as_json()
    threading.Thread(target=give_back_after_work, name="memory", daemon=True).start()
    return [Middleware(AnswerAlways)]


class Replicas(Enum):
    """What there is of them."""

    RUN = "each application has one"
    END = "none runs, but one that is being stopped answers what it has accepted"
    NONE = "they have ended, or have not started yet"


def replicas() -> Replicas:
    """As Serve's controller sees them."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    applications = serve.status().applications.values()
    states = [one.replica_states for a in applications for one in a.deployments.values()]
    if states and all(one.get("RUNNING", 0) for one in states):
        return Replicas.RUN
    # An application that is being deleted has no deployments any more, though its replicas may be at work.
    ends = any(one.status == ApplicationStatus.DELETING for one in applications)
    return Replicas.END if ends or any(one.get("STOPPING", 0) for one in states) else Replicas.NONE


class AnswerAlways:
    """An application before the one of Serve.

    Args:
        app: that one.
        ask: what there is of replicas; it may block.
        patience: seconds without an answer until that is asked, and asked again.
    """

    def __init__(self, app: App, ask: Callable[[], Replicas] = replicas, patience: float = PATIENCE) -> None:
        self._app, self._ask, self._patience, self._metrics = app, ask, patience, Metrics()
        self._question: asyncio.Future[Replicas] | None = None
        self._room: dict[str, int] = {}  # before `/v1/` of the path -> predictions at once, as the replicas say it
        self._predicted: Counter[str] = Counter()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name, scope = _with_request_id(scope)
        path, started = scope["path"], time.perf_counter()
        body = _Body(receive)
        receive = body.receive
        more = self._metrics.text if route_of(path) == "metrics" else None
        answer = _Answer(send, name, more, body.read_on, self._replicas)
        with self._metrics.under_way.labels(route_of(path)).track_inprogress():
            try:
                if route_of(path) == "predict":
                    await self._predict(path.partition("/v1/")[0], scope, receive, answer)
                else:
                    await self._answer(scope, receive, answer)
            finally:
                if answer.status:
                    self._metrics.count(path, answer.status, time.perf_counter() - started, answer.headers)

    async def _predict(self, where: str, scope: MutableMapping[str, Any], receive: Receive, answer: "_Answer") -> None:
        """As ``_answer``, for as many at once as the replicas have room for."""
        if self._predicted[where] >= self._room.get(where, math.inf):
            await answer.refuse(503, f"{self._predicted[where]} requests are being predicted or wait already")
            return
        self._predicted[where] += 1
        answer.begun.add_done_callback(lambda _: self._leave(where))  # who reads slowly takes no room
        try:
            await self._answer(scope, receive, answer)
        finally:
            answer.begun.cancel()  # nothing if it has begun
            worked.set()
            if answer.headers.get(ROOM, "").isdecimal():
                self._room[where] = int(answer.headers[ROOM])

    def _leave(self, where: str) -> None:
        self._predicted[where] -= 1
        if not self._predicted[where]:
            del self._predicted[where]  # clients choose the path

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, answer: "_Answer") -> None:
        served = asyncio.ensure_future(self._app(scope, receive, answer.send))
        try:
            while True:
                await asyncio.wait({served, answer.begun}, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
                if served.done() or answer.begun.done() or await self._replicas() is Replicas.NONE:
                    break
            if answer.begun.done():
                await served
        finally:
            served.cancel()  # nothing if it is done
            await asyncio.wait({served})
        if not answer.begun.done():  # no replica, or one that ended with this request
            await answer.refuse(503, NOBODY)

    async def _replicas(self) -> Replicas:
        """All requests that ask at once are told by one question."""
        if self._question is None or self._question.done():
            self._question = asyncio.ensure_future(asyncio.to_thread(self._ask))
        try:
            return await asyncio.shield(self._question)
        except Exception:  # whatever Ray says of a controller that is away: it is asked again
            return Replicas.RUN


def _with_request_id(scope: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
    """The name of a request, and the request with it: a new one if its client gave none, or none that is short."""
    key = REQUEST_ID.encode()
    given = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == key]
    name = given[0] if len(given) == 1 and re.fullmatch(r"[\w.:-]{1,128}", given[0], re.ASCII) else str(uuid.uuid4())
    rest = [(one, value) for one, value in scope["headers"] if one.lower() != key]
    return name, {**scope, "headers": [*rest, (key, name.encode())]}


class _Body:
    """The body of a request.

    It is read to its end before its answer ends, whoever wants it or not.  The connection would else be closed on what
    is still coming, and a client be told of that in place of its answer.

    Args:
        receive: from the client.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self._turn, self._ended, self._size = receive, asyncio.Lock(), False, 0

    async def receive(self) -> Message:
        async with self._turn:
            message = await self._receive()
            self._ended = not message.get("more_body", False)  # or the client has gone
            self._size += len(message.get("body", b""))
            return message

    async def read_on(self) -> None:
        """What is left of it, up to ``LEFT``.  Serve's own reader takes turns with this one."""
        most = self._size + LEFT
        with suppress(TimeoutError):
            async with asyncio.timeout(LEFT_FOR):
                while not self._ended and self._size < most:
                    await self.receive()


class _Answer:
    """What goes to the client: as it comes, but errors that are no JSON in our form.

    Args:
        send: to the client.
        name: of the request.
        more: what is put after the text of a good answer.
        read_on: awaited before its end.
        ask: what there is of replicas.
    """

    def __init__(
        self,
        send: Send,
        name: str,
        more: Callable[[], str] | None,
        read_on: Callable[[], Awaitable[None]],
        ask: Callable[[], Awaitable[Replicas]],
    ) -> None:
        self._read_on, self._ask = read_on, ask
        self._send, self._name, self._more, self._text, self._ours = send, name, more, b"", False
        self.status, self.headers = 0, dict[str, str]()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            key = REQUEST_ID.encode()
            given = [(name.lower(), value) for name, value in message.get("headers", ()) if name.lower() != key]
            self.status, self.headers = message["status"], {n.decode(): v.decode("latin-1") for n, v in given}
            is_json = self.headers.get("content-type", "").startswith("application/json")
            self._ours = self.status >= 400 and not is_json
            self.begun.set_result(None)
            if self._more is not None and self.status == 200:
                given = [(name, value) for name, value in given if name != b"content-length"]
            else:
                self._more = None
            message = {**message, "headers": [*given, (key, self._name.encode())]}
            if self._ours:
                return
        elif self._more is not None and not message.get("more_body", False):
            message = {**message, "body": message.get("body", b"") + self._more().encode()}
        if not self._ours:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self._read_on()
            await self._send(message)
            return
        self._text += message.get("body", b"")
        if not message.get("more_body", False):
            # Serve knows no path before the first replica, nor when the application ends.
            if self.status == 404 and await self._ask() is not Replicas.RUN:
                await self.refuse(503, NOBODY)
                return
            # 408 is Serve's word for its own limit of time, which stands behind ours.
            status = 504 if self.status == 408 else self.status
            await self.refuse(status, one_line(self._text.decode(errors="replace"), 300))

    async def refuse(self, status: int, detail: str) -> None:
        """An error in our form."""
        self.status = status
        headers = [(b"content-type", b"application/json"), (REQUEST_ID.encode(), self._name.encode())]
        if status == 503:
            detail += f"; try again in {RETRY_AFTER} s"
            headers.append((b"retry-after", str(RETRY_AFTER).encode()))
        body = json.dumps({"detail": detail, "request_id": self._name}).encode()
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._read_on()
        await self._send({"type": "http.response.body", "body": body})
