"""The web side of the endpoint, in this process: bounded work, errors in one form, a description that holds."""

import asyncio
import io
import json
import re
import threading
import time
import tracemalloc

import ase
import ase.io
import numpy as np
import pytest
from fastapi import HTTPException, Request

from dftune.platform.serve import web
from dftune.platform.serve.answers import prepare
from dftune.platform.serve.interface import ARROW, NPY, batch_model
from dftune.platform.serve.settings import EndpointSettings, digest
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import ask, request
from dftune.trainables.errors import InputError

TOKEN = "correct-horse-battery-staple"
ONE = {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}


def settings_of(**changes) -> EndpointSettings:
    return EndpointSettings(**{"model": "here", "without_token": True, "body": 20_000} | changes)


@pytest.fixture(scope="module")
def app(model):
    return web_app(Shelf.of(model), settings_of())


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
    answer = ask(web_app(Shelf.of(model), settings_of(body=2**20)), "/v1/predict", {"structure": many_atoms(30, 1.2)})
    assert answer.status == 413
    assert "grid points, more than 500,000; use a smaller one" in answer.json()["detail"]


def kind_of(**headers) -> str:
    """What the endpoint takes a body for that comes with some headers."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return web._kind(Request({"type": "http", "headers": raw, "query_string": b""}), [])


def test_a_packed_body_is_refused_by_its_name():
    for encoding in ("gzip", "BR, gzip"):
        with pytest.raises(HTTPException) as refused:
            kind_of(content_type="application/json", content_encoding=encoding)
        assert (refused.value.status_code, refused.value.detail) == (
            415, f"content encoding {encoding}; send the body as it is",
        )  # fmt: skip
    for encoding in ("identity", " Identity", ""):
        assert kind_of(content_type="Application/JSON; charset=x", content_encoding=encoding) == "application/json"
    assert kind_of(content_type="a" * 10_000) == "a" * 80, "an answer repeats no more of it"


def test_a_body_has_so_much_time(model):
    app = web_app(Shelf.of(model), settings_of(body_time=0.2))
    parts = [b" "] * 2000  # 100 s of them
    started = time.monotonic()
    answer = ask(app, "/v1/predict", parts, pause=0.05)
    assert (answer.status, answer.json()["detail"]) == (408, "the body did not come within 0.2 s; send it at once")
    assert time.monotonic() - started < 60


def test_slow_bodies_hold_neither_health_nor_anything_else_for_long(model):
    app, n = web_app(Shelf.of(model), settings_of(queue=0, body_time=3.0)), web.SPARE + 1

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
    app = web_app(Shelf.of(model), settings_of(time_limit=0.1))

    async def nine():
        return await asyncio.gather(*(request(app, "/v1/predict", {"structure": ONE}) for _ in range(9)))

    answers = asyncio.run(nine())
    assert {a.status for a in answers} == {504}
    time.sleep(0.5)
    assert most == 1


def test_a_request_beyond_the_queue_is_refused_before_its_body_is_read(model, monkeypatch):
    going, go_on = threading.Event(), threading.Event()

    def wait(*_, **__):
        going.set()
        go_on.wait(60)
        raise InputError("enough")

    monkeypatch.setattr("dftune.platform.serve.web.answer", wait)
    app = web_app(Shelf.of(model), settings_of(queue=0))

    async def two():
        first = asyncio.ensure_future(request(app, "/v1/predict", {"structure": ONE}))
        await asyncio.to_thread(going.wait, 60)
        second = await request(app, "/v1/predict", [b" "] * 1000, pause=1)
        go_on.set()
        return await first, second

    first, second = asyncio.run(two())
    assert (first.status, second.status) == (422, 503)
    assert second.json()["detail"] == "1 requests are being predicted or wait already; try again in 5 s"


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
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/models/model@7", 404),
        ("POST", "/v1/models/other/predict", 404),
        ("GET", "/v1/models/model/predict", 405),
    ],
)
def test_every_route_has_its_errors_in_one_form(app, method, path, status):
    answer = ask(app, path, b"" if method == "POST" else None, method=method)
    assert (answer.status, list(answer.json())) == (status, ["detail"])


def test_a_bug_is_answered_in_the_same_form(model, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("x" * 1000)

    monkeypatch.setattr(type(model.surrogate), "prepare", broken)
    answer = ask(web_app(Shelf.of(model), settings_of()), "/v1/predict", {"structure": ONE})
    assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
    assert answer.json() == {"detail": "a fault of dftune, not of the request (ZeroDivisionError); report it"}


# ---------------------------------------------------------------- what it says of itself


def references_in(body) -> list[dict]:
    return body["content"]["application/json"]["schema"]["anyOf"]


def references(value) -> set[str]:
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_description_holds_in_itself(model):
    answer = ask(web_app(Shelf.of(model), settings_of(token_sha256=digest(TOKEN))), "/openapi.json")
    document = answer.json()
    assert b"prefixItems" not in answer.content, "few generators know tuples"
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    operations = {(m, p): about for p, one in document["paths"].items() for m, about in one.items()}
    names = [about["operationId"] for about in operations.values()]
    assert names == ["health", "index", "metrics", "model", "models", "details", "predict", "predict_by"]
    codes = {str(code) for code in (200, 400, 401, 404, 406, 408, 413, 415, 422, 500, 503, 504)}
    problem = {"$ref": "#/components/schemas/Problem"}
    for path in ("/v1/predict", "/v1/models/{name}/predict"):
        predict = operations["post", path]
        assert set(predict["responses"]) == codes
        for code, about in predict["responses"].items():
            assert about["content"]["application/json"]["schema"] == problem or code == "200"
        assert "Retry-After" in predict["responses"]["503"]["headers"]
        assert {one["$ref"].rpartition("/")[2] for one in references_in(predict["requestBody"])} == {
            "PredictRequest",
            "PredictRequests",
        }
        (grid,) = (one for one in predict["parameters"] if one["name"] == "grid")
        assert (grid["style"], grid["explode"]) == ("form", False), "so that it is grid=20,20,20"
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert all(("security" in about) == (path[:3] in ("/v1", "/me")) for (_, path), about in operations.items())


def test_the_answer_is_as_described(model):
    app = web_app(Shelf.of(model), settings_of())
    described = ask(app, "/openapi.json").json()["components"]["schemas"]["PredictAnswer"]["properties"]
    answer = ask(app, "/v1/predict", {"structure": ONE}).json()
    assert answer.keys() == described.keys()
    model.surrogate.answer.model_validate(answer)
    batch_model(model.surrogate.answer).model_validate(ask(app, "/v1/predict", {"structures": [ONE, {}]}).json())


@pytest.mark.parametrize("kinds", [{"symbols": []}, {"numbers": []}])
def test_no_scaled_positions_are_no_atoms(app, kinds):
    answer = ask(app, "/v1/predict", {"structure": {"cell": ONE["cell"], "scaled_positions": [], **kinds}})
    assert (answer.status, answer.json()["detail"]) == (422, "the structure has no atoms")


def test_the_front_door_says_what_is_there(model, app):
    there = ask(app, "/").json()
    assert there["service"] == "dftune"
    for name in ("model", "models", "docs", "openapi", "health", "metrics"):
        assert ask(app, there[name]).status == 200
    assert ask(app, there["predict"], {"structure": ONE}).status == 200


def test_the_page_needs_neither_script_nor_internet(model):
    answer = ask(web_app(Shelf.of(model), settings_of(token_sha256=digest(TOKEN))), "/docs", headers={"host": "here"})
    text = answer.content.decode()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script|<link|<img|src=|https?://(?!here)", text)
    for said in ("/v1/predict", "structure.cell", "3 x 3 x number", "[eV]", "starts again", "density"):
        assert said in text


# ---------------------------------------------------------------- several structures, and forms of an answer


TWO = {"cell": (4.1 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}
BAD = {**ONE, "symbols": ["Be"]}


def xyz_of(*cells: float) -> bytes:
    frames = [f'1\nLattice="{a} 0 0 0 {a} 0 0 0 {a}"\nAl 0 0 0\n' for a in cells]
    return "".join(frames).encode()


def test_what_stands_beside_many_structures_is_not_kept_for_each(model):
    """Of a body of 8 MB with 1,000 structures it was 8 GB."""
    body = json.dumps({"structures": [ONE] * 100, "x": "a" * 200_000}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="structure 0: x: extra inputs are not permitted"):
            prepare(model, body, "application/json", {}, 10**6, lambda *_: None)
        assert tracemalloc.get_traced_memory()[1] < 15 * len(body)
    finally:
        tracemalloc.stop()


def test_structures_of_one_request_are_answered_in_their_order(app):
    alone = [ask(app, "/v1/predict", {"structure": one}).json() for one in (ONE, TWO)]
    answer = ask(app, "/v1/predict", {"structures": [ONE, BAD, TWO], "temperature": alone[0]["temperature"]})
    first, refused, second = answer.json()["predictions"]
    for one, expected in ((first, alone[0]), (second, alone[1])):
        assert one["free_energy"] == pytest.approx(expected["free_energy"], abs=1e-6)
        assert one["grid"] == expected["grid"]
    assert refused == {"detail": "the model knows Al but not Be", "status": 422}
    assert first["units"] == alone[0]["units"]
    assert answer.headers["x-size"] == str(sum(np.prod(one["grid"]) for one in alone))
    frames = ask(app, "/v1/predict", xyz_of(4, 4.1), headers={"content-type": "chemical/x-xyz"}).json()
    assert [one["free_energy"] for one in frames["predictions"]] == [first["free_energy"], second["free_energy"]]


@pytest.mark.parametrize(
    "body, status, said",
    [
        ({"structures": []}, 422, "structures: give a list of one structure or more"),
        ({"structures": {"0": ONE}}, 422, "structures: give a list of one structure or more"),
        ({"structures": [ONE], "structure": ONE}, 422, "structures: there is a structure, too; give one of them"),
        ({"structures": [BAD]}, 422, "the model knows Al but not Be"),
        ({"structures": [BAD, {}]}, 422, "structure 0: the model knows Al but not Be"),
        ({"structures": [ONE, ONE], "temprature": 3}, 422, "structure 0: temprature: extra inputs are not permitted"),
        ({"structures": [ONE] * 1001}, 413, "structures: 1,001 of them, more than 1,000; send them in parts"),
        (xyz_of(4, 4) + b"1\n", 422, "the first line says 1 atoms, but -1 lines follow"),
    ],
)
def test_what_is_wrong_with_all_structures_refuses_the_request(model, body, status, said):
    kind = "chemical/x-xyz" if isinstance(body, bytes) else "application/json"
    app = web_app(Shelf.of(model), settings_of(body=2**20))
    answer = ask(app, "/v1/predict", body, headers={"content-type": kind})
    if isinstance(body, bytes):  # the third frame alone is none
        assert "extended XYZ begins with" in answer.json()["predictions"][2]["detail"]
    else:
        assert (answer.status, answer.json()["detail"]) == (status, said)


def test_the_size_of_all_structures_together_is_bounded(model):
    size = int(np.prod(ask(web_app(Shelf.of(model), settings_of()), "/v1/predict", {"structure": ONE}).json()["grid"]))
    app = web_app(Shelf.of(model), settings_of(size=int(2.5 * size)))
    assert ask(app, "/v1/predict", {"structures": [ONE] * 2}).status == 200
    answer = ask(app, "/v1/predict", {"structures": [ONE] * 3})
    assert answer.status == 413
    assert answer.json()["detail"].startswith(f"structures up to number 2 need {3 * size:,} grid points, more than ")


def test_a_quantity_comes_as_npy_on_its_grid(app, model):
    found = ask(app, "/v1/predict?quantity=density", {"structure": ONE}, headers={"accept": NPY})
    density = np.load(io.BytesIO(found.content), allow_pickle=False)
    atoms = ase.Atoms("Al", cell=ONE["cell"], pbc=True)
    np.testing.assert_allclose(density, model.predict(atoms).density, rtol=1e-5)
    assert (found.status, found.headers["content-type"], found.headers["x-model"]) == (200, NPY, "model@1")
    ldos = ask(app, "/v1/predict?quantity=ldos", {"structure": ONE}, headers={"accept": NPY})
    assert np.load(io.BytesIO(ldos.content)).shape == (*density.shape, model.card.energy_grid.n_energy)


def test_text_is_for_people(app):
    answer = ask(app, "/v1/predict", {"structures": [ONE, BAD]}, headers={"accept": "text/plain"})
    first, second = answer.content.decode().split("\n\n")
    assert first.startswith("1 atoms, 3 electrons at ")
    assert second == "refused: the model knows Al but not Be\n"


@pytest.mark.parametrize(
    "path, body, accept, status, said",
    [
        ("?quantity=ldos", {"structures": [ONE, ONE]}, ARROW, 422, "ldos is given of one structure at a time"),
        ("", {"structure": ONE}, NPY, 406, "belong together"),
        ("?quantity=ldos", {"structure": ONE}, "text/plain", 406, "belong together"),
        ("?format=pdb", {"structure": ONE}, "*/*", 422, "format: there is json or xyz or cif or poscar"),
    ],
)
def test_forms_that_are_not_offered_are_refused(app, path, body, accept, status, said):
    answer = ask(app, f"/v1/predict{path}", body, headers={"accept": accept})
    assert (answer.status, said in answer.json()["detail"]) == (status, True), answer.content


def test_the_format_in_the_url_comes_before_the_content_type(app):
    answer = ask(app, "/v1/predict?format=xyz&temperature=900", xyz_of(4), headers={"content-type": "text/plain"})
    assert (answer.status, answer.json()["temperature"]) == (200, 900)


def test_an_error_names_its_request(app):
    answer = ask(app, "/v1/predict", {}, headers={"x-request-id": "mine"})
    assert answer.json() == {"detail": "structure: field required", "request_id": "mine"}
