"""The endpoint: a real Ray Serve answers, refuses in one line, and leaves nothing behind."""

import http.client
import io
import json
import os
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase
import ase.io
import numpy as np
import pyarrow as pa
import pytest

from dftune.cluster.connection import ClusterError
from dftune.cluster.processes import MARK, mark
from dftune.platform.serve.interface import ARROW
from dftune.platform.serve.server import NAME, served
from dftune.platform.serve.settings import EndpointSettings, digest
from dftune.tests.listeners import descendants, is_local, listeners
from dftune.tests.platform.serve.asking import ONE, TOKEN, as_json, ask, free_port
from dftune.trainables.data.shards import to_numpy
from dftune.trainables.ldos.request import CIF, POSCAR, XYZ

BODY = 20_000
CUBE = ONE["cell"]


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "al4.model"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def versions(folder, tmp_path_factory):
    """A folder of versions, with one of them."""
    path = tmp_path_factory.mktemp("moving")
    shutil.copytree(folder, path / "v1")
    return path


@pytest.fixture(scope="module")
def endpoint(local_ray, folder, versions):
    """The port of an endpoint with a token, and beside it at /hurried one without, of little time."""
    from ray import serve

    from dftune.platform.serve.endpoint import application

    settings = EndpointSettings(
        models={"al4": str(folder), "moving": str(versions)},
        queue=3, size=400_000, body=BODY, time_limit=60, token_sha256=digest(TOKEN),
    )  # fmt: skip
    port = free_port()
    with served(settings, port=port):
        hurried = EndpointSettings(model=str(folder), time_limit=1.5, size=2_000_000, without_token=True)
        serve.run(application(hurried), name="hurried", route_prefix="/hurried")
        yield port


@pytest.fixture(scope="module")
def atoms(al4):
    s = al4["009"]
    return ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)


def test_a_prediction_over_http_is_the_models_own(endpoint, model, atoms):
    status, _, content = ask(endpoint, body={"structure": as_json(atoms), "forces": "mean", "temperature": 1500.0})
    assert status == 200, content
    found, expected = json.loads(content), model.predict(atoms, forces="mean", temperature=1500.0).to_dict()
    assert found.keys() == expected.keys() | {"units"}
    for name in ("free_energy", "band_energy", "fermi_level", "energy", "dos", "dos_std", "forces"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
    assert found["std"] == pytest.approx(expected["std"], rel=1e-3, abs=1e-5)
    assert (found["temperature"], found["grid"], found["warnings"]) == (1500.0, [20, 20, 20], expected["warnings"])
    assert found["units"]["forces"] == "eV/Å"


def test_all_ways_to_give_a_structure_give_one_answer(endpoint, atoms):
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    scaled = as_json(atoms, positions=None, scaled_positions=atoms.get_scaled_positions().tolist())
    named = as_json(atoms, numbers=None, symbols=atoms.get_chemical_symbols())
    answers = [ask(endpoint, body={"structure": s}) for s in (as_json(atoms), scaled, named)]
    answers.append(ask(endpoint, body=text.getvalue().encode(), kind=XYZ))
    assert [a[0] for a in answers] == [200] * 4, answers
    energies = [json.loads(a[2])["free_energy"] for a in answers]
    assert energies == pytest.approx([energies[0]] * 4, abs=1e-4)
    hot = ask(endpoint, "/v1/predict?temperature=2000", text.getvalue().encode(), kind=XYZ)
    assert (hot[0], json.loads(hot[2])["temperature"]) == (200, 2000)


def test_density_and_ldos_come_as_arrow_streams(endpoint, model, atoms):
    ldos = np.empty((20, 20, 20, 37), dtype=np.float32)
    expected = model.predict(atoms, ldos=ldos)
    for quantity, values in (("density", expected.density.reshape(-1)), ("ldos", ldos.reshape(-1, 37))):
        status, headers, content = ask(
            endpoint, f"/v1/predict?quantity={quantity}", {"structure": as_json(atoms)}, accept=ARROW
        )
        assert (status, headers["Content-Type"]) == (200, ARROW)
        reader = pa.ipc.open_stream(content)
        assert reader.schema.names == [quantity]
        assert reader.schema.metadata[b"grid"] == b"(20, 20, 20)"
        assert "1/(eV Å³)" in reader.schema.metadata[b"unit"].decode() or quantity == "density"
        np.testing.assert_allclose(np.concatenate([to_numpy(b) for b in reader]), values, rtol=1e-3, atol=1e-5)


def test_an_endpoint_listens_on_loopback_in_all_its_processes(endpoint):
    """Each replica of Ray Serve would unpickle what anybody sends to a port of its own."""
    found = listeners(descendants())
    assert any("ServeReplica" in owner for owner in found.values())
    assert {local: owner for local, owner in found.items() if not is_local(local)} == {}


def test_the_endpoint_says_what_it_serves(endpoint, model):
    assert json.loads(ask(endpoint, "/v1/model")[2]) == model.card.model_dump(mode="json")
    api = json.loads(ask(endpoint, "/openapi.json")[2])
    assert api["info"]["description"] == "2 models: al4, moving."
    paths = api["paths"]
    asked = paths["/v1/predict"]["post"]["parameters"]
    assert [p["name"] for p in asked] == [
        "quantity",
        "format",
        "temperature",
        "temperatures",
        "forces",
        "stress",
        "grid",
    ]
    assert asked[0]["schema"]["enum"] == ["density", "ldos"]
    named = {"/v1/models", "/v1/models/{name}", "/v1/models/{name}/predict"}
    assert set(paths) == {"/", "/healthz", "/metrics", "/v1/model", "/v1/predict"} | named
    assert set(paths["/v1/predict"]["post"]["requestBody"]["content"]) == {"application/json", XYZ, CIF, POSCAR}
    assert json.loads(ask(endpoint, "/healthz", token=None)[2]) == {"status": "ok"}


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x"])
@pytest.mark.parametrize(
    "path, body", [("/v1/model", None), ("/v1/predict", {}), ("/v1/models/al4", None), ("/metrics", None)]
)
def test_without_the_token_nothing_is_told(endpoint, token, path, body):
    status, headers, content = ask(endpoint, path, body, token=token)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer TOKEN" in json.loads(content)["detail"]


@pytest.mark.parametrize(
    "body, status, said",
    [
        (b"{", 400, "Invalid JSON"),
        ({}, 422, "structure: field required"),
        ({"structure": ONE, "temprature": 3}, 422, "temprature: extra inputs are not permitted"),
        ({"structure": {**ONE, "cell": CUBE[:2]}}, 422, "structure.cell.2: field required"),
        ({"structure": {**ONE, "positions": [[0, 0, float("nan")]]}}, 422, "structure.positions.0.2"),
        ({"structure": {**ONE, "scaled_positions": [[0, 0, 0]]}}, 422, "give either positions or scaled_positions"),
        ({"structure": {**ONE, "symbols": ["Al", "Al"]}}, 422, "1 positions, but 2 symbols"),
        ({"structure": {**ONE, "symbols": ["Unobtainium"]}}, 422, "is no chemical symbol"),
        ({"structure": {**ONE, "symbols": None, "numbers": [-1]}}, 422, "atomic numbers are 1 to"),
        ({"structure": {**ONE, "symbols": ["Be"]}}, 422, "the model knows Al but not Be"),
        ({"structure": {**ONE, "positions": [], "symbols": []}}, 422, "no atoms"),
        ({"structure": {**ONE, "positions": [[0, 0, 0]] * 2, "symbols": ["Al"] * 2}}, 422, "closer than 1 Å"),
        ({"structure": {**ONE, "cell": np.zeros((3, 3)).tolist()}}, 422, "not periodic"),
        ({"structure": ONE, "temperature": 1.0}, 422, "below the"),
        ({"structure": ONE, "temperature": -1.0}, 422, "temperature"),
        ({"structure": ONE, "forces": "all"}, 422, "forces"),
        ({"structure": {**ONE, "cell": (20 * np.eye(3)).tolist()}}, 413, "more than 400,000"),
        ({"structure": {**ONE, "cell": (900 * np.eye(3)).tolist()}}, 413, "more than 400,000"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_one_line(endpoint, body, status, said):
    found, _, content = ask(endpoint, body=body)
    detail = json.loads(content)["detail"]
    assert (found, "\n" in detail) == (status, False), detail
    assert said in detail


LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "number of atoms"),
        (f"1\n{LATTICE}\n", "the first line says 1 atoms"),
        ("1\nno cell\nAl 0 0 0\n", "has no Lattice"),
        (f"1\n{LATTICE}\nAl 0 0\n", "line 3 has 3 columns"),
        (f"1\n{LATTICE}\nAl 0 0 x\n", "an atom that is none"),
        (f"1\n{LATTICE}\nQq 0 0 0\n", "an atom that is none"),
        (f"1\n{LATTICE} Properties=species:S:1\nAl\n", "must hold species:S:1 and pos:R:3"),
        (f"1\n{LATTICE} Properties=species:S:1:pos:R:3:x:R:1000000000\nAl 0 0 0\n", "999 at most"),
        ("999999999\n" + LATTICE + "\nAl 0 0 0\n", "the first line says 999999999 atoms"),
    ],
)
def test_an_extended_xyz_text_that_is_none_is_refused(endpoint, text, said):
    status, _, content = ask(endpoint, body=text.encode(), kind=XYZ)
    assert (status, said in json.loads(content)["detail"]) == (422, True), content


@pytest.mark.parametrize(
    "path, kind, accept, status, said",
    [
        ("", "text/plain", "*/*", 415, "send application/json"),
        ("", "application/x-pickle", "*/*", 415, "send application/json"),
        ("", "application/json", ARROW, 406, "belong together"),
        ("?quantity=ldos", "application/json", "*/*", 406, "belong together"),
        ("?quantity=spin", "application/json", ARROW, 422, "quantity"),
        ("?temperature=nan", XYZ, "*/*", 422, "temperature"),
        ("?forces=mean", "application/json", "*/*", 422, "belongs into the JSON"),
    ],
)
def test_what_is_not_offered_is_refused_in_one_line(endpoint, path, kind, accept, status, said):
    found, _, content = ask(endpoint, f"/v1/predict{path}", {"structure": ONE}, kind=kind, accept=accept)
    assert (found, said in json.loads(content)["detail"]) == (status, True), content


def test_a_body_is_counted_as_it_comes_whatever_its_header_says(endpoint):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint, timeout=600)
    parts = (b" " * 1000 for _ in range(BODY // 1000 + 1))  # chunked: no length is said
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/predict", parts, headers)
    answer = connection.getresponse()
    assert (answer.status, "larger than 20,000 bytes" in answer.read().decode()) == (413, True)


def test_what_is_no_http_is_refused_in_the_form_of_all_errors(endpoint):
    with socket.create_connection(("127.0.0.1", endpoint), timeout=600) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        said = json.loads(answer.read())
    assert (answer.status, said.keys()) == (400, {"detail", "request_id"})


def test_requests_wait_for_their_turn_and_those_beyond_the_queue_are_sent_away(endpoint, atoms):
    assert ask(endpoint, body={"structure": as_json(atoms)})[0] == 200
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(ask, endpoint, body={"structure": as_json(atoms)}) for _ in range(9)]
        assert ask(endpoint, "/healthz")[0] == 200
        assert not all(a.done() for a in asked), "also while it predicts"
        answers = [a.result() for a in asked]
    done, away = [a for a in answers if a[0] == 200], [a for a in answers if a[0] == 503]
    assert len(done) + len(away) == 9, answers
    assert len(done) >= 4, "one predicted, three waiting"
    assert away, "and no more"
    assert {a[1]["Retry-After"] for a in away} == {"5"}
    assert "try again in 5 s" in json.loads(away[0][2])["detail"]
    assert len({json.loads(a[2])["free_energy"] for a in done}) == 1
    assert ask(endpoint, body={"structure": as_json(atoms)})[0] == 200, "afterwards all is as before"


def test_a_version_put_beside_another_answers_and_no_request_is_lost(endpoint, versions, folder, atoms):
    answers, ended = [], threading.Event()

    def go_on():
        while not ended.is_set():
            answers.append(ask(endpoint, "/v1/models/moving/predict", {"structure": as_json(atoms)}))

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(go_on) for _ in range(3)]
        try:
            deadline = time.monotonic() + 300
            for number in (2, 10):
                shutil.copytree(folder, versions / f"v{number}")
                while not answers or answers[-1][1].get("X-Model") != f"moving@v{number}":
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            ended.set()
        [one.result() for one in asked]
    assert {a[0] for a in answers} == {200}
    assert list(dict.fromkeys(a[1]["X-Model"] for a in answers)) == [f"moving@v{n}" for n in (1, 2, 10)]
    status, headers, _ = ask(endpoint, "/v1/models/moving@v1/predict", {"structure": as_json(atoms)})
    assert (status, headers["X-Model"]) == (200, "moving@v1")


def test_an_endpoint_counts_what_it_does(endpoint, atoms):
    counter = 'dftune_requests_total{model="",route="predict",status="422"}'

    def count() -> float:
        lines = ask(endpoint, "/metrics")[2].decode().splitlines()
        assert any(line.startswith("dftune_model_info{") for line in lines), lines
        return sum(float(line.split()[-1]) for line in lines if line.startswith(counter))

    before = count()
    assert ask(endpoint, body={})[0] == 422
    assert count() == before + 1


def test_a_request_is_named_in_answers_and_in_the_logs(endpoint):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint, timeout=600)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "X-Request-ID": "mine-4711"}
    connection.request("POST", "/v1/predict", b"{}", headers)
    answer = connection.getresponse()
    assert answer.headers.get_all("x-request-id") == ["mine-4711"]
    assert json.loads(answer.read())["request_id"] == "mine-4711"
    opened = (os.readlink(file) for file in Path(f"/proc/{replica(NAME)}/fd").iterdir())
    logs = [Path(name) for name in opened if Path(name).name.startswith("replica_")]
    deadline = time.monotonic() + 60
    while not any("mine-4711" in log.read_text() for log in logs):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def until(status, port, path, atoms, token):
    """A structure is answered with this status at last, however often it has to be asked for."""
    deadline = time.monotonic() + 600
    while ask(port, path, {"structure": as_json(atoms)}, token=token)[0] != status:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def replica(application: str) -> int:
    """The process of an application's replica, in the Ray of this process."""
    ours = f"{MARK}={mark()}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_text()
            if title.startswith(f"ray::ServeReplica:{application}:") and ours in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("no replica")


def cpu_seconds(process: int) -> float:
    """What a process has used, however busy the machine is."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_request_that_takes_too_long_is_ended_and_so_is_its_prediction(endpoint, atoms):
    large, path = as_json(atoms.repeat((5, 5, 5))), "/hurried/v1/predict"
    before = cpu_seconds(replica("hurried"))
    with ThreadPoolExecutor(18) as pool:
        answers = list(pool.map(lambda _: ask(endpoint, path, {"structure": large}, token=None), range(18)))
    assert {a[0] for a in answers} == {503, 504}, "17 have a place"
    (late, *_) = (json.loads(a[2])["detail"] for a in answers if a[0] == 504)
    assert "not done within 1.5 s; ask later, for a smaller cell" in late
    until(200, endpoint, path, atoms, None)
    assert cpu_seconds(replica("hurried")) - before < 20, "all 17 to their ends take more than a minute"


def test_a_prediction_ends_when_its_client_goes_away(endpoint, atoms):
    large = as_json(atoms.repeat((4, 4, 3)))
    content = json.dumps({"structure": large, "forces": "spread"}).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    before = cpu_seconds(replica(NAME))
    gone = [socket.create_connection(("127.0.0.1", endpoint)) for _ in range(4)]
    for connection in gone:
        connection.sendall(head.encode() + content)
    deadline = time.monotonic() + 600
    while cpu_seconds(replica(NAME)) - before < 2:  # the first one is computed, and the others came with it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for connection in gone:
        connection.close()
    until(200, endpoint, "/v1/predict", atoms, TOKEN)
    assert cpu_seconds(replica(NAME)) - before < 6, "one to its end takes 7, all four 30"


def test_a_killed_replica_is_said_and_comes_back(endpoint, atoms):
    large, path = as_json(atoms.repeat((5, 5, 5))), "/hurried/v1/predict"
    until(200, endpoint, path, atoms, None)
    answers = []
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(ask, endpoint, path, {"structure": large}, token=None)
        time.sleep(0.5)
        os.kill(replica("hurried"), signal.SIGKILL)
        answers.append(under_way.result())
    deadline = time.monotonic() + 600
    while answers[-1][0] != 200:
        started = time.monotonic()
        answers.append(ask(endpoint, "/hurried/healthz", token=None))
        assert time.monotonic() - started < 120, "no silence"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for status, headers, content in answers[:-1]:
        assert (status, headers["Retry-After"], list(json.loads(content))) == (503, "5", ["detail", "request_id"])
    assert ask(endpoint, "/v1/model")[0] == 200, "the other one never noticed"


def test_a_cluster_that_serves_already_is_left_alone(endpoint, folder):
    settings = EndpointSettings(model=str(folder), without_token=True)
    with pytest.raises(ClusterError, match="runs Ray Serve already"), served(settings, port=free_port()):
        pass
    assert ask(endpoint, "/v1/model")[0] == 200
