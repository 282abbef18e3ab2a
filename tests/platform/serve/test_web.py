"""The web side of the endpoint, in this process: bounded work, errors in one form, a description that holds."""

import asyncio
import re
import threading
import time

import numpy as np
import pytest

from dftune.platform.serve import web
from dftune.platform.serve.settings import EndpointSettings, digest
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import ask, request

TOKEN = "correct-horse-battery-staple"
ONE = {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}


def settings_of(**changes) -> EndpointSettings:
    return EndpointSettings(**{"model": "here", "without_token": True, "body": 20_000} | changes)


@pytest.fixture(scope="module")
def app(model):
    return web_app(model, settings_of())


def many_atoms(n: int, apart: float) -> dict:
    """A cube of n³ atoms."""
    places = apart * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return {
        "cell": (n * apart * np.eye(3)).tolist(),
        "positions": places.round(3).tolist(),
        "symbols": ["Al"] * len(places),
    }


# ---------------------------------------------------------------- bounded work


def test_a_structure_too_large_for_the_grid_is_refused_before_its_atoms_are_compared(model, monkeypatch):
    def compared(*_):
        raise AssertionError("compared its atoms")

    monkeypatch.setattr("dftune.trainables.structures.closest", compared)
    answer = ask(web_app(model, settings_of(body=2**20)), "/v1/predict", {"structure": many_atoms(30, 1.2)})
    assert answer.status == 413
    assert "grid points, more than 500,000; use a smaller one" in answer.json()["detail"]


def test_a_body_has_so_much_time(model):
    app = web_app(model, settings_of(body_time=0.2))
    parts = [b" "] * 2000  # 100 s of them
    started = time.monotonic()
    answer = ask(app, "/v1/predict", parts, pause=0.05)
    assert (answer.status, answer.json()["detail"]) == (408, "the body did not come within 0.2 s; send it at once")
    assert time.monotonic() - started < 60


def test_slow_bodies_hold_neither_health_nor_anything_else_for_long(model):
    app, n = web_app(model, settings_of(queue=0, body_time=3.0)), web.SPARE + 1

    async def all_at_once():
        slow = [asyncio.ensure_future(request(app, "/v1/predict", [b" "] * 1000, pause=0.1)) for _ in range(n)]
        await asyncio.sleep(0.1)
        health = await request(app, "/healthz")
        away = await request(app, "/v1/predict", {"structure": ONE})
        assert not any(one.done() for one in slow)
        return health, away, await asyncio.gather(*slow), await request(app, "/v1/predict", {"structure": ONE})

    health, away, ended, after = asyncio.run(all_at_once())
    assert health.json() == {"status": "ok"}
    assert (away.status, away.headers["retry-after"]) == (503, "5")
    assert away.json()["detail"] == f"{n} requests are being read already; try again in 5 s"
    assert {answer.status for answer in ended} == {408}
    assert after.status == 200, "all places are free again"


def test_a_length_that_is_said_to_be_too_large_is_refused_unread(app):
    async def unread():
        async def receive():
            raise AssertionError("read")

        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/predict"}
        scope |= {"raw_path": b"", "query_string": b"", "root_path": "", "server": ("a", 1), "client": ("b", 1)}
        scope |= {"headers": [(b"content-type", b"application/json"), (b"content-length", b"99999999999")]}
        await app(scope, receive, send)
        return sent

    assert asyncio.run(unread())[0]["status"] == 413


def test_a_structure_is_checked_in_the_one_thread_that_can_be_ended(model, monkeypatch):
    """Nine structures of 300,763 atoms were checked side by side, long after their 504: 13.7 GB."""
    at_work, most, ended = 0, 0, threading.Event()
    parse = type(model.surrogate).parse

    def slowly(self, *arguments):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        ended.wait(0.3)
        at_work -= 1
        return parse(self, *arguments)

    def prepare(self, *_, **__):
        raise AssertionError("checked although nobody waits")

    monkeypatch.setattr(type(model.surrogate), "parse", slowly)
    monkeypatch.setattr(type(model.surrogate), "prepare", prepare)
    app = web_app(model, settings_of(time_limit=0.1))

    async def nine():
        return await asyncio.gather(*(request(app, "/v1/predict", {"structure": ONE}) for _ in range(9)))

    answers = asyncio.run(nine())
    assert {a.status for a in answers} == {504}
    time.sleep(0.5)
    assert most == 1


# ---------------------------------------------------------------- errors in one form


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/predict", 405),
        ("POST", "/", 405),
        ("DELETE", "/v1/model", 405),
        ("POST", "/v1/predict/", 404),
        ("BREW", "/healthz", 405),
    ],
)
def test_every_route_has_its_errors_in_one_form(app, method, path, status):
    answer = ask(app, path, b"" if method == "POST" else None, method=method)
    assert (answer.status, list(answer.json())) == (status, ["detail"])


def test_a_bug_is_answered_in_the_same_form(model, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("x" * 1000)

    monkeypatch.setattr(type(model.surrogate), "prepare", broken)
    answer = ask(web_app(model, settings_of()), "/v1/predict", {"structure": ONE})
    assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
    assert answer.json() == {"detail": "a fault of dftune, not of the request (ZeroDivisionError); report it"}


# ---------------------------------------------------------------- what it says of itself


def references(value) -> set[str]:
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_description_holds_in_itself(model):
    answer = ask(web_app(model, settings_of(token_sha256=digest(TOKEN))), "/openapi.json")
    document = answer.json()
    assert b"prefixItems" not in answer.content, "few generators know tuples"
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    operations = {(m, p): about for p, one in document["paths"].items() for m, about in one.items()}
    names = [about["operationId"] for about in operations.values()]
    assert names == ["health", "index", "model", "predict"]
    predict = operations["post", "/v1/predict"]
    assert set(predict["responses"]) == {str(code) for code in (200, 400, 401, 406, 408, 413, 415, 422, 500, 503, 504)}
    problem = {"$ref": "#/components/schemas/Problem"}
    for code, about in predict["responses"].items():
        assert about["content"]["application/json"]["schema"] == problem or code == "200"
    assert "Retry-After" in predict["responses"]["503"]["headers"]
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert all(("security" in about) == path.startswith("/v1") for (_, path), about in operations.items())


def test_the_answer_is_as_described(model):
    app = web_app(model, settings_of())
    described = ask(app, "/openapi.json").json()["components"]["schemas"]["PredictAnswer"]["properties"]
    answer = ask(app, "/v1/predict", {"structure": ONE}).json()
    assert answer.keys() == described.keys()
    model.surrogate.answer.model_validate(answer)


def test_the_front_door_says_what_is_there(model, app):
    there = ask(app, "/").json()
    assert there["service"] == "dftune"
    for name in ("model", "docs", "openapi", "health"):
        assert ask(app, there[name]).status == 200
    assert ask(app, there["predict"], {"structure": ONE}).status == 200


def test_the_page_needs_neither_script_nor_internet(model):
    answer = ask(web_app(model, settings_of(token_sha256=digest(TOKEN))), "/docs", headers={"host": "here"})
    text = answer.content.decode()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script|<link|<img|src=|https?://(?!here)", text)
    for said in ("/v1/predict", "structure.cell", "3 x 3 x number", "[eV]", "starts again", "density"):
        assert said in text
