"""What can be served and what cannot, and the command from its start to its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase
import pytest

from dftune.cluster.connection import ClusterError
from dftune.platform.model.model import ModelError
from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointError, EndpointSettings, is_loopback, read_token
from dftune.tests.platform.serve.asking import ONE, TOKEN, as_json, ask, free_port


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "al4.model"
    model.save(path)
    return path


@pytest.mark.parametrize(
    "asked, meant", [(True, "spread"), (False, "none"), ("mean", "mean"), ("spread", "spread"), (None, "none")]
)
def test_forces_are_asked_for_by_yes_and_no_or_by_name(model, asked, meant):
    body = {"structure": ONE} | ({} if asked is None else {"forces": asked})
    structure, options = model.surrogate.parse(json.dumps(body).encode(), "application/json", {})
    assert model.prepare(structure, **options).forces == meant


def test_an_endpoint_that_others_reach_has_a_token(folder, tmp_path, monkeypatch):
    from dftune.platform.serve.endpoint import application

    open_to_all = EndpointSettings(model=str(folder), without_token=True)
    with pytest.raises(EndpointError, match=r"on 0\.0\.0\.0 others reach"), served(open_to_all, host="0.0.0.0"):
        pass
    monkeypatch.delenv("DFTUNE_TOKEN", raising=False)
    with pytest.raises(EndpointError, match="asks for a token"):
        application(EndpointSettings(model=str(folder)))
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "example.org")] == [
        *[True] * 3,
        *[False] * 3,
    ]
    file = tmp_path / "token"
    with pytest.raises(EndpointError, match="no token can be read"):
        read_token(file)
    file.write_text(TOKEN + "\n")
    file.chmod(0o640)
    with pytest.raises(EndpointError, match=r"others may read it \(mode 0640\)"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    file.write_text("short")
    with pytest.raises(EndpointError, match="16 or more"):
        read_token(file)


def test_settings_of_early_versions_name_the_size_by_grid_points(folder):
    early = EndpointSettings.model_validate({"model": str(folder), "grid_points": 1000})
    assert early == EndpointSettings(model=str(folder), size=1000)
    assert EndpointSettings(model=str(folder)).size == 500_000


def test_what_cannot_be_served_is_said_before_anything_starts(local_ray, folder, tmp_path):
    settings = EndpointSettings(model=str(folder), without_token=True)
    nowhere = EndpointSettings(model=str(tmp_path), without_token=True)
    with pytest.raises(ModelError, match="not a model"), served(nowhere):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EndpointError, match=f"cannot listen on 127.0.0.1:{port}"), served(settings, port=port):
            pass
    for change, said in (({"cpus": 1000}, "a replica asks for 1000 CPUs"), ({"replicas": 999}, "lower --replicas")):
        with pytest.raises(ClusterError, match=said), served(settings.model_copy(update=change), port=free_port()):
            pass


def processes(pid: int) -> set[int]:
    """Processes that a process has started, and those that they have."""
    found, left = set(), [pid]
    while left:
        for file in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            try:
                children = {int(c) for c in file.read_text().split()} - found
            except OSError:
                continue
            found |= children
            left += children
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_the_command_serves_until_it_is_stopped_and_leaves_nothing(folder, al4, tmp_path, number):
    s = al4["009"]
    atoms = ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
    port = free_port()
    command = [str(Path(sys.prefix) / "bin" / "dftune"), "serve", str(folder), "--port", str(port)]
    base = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "DFTUNE_"))}
    with (tmp_path / "err").open("w") as err:
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=err, text=True, env={**base, "DFTUNE_TOKEN": TOKEN}, cwd=tmp_path
        )
    try:
        first = running.stdout.readline()
        assert first.startswith(f"curl http://127.0.0.1:{port}/v1/predict"), (tmp_path / "err").read_text()
        example = first.removesuffix("\\\n") + running.stdout.readline()
        answer = subprocess.run(
            ["bash", "-c", example], capture_output=True, text=True, env={**os.environ, "DFTUNE_TOKEN": TOKEN}
        )
        assert "free_energy" in json.loads(answer.stdout), answer
        assert ask(port, body={"structure": as_json(atoms)})[0] == 200
        assert ask(port, "/v1/model", token=None)[0] == 401
        started = processes(running.pid)
        assert len(started) > 3
        for pid in started:  # the token itself is told to nobody
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            assert TOKEN.encode() not in environment
        with ThreadPoolExecutor(2) as pool:
            body = {"structure": as_json(atoms.repeat((4, 2, 2))), "forces": "mean"}  # for longer than PATIENCE
            asked = [pool.submit(ask, port, body=body) for _ in range(2)]
            time.sleep(1)
            running.send_signal(number)
            assert [one.result()[0] for one in asked] == [200, 200], "one that is predicted and one that waits"
        assert running.wait(timeout=600) == 0
    finally:
        running.kill()
    said = (tmp_path / "err").read_text()
    assert [word in said for word in ("Ray is starting", "is served at", "ended", "Traceback")] == [
        True,
        True,
        True,
        False,
    ]
    deadline = time.monotonic() + 600
    while left := {p for p in started if Path(f"/proc/{p}/cmdline").exists()}:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
