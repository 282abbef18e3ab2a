"""Studies handed to a running cluster: a real Ray head with dashboard and token, real jobs, real connections."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dftune.cluster.embedded import ENVIRONMENT
from dftune.cluster.node_check import unmet
from dftune.platform.cli.job import main
from dftune.platform.submit.order import MARK, Order
from dftune.platform.submit.submission import Cluster, Job, SubmissionError, staged_package
from dftune.tests.places import ROOT

BIN = Path(sys.executable).parent
SPEC = """
name = "{name}"
dataset = "{dataset}"
method = "random"
trials = 1
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
space = {{ width = {{ type = "int", low = 8, high = 32 }} }}
config = {{ n_layers = 1, activation = "silu", learning_rate = 1e-3, epochs = {epochs}, batch_size = 256 }}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@dataclass(frozen=True)
class Head:
    """A Ray head: its dashboard, itself, and an environment of processes that it lets in."""

    address: str
    ray: str
    environment: dict[str, str]

    def dftune(self, *words, **options) -> subprocess.Popen:
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [BIN / "dftune", *map(str, words)]
        return subprocess.Popen(command, **{**pipe, "env": self.environment, **options})

    def submit(self, *words, address=None) -> subprocess.Popen:
        return self.dftune("study", "submit", *words, "--address", address or self.address)


@pytest.fixture(scope="module")
def head():
    """A head of its own in a process of its own, with a token, started without `python` of its environment on PATH."""
    folder = Path(tempfile.mkdtemp(prefix="rj", dir="/tmp"))  # short: the names of Ray's sockets are bounded
    token, port, ray = folder / "token", free_port(), free_port()
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    # The Ray of the test session has put its own token into this process's environment, where it would come first.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    access = {**outside, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    options = {
        **{"temp-dir": folder / "ray", "port": ray, "ray-client-server-port": free_port(), "num-cpus": 2},
        **{"dashboard-host": "127.0.0.1", "dashboard-port": port, "include-dashboard": "true"},
        **{"min-worker-port": 0, "max-worker-port": 0, "dashboard-agent-listen-port": 0},
        **{"object-store-memory": 200_000_000},
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())],
            env={**access, **ENVIRONMENT, "PATH": "/usr/bin:/bin", "RAY_USAGE_STATS_ENABLED": "0"},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/version")
        request.add_header("Authorization", f"Bearer {token.read_text()}")
        deadline = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield Head(f"http://127.0.0.1:{port}", f"127.0.0.1:{ray}", access)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def few(al4, tmp_path) -> Path:
    """A dataset of three snapshots."""
    folder = tmp_path / "few"
    shutil.copytree(al4.path, folder, ignore=shutil.ignore_patterns("descriptors"))
    table = pq.read_table(folder / "snapshots.parquet")
    pq.write_table(table.filter(pc.field("id").isin(["000", "006", "009"])), folder / "snapshots.parquet")
    return folder


@pytest.fixture
def studies(tmp_path) -> Path:
    return tmp_path / "studies"


def spec_file(tmp_path, al4, name="tiny", epochs=2, dataset=None) -> Path:
    path = tmp_path / f"{name}.toml"
    path.write_text(SPEC.format(name=name, epochs=epochs, dataset=dataset or al4.path))
    return path


def test_a_study_is_handed_over_and_followed_to_its_result(head, tmp_path, few, studies):
    # One file system here, so that the dataset's path holds; the order, the package and nothing else travel.
    # Without training, as before a search the surrogate without training would have its full size in a job.
    spec = spec_file(tmp_path, None, dataset=few)
    text = re.sub("space = .*", "", spec.read_text()).replace('"random"', '"none"')
    spec.write_text(text.replace("n_layers = 1", "n_layers = 1, width = 9"))
    submitted = head.submit(spec, "--studies", studies, "--json")
    out, err = submitted.communicate(timeout=600)
    assert submitted.returncode == 0, err
    assert json.loads(out)["config"]["width"] == 9
    said = [re.sub(r"^\[ *\d+ s\] ", "", line) for line in err.splitlines()]
    assert said[0] == "job dftune-tiny-1 submitted"
    assert said[1] == "checked 1 node: environment, dataset, resources, studies folder"
    assert said[2] == f"study tiny: method none, dataset {few}"
    assert said[-1] == f"on the cluster: `dftune study show tiny --studies {studies}`, where that can be reached"
    assert MARK not in out + err
    assert not [line for line in said if "Running entrypoint" in line or "INFO" in line]
    assert (studies / "tiny" / "model" / "model.json").is_file()
    assert not list(studies.glob(".seen-*"))


@pytest.mark.slow
def test_the_same_command_joins_a_study_that_runs_and_ctrl_c_ends_the_following_only(head, tmp_path, al4, studies):
    spec = spec_file(tmp_path, al4, "joined", epochs=20)
    both = [head.submit(spec, "--studies", studies, "--no-follow") for _ in range(2)]  # which of them is faster
    said = [begun.communicate(timeout=600)[1] for begun in both]
    assert [begun.returncode for begun in both] == [0, 0], said
    assert all("the study has begun: follow it with the same command" in text for text in said)
    assert sorted(text.splitlines()[0] for text in said) == [
        "job dftune-joined-1 submitted",
        "study joined runs there already: following job dftune-joined-1",
    ]

    other = head.submit(spec, "--studies", tmp_path / "others")
    assert "a study 'joined' runs there already, with another study file, dataset or folder" in other.communicate()[1]
    assert other.returncode == 1

    followed = head.submit(spec, "--studies", studies)
    for line in followed.stderr:
        if "study joined: method random" in line:
            break
    followed.send_signal(signal.SIGINT)
    out, err = followed.communicate(timeout=600)
    assert followed.returncode == 1
    assert "no longer followed; the study goes on" in err
    assert "Traceback" not in err

    again = head.submit(spec, "--studies", studies)
    out, err = again.communicate(timeout=600)
    assert err.startswith("study joined runs there already: following job dftune-joined-1")
    assert again.returncode == 0
    assert "chosen: trial" in out
    assert err.count("study joined: method random") == 1

    ended = head.submit(spec, "--studies", studies)
    assert ended.communicate(timeout=600)[0] == out
    assert ended.returncode == 0


class Proxy:
    """A way to the dashboard that can be cut."""

    def __init__(self, port: int) -> None:
        self.to, self.listener, self.open = port, socket.create_server(("127.0.0.1", 0)), True
        self.port = self.listener.getsockname()[1]
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            here, _ = self.listener.accept()
            if not self.open:
                here.close()
                continue
            there = socket.create_connection(("127.0.0.1", self.to))
            self.ends += [here, there]
            for a, b in ((here, there), (there, here)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        self.open = False
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.ends.clear()


@pytest.mark.slow
def test_a_connection_that_is_lost_is_made_again_and_nothing_is_said_twice(head, tmp_path, al4, studies):
    proxy = Proxy(int(head.address.rpartition(":")[2]))
    spec = spec_file(tmp_path, al4, "cut", epochs=12)
    submitted = head.submit(spec, "--studies", studies, address=f"http://127.0.0.1:{proxy.port}")
    lines = []
    for line in submitted.stderr:
        lines.append(line)
        if "descriptors: " in line:
            proxy.cut()
        if "connection lost" in line:
            time.sleep(4)
            proxy.open = True
            break
    out, err = submitted.communicate(timeout=600)
    assert submitted.returncode == 0
    assert "chosen: trial" in out
    for text in ("study cut: method random", "checked 1 node", "trial 0: validation_loss"):
        assert "".join([*lines, err]).count(text) == 1


@pytest.mark.slow
def test_a_stopped_job_ends_cleanly_and_the_same_command_goes_on(head, tmp_path, al4, studies):
    spec = spec_file(tmp_path, al4, "halt")
    first = head.submit(spec, "--studies", studies)
    for line in first.stderr:
        if "descriptors: " in line:  # always said, and much is left to do
            break
    stop = [BIN / "ray", "job", "stop", "--address", head.address, "dftune-halt-1"]
    subprocess.run(stop, env=head.environment, check=True, capture_output=True)
    _, err = first.communicate(timeout=600)
    assert first.returncode == 1
    assert "stopped; finished trials are kept, go on with" in err  # the study's own words: it was not killed
    assert "job dftune-halt-1 was stopped" in err

    changed = spec.read_text().replace("trials = 1", "trials = 3")
    (tmp_path / "changed.toml").write_text(changed)
    refused = head.submit(tmp_path / "changed.toml", "--studies", studies)
    assert "has begun there with trials = 1, and not 3" in refused.communicate(timeout=600)[1]
    assert refused.returncode == 1

    second = head.submit(spec, "--studies", studies)
    out, err = second.communicate(timeout=600)
    assert second.returncode == 0, err
    assert "job dftune-halt-3 submitted" in err
    assert "chosen: trial" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, change, message",
    [
        ([], ("/al4", "/al5"), r"on the cluster, .*/al5: not a dataset .*submit with --dataset PATH_OR_URL"),
        ([], ("initial", "resources = { cpus = 99 }\ninitial"), r"asks for 99 CPUs .* but the nodes have 2 CPUs"),
        (["--studies", "/proc/none"], ("", ""), r"on the cluster, /proc/none cannot be written .*--studies FOLDER"),
    ],
    ids=["no dataset", "no room", "no folder"],
)
def test_what_fails_on_the_cluster_fails_here_with_its_reason(head, tmp_path, al4, studies, words, change, message):
    spec = spec_file(tmp_path, al4, f"fails{secrets.token_hex(3)}")
    spec.write_text(spec.read_text().replace(*change, 1))
    failed = head.submit(spec, *(words or ["--studies", studies]))
    _, err = failed.communicate(timeout=600)
    assert failed.returncode == 1
    assert re.search(f"Error: .*{message}", err), err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_study_that_fails_there_has_its_exit_code_here(head, tmp_path, fresh_al4, studies):
    with (fresh_al4.path / "ldos" / "003.arrow").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x01")
    failed = head.submit(spec_file(tmp_path, fresh_al4, "damaged"), "--studies", studies)
    out, err = failed.communicate(timeout=600)
    assert failed.returncode == 1
    assert "checked 1 node" in err
    assert re.search(r"^Error: .*ldos/003.arrow: its SHA-256 differs", err, re.MULTILINE), err
    assert out == ""


@pytest.mark.slow
def test_the_shipped_package_wins_over_one_that_is_installed(head, tmp_path):
    shipped = staged_package(tmp_path)
    (shipped / "platform" / "version.py").write_text('__version__ = "shipped"\n')
    code = f"""
import time
from ray.job_submission import JobSubmissionClient

client = JobSubmissionClient("{head.address}")
job = client.submit_job(
    entrypoint="{BIN}/python -c 'import dftune; print(dftune.__version__, dftune.__file__)'",
    runtime_env={{"py_modules": ["{shipped}"]}},
)
while client.get_job_status(job) in ("PENDING", "RUNNING"):
    time.sleep(0.2)
print(client.get_job_logs(job))
"""
    # Ray reads its token when it is imported, so in a process of its own.
    out = subprocess.run([sys.executable, "-c", code], env=head.environment, capture_output=True, text=True, cwd="/")
    assert re.search(r"shipped .*py_modules_files/.*/dftune/__init__.py", out.stdout), out.stderr


@pytest.mark.slow
def test_one_process_works_on_this_machine_and_then_on_a_cluster(head):
    code = f"""
import os
from dftune.cluster.connection import connected

token = os.environ.pop("RAY_AUTH_TOKEN_PATH")
del os.environ["RAY_AUTH_MODE"]
def nodes(address=None):
    with connected(address):
        import ray
        return [node["Alive"] for node in ray.nodes()]

print(nodes())
os.environ |= {{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token}}
print(nodes("{head.ray}"))
"""
    out = subprocess.run([sys.executable, "-c", code], env=head.environment, capture_output=True, text=True)
    assert out.stdout == "[True]\n[True]\n", out.stderr


def test_where_there_is_no_cluster_or_no_right_to_use_it_the_command_says_so(head, tmp_path, al4):
    stranger = head.environment | {"RAY_AUTH_TOKEN": "not the one"}
    refused = Head(head.address, head.ray, stranger).submit(spec_file(tmp_path, al4))
    assert "asks for another token than this one; set RAY_AUTH_MODE=token" in refused.communicate(timeout=600)[1]
    assert refused.returncode == 1
    with pytest.raises(SubmissionError, match=r"no Ray dashboard answers at http://127.0.0.1:\d+ .*refused"):
        Cluster(f"127.0.0.1:{free_port()}")
    for wrong in ("ray://head:10001", "http://", ""):
        with pytest.raises(SubmissionError, match="is not the address of a Ray dashboard"):
            Cluster(wrong)


def test_the_package_is_shipped_without_tests_or_an_environment(tmp_path):
    staged = {str(p.relative_to(tmp_path / "dftune")) for p in staged_package(tmp_path).rglob("*") if p.is_file()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    kept = {
        p for p in listed if p.endswith(".py") and p.split("/")[0] not in ("tests", "testing", "benchmarks", "examples")
    }
    assert staged >= kept | {"py.typed"}
    assert {p.split("/")[0] for p in staged} == {
        *("__init__.py", "py.typed", "platform", "searchers", "trainables", "cluster")
    }
    code = "import dftune.platform.cli.job; print(dftune.__file__)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert out.stdout.strip() == f"{tmp_path}/dftune/__init__.py"


def test_an_environment_that_lacks_something_is_named():
    assert unmet(["numpy>=1", "ray[tune,serve]>=2.60,<2.61", "nothing-of-that-name; python_version < '3'"]) is None
    lacking = unmet(["numpy>=99", "nothing-of-that-name>=1", "scipy"])
    assert re.search(r"lacks 'numpy>=99' \(\d.* is there\), 'nothing-of-that-name>=1' \(not there\); install", lacking)


def test_a_job_says_what_its_environment_lacks_before_anything_else(tmp_path, capsys):
    order = Order({}, "/studies", ["nothing-of-that-name>=1"], False)
    (tmp_path / "order.json").write_text(order.to_json())
    assert main(str(tmp_path / "order.json")) == 1
    said = capsys.readouterr()
    assert said.out == MARK
    assert said.err.startswith("Error: on the cluster, the Python environment lacks 'nothing-of-that-name>=1'")


class Written:
    """A stream that remembers."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_and_result_are_told_apart_however_the_output_is_cut():
    text = f"Ray's words\n{MARK}checked\n{MARK}study\ntrial 0\n{MARK}\nchosen: trial 0\n"
    for size in (1, 2, 7, 1000):
        job, progress, result = Job(None, "dftune-a-1", joined=False), Written(), Written()
        for start in range(0, len(text), size):
            job._pass_on(text[start : start + size], progress, result)
        assert progress.text == "checked\nstudy\ntrial 0\n"
        assert result.text == "\nchosen: trial 0\n"
