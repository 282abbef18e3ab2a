"""What stands before Serve's web server: an answer always, and errors in one form."""

import asyncio
import http.client
import json
import socket
import threading
import time

import pytest
from uvicorn.protocols.http import auto

from dftune.platform.serve import proxy
from dftune.platform.serve.broken_http import LONGEST_HEAD
from dftune.platform.serve.proxy import AnswerAlways, Replicas, middlewares
from dftune.tests.platform.serve.asgi import ask, listening, request

LARGE = 8 * 2**20


def answering(status, body, kind=b"text/plain"):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        for n, part in enumerate(body):
            await send({"type": "http.response.body", "body": part, "more_body": n + 1 < len(body)})

    return app


async def silent(scope, receive, send):
    await asyncio.sleep(1000)


async def ended(scope, receive, send):
    """As Serve, whose replica died with the request."""


@pytest.mark.parametrize(
    "status, body, kind",
    [(200, [b"a", b"b"], b"text/plain"), (422, [b'{"detail": "so"}'], b"application/json")],
)
def test_what_the_endpoint_answers_passes_as_it_is(status, body, kind):
    answer = ask(AnswerAlways(answering(status, body, kind)), "/")
    assert (answer.status, answer.content, answer.headers["content-type"]) == (status, b"".join(body), kind.decode())


@pytest.mark.parametrize("given, status", [(404, 404), (408, 504), (500, 500), (503, 503)])
def test_errors_of_serve_as_text_come_in_our_form(given, status):
    answer = ask(AnswerAlways(answering(given, [b"Serve says\n", b" this"]), lambda: Replicas.RUN), "/")
    again = "; try again in 5 s" if status == 503 else ""
    said = {"detail": f"Serve says this{again}", "request_id": answer.headers["x-request-id"]}
    assert (answer.status, answer.json()) == (status, said)
    assert answer.headers.get("retry-after") == ("5" if status == 503 else None)


def test_a_replica_that_dies_with_a_request_is_said_at_once():
    answer = ask(AnswerAlways(ended), "/")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"] == "the process that predicts has ended or has not started yet; try again in 5 s"


@pytest.mark.parametrize("replicas", [Replicas.NONE, Replicas.END])
def test_before_the_first_replica_and_after_the_last_no_path_is_said_to_be_unknown(replicas):
    serve = answering(404, [b"Path '/v1/predict' not found."])
    answer = ask(AnswerAlways(serve, lambda: replicas), "/v1/predict")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"] == "the process that predicts has ended or has not started yet; try again in 5 s"
    known = answering(404, [b'{"detail": "no such model"}'], b"application/json")
    assert ask(AnswerAlways(known, lambda: replicas), "/v1/predict").status == 404, "the endpoint's own"


def test_nobody_waits_in_silence_for_a_replica_that_starts():
    questions = []

    def replicas():
        questions.append(None)
        found = Replicas.RUN if len(questions) < 2 else Replicas.NONE
        time.sleep(0.2)  # as the controller of Serve, so that those who ask meanwhile share the answer
        return found

    app = AnswerAlways(silent, replicas, patience=0.05)

    async def many():
        return await asyncio.gather(*(request(app, "/") for _ in range(20)))

    assert {a.status for a in asyncio.run(many())} == {503}
    assert 2 <= len(questions) <= 6, "20 clients shared the questions"


def test_a_long_prediction_is_waited_for():
    async def slowly(scope, receive, send):
        await asyncio.sleep(0.3)
        await answering(200, [b"done"])(scope, receive, send)

    def away():
        raise RuntimeError("the controller is away")

    for replicas in (lambda: Replicas.RUN, lambda: Replicas.END, away):
        assert ask(AnswerAlways(slowly, replicas, patience=0.05), "/").content == b"done"


def test_a_client_that_goes_away_ends_what_it_asked_for():
    cancelled = []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def leave():
        asked = asyncio.ensure_future(request(AnswerAlways(app), "/"))
        await asyncio.sleep(0.05)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(leave())
    assert cancelled


# ---------------------------------------------------------------- memory


def test_what_a_prediction_leaves_in_the_web_server_is_given_back(monkeypatch):
    works, ends = threading.Event(), threading.Event()
    monkeypatch.setattr(proxy, "give_back_after_work", works.set)
    monkeypatch.setattr(proxy, "worked", ends)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # as it was, at the end
    middlewares()
    assert works.wait(10)
    for path, leaves in (("/healthz", False), ("/v1/models/a/predict", True)):
        ask(AnswerAlways(answering(200, [b"{}"])), path)
        assert ends.is_set() is leaves


# ---------------------------------------------------------------- what is no HTTP

ONE_OF_WEBSOCKETS = b"""GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r
sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"""
BROKEN = [
    (b"hello\r\n\r\n", 400),
    (b"GET / HTTP/9.7\r\n\r\n", 400),
    (b"FROB / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    (b"GET http://[ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nhost a\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
    (b"GET / HTTP/1.1\r\nhost: a\r\nx: ".ljust(LONGEST_HEAD + 1, b"x"), 431),
    (ONE_OF_WEBSOCKETS, 404),
]


def test_what_is_no_http_is_refused_in_our_form(monkeypatch):
    monkeypatch.setattr(proxy, "give_back_after_work", lambda: None)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # as it was, at the end
    middlewares()

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await answering(404, [b'{"detail": "nothing here"}'], b"application/json")(scope, receive, send)

    with listening(AnswerAlways(app, lambda: Replicas.RUN)) as url:
        for raw, status in BROKEN:
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as connection:
                connection.sendall(raw)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                said = json.loads(answer.read())
            assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), raw[:80]
            assert status == 404 or said["request_id"] == answer.headers["x-request-id"], raw[:80]
            assert said["detail"], raw[:80]


# ---------------------------------------------------------------- names of requests, and numbers for Prometheus


@pytest.mark.parametrize(
    "given, kept",
    [("abc-1", True), ("", False), ("x" * 129, False), ("a b", False), ("a\x1b[31m", False), ("é", False)],
)
def test_a_request_has_the_name_that_its_client_gives_if_it_is_one(given, kept):
    heard = []

    async def app(scope, receive, send):
        heard.extend(value.decode() for name, value in scope["headers"] if name == b"x-request-id")
        await answering(200, [b""])(scope, receive, send)

    answer = ask(AnswerAlways(app), "/", headers={"x-request-id": given})
    assert heard == [answer.headers["x-request-id"]]
    assert (heard[0] == given) == kept
    assert 0 < len(heard[0]) < 129


def test_requests_are_counted_by_route_model_and_status():
    async def app(scope, receive, send):
        good = scope["path"].endswith("predict")
        headers = [(b"x-model", b"al@2"), (b"x-size", b"8000"), (b"content-type", b"text/plain")] if good else []
        await send({"type": "http.response.start", "status": 200 if good else 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"dftune_model_info 1\n" if good else b"no"})

    async def replica(scope, receive, send):
        if scope["path"] == "/metrics":
            await answering(200, [b"of the replica 1\n"])(scope, receive, send)
        else:
            await app(scope, receive, send)

    proxy = AnswerAlways(replica)
    for path in ("/v1/predict", "/v1/models/al@2/predict", "/v1/nonsense/1", "/v1/nonsense/2"):
        ask(proxy, path)
    text = ask(proxy, "/metrics").content.decode()
    for line in (
        "of the replica 1",
        'dftune_requests_total{model="al@2",route="predict",status="200"} 2.0',
        'dftune_requests_total{model="",route="other",status="404"} 2.0',
        'dftune_predicted_size_total{model="al@2"} 16000.0',
        'dftune_request_seconds_count{model="al@2",route="predict"} 2.0',
        'dftune_requests_under_way{route="metrics"} 1.0',
        'dftune_requests_under_way{route="predict"} 0.0',
    ):
        assert line in text.splitlines(), text


def test_a_request_that_no_replica_answers_is_counted_too():
    proxy = AnswerAlways(ended)
    assert ask(proxy, "/v1/predict").status == 503
    assert 'dftune_requests_total{model="",route="predict",status="503"} 1.0' in proxy._metrics.text()


def test_numbers_are_not_told_where_the_replica_refuses():
    refused = answering(401, [b'{"detail": "no token"}'], b"application/json")
    assert ask(AnswerAlways(refused), "/metrics").json() == {"detail": "no token"}


# ---------------------------------------------------------------- more requests than the replicas have room for


def test_more_predictions_than_there_is_room_for_are_not_handed_on():
    heard, go_on = [], asyncio.Event()

    async def app(scope, receive, send):
        heard.append(scope["path"])
        if len(heard) > 1:
            await go_on.wait()
        headers = [(b"x-room", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    async def many():
        proxy = AnswerAlways(app, lambda: Replicas.RUN)
        first = await request(proxy, "/v1/predict")
        two = [asyncio.ensure_future(request(proxy, f"/v1/{path}predict")) for path in ("", "models/a/")]
        await asyncio.sleep(0.05)
        away = [await request(proxy, "/v1/predict") for _ in range(3)]
        others = [asyncio.ensure_future(request(proxy, path)) for path in ("/healthz", "/other/v1/predict")]
        await asyncio.sleep(0.05)
        assert len(heard) == 5, "neither other routes nor another application"
        two[0].cancel()  # its client goes away
        await asyncio.wait(two[:1])
        again = asyncio.ensure_future(request(proxy, "/v1/predict"))
        await asyncio.sleep(0.05)
        go_on.set()
        return [first, again.result() if again.done() else await again, *await asyncio.gather(two[1], *others)], away

    answered, away = asyncio.run(asyncio.wait_for(many(), 60))
    assert {one.status for one in answered} == {200}
    assert {(one.status, one.headers["retry-after"]) for one in away} == {(503, "5")}
    assert away[0].json()["detail"] == "2 requests are being predicted or wait already; try again in 5 s"
    assert len(heard) == 6


@pytest.mark.parametrize("path, status", [("/v1/model", 405), ("/v1/predict", 503)])
def test_an_answer_before_the_end_of_a_large_body_is_not_lost(path, status):
    """The connection would be closed on what is still coming, and the client would be told of that instead."""
    proxy = AnswerAlways(answering(405, [b"no"]), lambda: Replicas.RUN)
    if status == 503:
        proxy._room[""] = 0
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n"
    with listening(proxy) as url:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
                client.sendall(head.encode() + bytes(LARGE))
                answer = b"".join(iter(lambda: client.recv(2**16), b""))
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
            assert b'"detail"' in answer
