"""The client: against the endpoint's application behind a real socket, and against what is none."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ase
import ase.io
import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.serve.client import Client, ClientError, as_json
from dftune.platform.serve.proxy import AnswerAlways, Replicas
from dftune.platform.serve.remote_calculator import RemoteCalculator
from dftune.platform.serve.settings import EndpointSettings, digest
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import listening
from dftune.trainables.errors import InputError

TOKEN = "correct-horse-battery-staple"


@contextmanager
def answering(*answers) -> Iterator[tuple[str, list[str]]]:
    """The URL of a server that gives one answer after the other, the last for ever; and what it was asked.

    Args:
        answers: status, headers and content; None closes the connection without an answer.
    """
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append(self.path)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def url(model):
    settings = EndpointSettings(model="here", token_sha256=digest(TOKEN), size=30_000)
    with listening(AnswerAlways(web_app(Shelf.of(model), settings), lambda: Replicas.RUN)) as url:
        yield url


@pytest.fixture
def client(url):
    with Client(url, TOKEN) as client:
        yield client


def cube(a: float = 4.0, symbol: str = "Al") -> ase.Atoms:
    return ase.Atoms(symbol, cell=[a, a, a], pbc=True)


def test_a_prediction_is_the_models_own(client, model):
    found = client.predict(cube(), temperature=1500.0, forces="mean")
    expected = model.predict(cube(), temperature=1500.0, forces="mean")
    assert found.free_energy == pytest.approx(expected.free_energy, abs=1e-6)
    np.testing.assert_allclose(found.dos, expected.dos, rtol=1e-5)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-6)
    assert found["units"]["forces"] == "eV/Å"
    assert found.warnings == expected.warnings
    with pytest.raises(AttributeError, match="nothing named spin was predicted; there are n_atoms"):
        _ = found.spin
    np.testing.assert_allclose(client.array(cube(), "density"), model.predict(cube()).density, rtol=1e-5)
    assert client.text(cube()).startswith("1 atoms, 3 electrons")


def test_charge_and_moments_of_a_structure_reach_the_endpoint(client):
    charged, magnetic = cube(), cube()
    charged.info["charge"] = 2
    magnetic.set_initial_magnetic_moments([1.0])
    with pytest.raises(ClientError, match="a total charge of 2 e, and only neutral cells are predicted"):
        client.predict(charged)
    assert any("without spin polarisation" in text for text in client.predict(magnetic).warnings)


def test_what_is_served_is_told(client, model):
    (listed,) = client.models()
    assert (listed["name"], listed["version"]) == ("model", "1")
    assert client.about()["card"] == model.card.model_dump(mode="json")
    assert client.predict(cube(), model="model@1").n_atoms == 1
    with pytest.raises(ClientError, match="no model 'other' here; there are model"):
        client.predict(cube(), model="other")


def test_a_list_is_answered_in_its_order_and_in_halves_if_it_is_too_large(client):
    cells = (4.0, 4.1, 4.2, 4.3, 4.05, 4.15, 4.25)  # some 10,000 grid points each, of which 30,000 are taken
    alone = [client.predict(cube(a)).free_energy for a in cells]
    found = client.predict([cube(a) for a in cells], at_once=2)
    assert [one.free_energy for one in found] == pytest.approx(alone, abs=1e-6)
    assert client.predict([]) == []


def test_a_client_that_lives_long_holds_few_connections(url):
    def sockets():
        found = 0
        for one in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found += os.readlink(f"/proc/self/fd/{one}").startswith("socket:")
        return found

    with Client(url, TOKEN) as client:
        client.predict([{}], on_error="return")
        before = sockets()
        for _ in range(8):
            client.predict([{}], on_error="return")
        assert sockets() <= before


def test_a_structure_that_is_refused_is_named(client):
    several = [cube(), cube(symbol="Be"), cube()]
    with pytest.raises(ClientError, match="structure 1: the model knows Al but not Be") as error:
        client.predict(several)
    assert error.value.status == 422
    first, second, third = client.predict(several, on_error="return")
    assert isinstance(second, ClientError)
    assert first.free_energy == third.free_energy
    with pytest.raises(ClientError, match=r"structure 0 \(and 1 others of 2\): the model knows Al but not Be"):
        client.predict([cube(symbol="Be")] * 2)
    with pytest.raises(ClientError, match=r"more than 30,000; use a smaller one"):
        client.predict(cube(9.0))


@pytest.mark.parametrize(
    "given, said", [("", "no token was given"), ("wrong-wrong-wrong-wrong", "the token given is another one")]
)
def test_a_token_that_is_missing_or_wrong_is_said(url, given, said):
    with pytest.raises(ClientError, match=f"asks for its token, and {said}; set DFTUNE_TOKEN"):
        Client(url, given).predict(cube())


@pytest.mark.parametrize("given", ["two words of a token", "schlüssel-schlüssel-schlüssel", "€" * 20, "a\nb: c"])
def test_a_token_that_no_header_can_hold_is_refused(given, monkeypatch):
    for_python = pytest.raises(ClientError, match="the token has spaces, line breaks or other signs that no token has")
    with for_python:
        Client("http://x", given)
    monkeypatch.setenv("DFTUNE_TOKEN", given)
    with for_python:
        Client("http://x")


def test_the_end_of_a_tokens_line_is_no_part_of_it(url):
    """As in `open("token").read()`."""
    assert Client(url, TOKEN + "\n").models()


def test_the_token_may_stand_in_the_environment(url, monkeypatch):
    monkeypatch.setenv("DFTUNE_TOKEN", TOKEN)
    assert Client(url).models()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://a:b@c", "http://x:99999", ""])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ClientError, match=r"is no URL of an endpoint; give it as http://HOST:PORT"):
        Client(url)


def test_an_endpoint_that_is_not_there_is_said_at_once():
    with listening(None) as url:
        pass
    started = time.monotonic()
    with pytest.raises(ClientError, match=r"cannot be reached .*; is `dftune serve` running there"):
        Client(url).models()
    assert time.monotonic() - started < 30
    with pytest.raises(ClientError, match=r"http://no\.such\.host\.invalid cannot be reached"):
        Client("http://no.such.host.invalid").models()


@pytest.mark.parametrize(
    "answer, said",
    [
        ((200, {"Content-Type": "text/html"}, b"<html>hello"), "no JSON"),
        ((200, {}, b'{"models": 3}'), "JSON without units"),
        ((200, {}, b"[]"), "JSON without units"),
        ((200, {}, b'{"units": null}'), "JSON without units"),
        ((404, {}, b"<html>nothing"), "status 404"),
        ((404, {}, b'{"detail": "Not Found"}'), "status 404"),
        ((301, {"Location": "http://elsewhere"}, b""), "status 301"),
        ((400, {}, b'{"error": "no"}'), "status 400"),
    ],
)
def test_a_server_that_is_not_ours_is_said(answer, said):
    with answering(answer) as (url, _), pytest.raises(ClientError, match="is no endpoint of dftune") as error:
        Client(url, TOKEN).predict(cube())
    assert f"it answered with {said}" in str(error.value)


@pytest.mark.parametrize("content", [b'{"models": null, "predictions": 3}', b'{"models": [3], "predictions": [1, 2]}'])
def test_lists_of_a_server_that_is_not_ours_are_looked_at(content):
    with answering((200, {}, content)) as (url, _):
        for ask in (lambda client: client.models(), lambda client: client.predict([1.0, 2.0])):
            with pytest.raises(ClientError, match="is no endpoint of dftune"):
                ask(Client(url, TOKEN))


def test_another_server_gives_no_text_for_a_prediction():
    """Any web server may answer anything with 200; one that speaks no HTTP says so."""
    said = "it answered with a text of no model; give the URL"
    with answering((200, {}, b"hello")) as (url, _), pytest.raises(ClientError, match=said):
        Client(url, TOKEN).text(cube())
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), daemon=True).start()
        with pytest.raises(ClientError, match=r"it answered with 'SSH-2\.0-OpenSSH_9\.2'; give the URL"):
            Client(f"http://127.0.0.1:{other.getsockname()[1]}").models()


BUSY = (503, {"Retry-After": "0.3"}, b'{"detail": "17 requests wait already", "request_id": "r1"}')
GOOD = (200, {}, b'{"y": 1.0, "units": {}}')


def test_a_busy_endpoint_is_asked_again_when_it_says():
    with answering(BUSY, BUSY, GOOD) as (url, asked):
        started = time.monotonic()
        assert Client(url).predict(2.0)["y"] == 1
        assert time.monotonic() - started > 0.6
        assert asked == ["/v1/predict"] * 3


def test_an_endpoint_that_stays_busy_is_said():
    with answering(BUSY) as (url, asked), pytest.raises(ClientError) as error:
        Client(url, patience=1.0).predict(2.0)
    assert str(error.value) == "17 requests wait already (request r1)"
    assert (error.value.status, error.value.request_id) == (503, "r1")
    assert 2 <= len(asked) <= 4


def test_an_endpoint_that_has_answered_and_is_away_is_asked_again():
    with answering(GOOD, None, None, GOOD) as (url, asked), Client(url, patience=20) as client:
        assert [client.predict(2.0)["y"] for _ in range(2)] == [1, 1]
    assert len(asked) == 4


def test_an_answer_that_does_not_come_is_said():
    async def silent(scope, receive, send):
        import asyncio

        await asyncio.sleep(1)

    with listening(silent) as url, pytest.raises(ClientError, match=r"did not answer within 0\.2 s; ask for less"):
        Client(url, timeout=0.2).models()


def test_what_stands_in_a_request(tmp_path):
    class Pymatgen:
        def as_dict(self):
            return {"lattice": {}}

    path = tmp_path / "POSCAR"
    cube().write(path, format="vasp")
    assert as_json(path)["numbers"] == [13]
    assert as_json(Pymatgen()) == {"lattice": {}}
    assert as_json(3.0) == 3.0
    with pytest.raises(InputError, match="no such file"):
        as_json(tmp_path / "nothing")
    with pytest.raises(ClientError, match="the request cannot be written as JSON"):
        Client("http://x").predict(cube(), temperature=float("nan"))
    with pytest.raises(ClientError, match="cannot be written as JSON: it holds an object"):
        Client("http://x").predict(object())


def test_the_calculator_gives_energy_and_its_derivatives(client):
    atoms = ase.Atoms("Al2", [[0, 0, 0], [2.1, 1.9, 2.0]], cell=[4.0, 4.0, 4.0], pbc=True)
    atoms.calc = RemoteCalculator(client, temperature=2000.0)
    force = atoms.get_forces()[1, 0]
    grid = atoms.calc.prediction["grid"]
    energies = []
    for shift in (-0.02, 0.02):
        moved = atoms.copy()
        moved.positions[1, 0] += shift
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    assert force == pytest.approx(-(energies[1] - energies[0]) / 0.04, abs=0.05)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(np.mean(energies), abs=0.1)
    atoms.set_cell([3.9] * 3, scale_atoms=True)
    atoms.get_potential_energy()
    assert atoms.calc.prediction["grid"] == grid, "it is held"
    atoms.set_cell([5.0] * 3, scale_atoms=True)
    with pytest.warns(UserWarning, match="too large for the grid of the first structure"):
        atoms.get_potential_energy()
    assert atoms.calc.prediction["grid"] != grid


# ---------------------------------------------------------------- the command


def command(*words: object, **environment: str):
    """The outcome of `dftune model predict`."""
    words = ["model", "predict", *map(str, words)]
    return CliRunner().invoke(cli, words, env={"DFTUNE_TOKEN": "", **environment})


def test_the_command_asks_an_endpoint(url, model, tmp_path):
    path, token = tmp_path / "two.xyz", tmp_path / "token"
    ase.io.write(path, [cube(), cube(4.1)], format="extxyz")
    token.write_text(TOKEN)
    token.chmod(0o600)
    given = ("model", path, "--url", url, "--frames", ":", "--temperature", 1500)
    done = command(*given, "--json", "--token-file", token)
    assert done.exit_code == 0, done.output
    first, second = json.loads(done.stdout)["predictions"]
    assert first["free_energy"] == pytest.approx(model.predict(cube(), temperature=1500.0).free_energy, abs=1e-6)
    assert (first["structure"], second["temperature"]) == (f"{path} 1/2", 1500.0)
    assert json.loads(done.stdout)["units"]["free_energy"] == "eV"
    text = command(*given, DFTUNE_TOKEN=TOKEN).stdout
    assert text.startswith(f"{path} 1/2: 1 atoms, 3 electrons at 1500.0 K")
    assert f"\n\n{path} 2/2: 1 atoms" in text


def test_the_command_says_in_one_line_what_is_wrong(url, tmp_path):
    path = tmp_path / "POSCAR"
    cube(symbol="Be").write(path, format="vasp")
    for words, token, said in (
        ((url,), "", "asks for its token, and no token was given"),
        ((url,), TOKEN, f"{path}: the model knows Al but not Be"),
        ((url, "--save", "density.npy"), TOKEN, "--save writes files of a model in a folder"),
        (("nonsense",), TOKEN, "'nonsense' is no URL of an endpoint"),
    ):
        done = command("model", path, "--url", *words, DFTUNE_TOKEN=token)
        assert done.exit_code in (1, 2)
        assert said in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
