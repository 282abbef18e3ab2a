"""DFT runs as Ray tasks, by stand-ins for pw.x that are real processes: resumed, lost, failed, interrupted."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dftune.cluster.dft.generate import GIVE_UP
from dftune.cluster.dft.tasks import Runner
from dftune.tests.places import DATA, ROOT, unpack
from dftune.trainables.data.generating.computing import DONE, Order
from dftune.trainables.data.generating.results import open_runs
from dftune.trainables.data.generating.spec import Run
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.progress import Silent

PW = """#!{python} -IS
import os, shutil, sys, time
name = sys.stdin.read().strip()
with open({seen!r}, "a") as seen:
    seen.write(name + "\\n")
{before}
shutil.copytree({recorded!r} + "/tmp/dft.save", "out/dft.save")
print(open({recorded!r} + "/pw.out").read())
"""


class Desk:
    """A pw.x that writes down what it was asked for, and the folder of its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen, self.program = folder, folder / "seen.txt", folder / "pw.x"
        unpack(DATA / "wavefunctions.tar.xz", folder / "recorded")
        self.behave()

    def behave(self, before: str = "") -> None:
        """Do something before the work."""
        recorded = str(self.folder / "recorded/mesh")
        self.program.write_text(PW.format(python=sys.executable, seen=str(self.seen), recorded=recorded, before=before))
        self.program.chmod(0o755)

    def orders(self, n: int) -> list[Order]:
        """Orders for SCFs alone."""
        run = Run(pw=str(self.program))
        return [Order(f"{k:03d}", (f"{k:03d}\n",), {}, (), run, key=f"key {k}") for k in range(n)]

    @property
    def asked(self) -> list[str]:
        return sorted(self.seen.read_text().split()) if self.seen.exists() else []


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def runs(tmp_path):
    with open_runs(tmp_path / "al.runs") as runs:
        yield runs


class Said(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def update(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        self.lines.append(f"{done} of {total}, {text}")


def test_what_is_finished_is_never_computed_again(desk, runs, local_ray):
    said = Said()
    assert Runner(runs, 1, said).run(desk.orders(3)) == {}
    assert desk.asked == ["000", "001", "002"]
    assert said.lines[0] == "0 of 3, beginning"
    assert any(" left" in line for line in said.lines)
    kept = {path.name for path in runs.path("001").iterdir()}
    assert kept == {"pw.in", "pw.out", "pw.out.err", "data-file-schema.xml", DONE}
    assert Runner(runs, 1, Silent()).run(desk.orders(4)) == {}
    assert desk.asked == ["000", "001", "002", "003"]
    assert not list(runs.folder.glob(".*.part"))


def test_a_result_of_another_specification_is_refused(desk, runs, local_ray):
    Runner(runs, 1, Silent()).run(desk.orders(1))
    (other,) = (Order("000", o.inputs, {}, (), o.run, key="another") for o in desk.orders(1))
    with pytest.raises(DatasetError, match=r"al.runs/000: was computed for another specification; remove the folder"):
        Runner(runs, 1, Silent()).run([other])
    (runs.path("000") / DONE).write_text("{")
    with pytest.raises(DatasetError, match=r"done.json: damaged .*; remove"):
        runs.is_finished(other)


def test_a_failure_is_kept_and_computed_again_by_the_next_call(desk, runs, local_ray):
    desk.behave("if name == '001': sys.exit('an error of its own')")
    (name, why), *others = Runner(runs, 1, Silent()).run(desk.orders(3)).items()
    assert (name, others) == ("001", [])
    assert why == f"pw.x ended with code 1: an error of its own; its logs are in {runs.failed('001')}"
    assert (runs.failed("001") / "pw.out.err").read_text() == "an error of its own\n"
    assert not runs.path("001").exists()
    desk.behave()
    assert Runner(runs, 1, Silent()).run(desk.orders(3)) == {}
    assert desk.asked == ["000", "001", "001", "002"]
    assert not runs.failed("001").parent.exists()


def test_it_gives_up_where_all_fail(desk, runs, local_ray):
    desk.behave("sys.exit(1)")
    said = Said()
    failed = Runner(runs, 1, said).run(desk.orders(40), give_up=GIVE_UP)
    assert GIVE_UP <= len(failed) < 20
    assert any(line.startswith("gave up: the first") for line in said.lines)


def test_a_lost_worker_is_replaced(desk, runs, local_ray):
    """The parent of pw.x is the worker; it is killed once."""
    first = desk.folder / "first"
    desk.behave(f"if not os.path.exists({str(first)!r}): open({str(first)!r}, 'w'); os.kill(os.getppid(), 9)")
    said = Said()
    assert Runner(runs, 1, said).run(desk.orders(1)) == {}
    assert desk.asked == ["000", "000"]
    assert any("000: its worker was lost" in line for line in said.lines)


def test_two_processes_do_not_compute_in_one_folder(runs):
    with pytest.raises(InputError, match="another dftune computes there"), open_runs(runs.folder):
        pass


def test_an_error_of_a_file_of_a_run_is_not_taken_for_one_of_the_folder(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="charge"), open_runs(tmp_path / "new.runs") as made:
        (made.folder / "charge").read_text()


def test_a_disk_without_room_is_said_and_nothing_half_written_is_left(desk, runs, local_ray):
    """This process may write no file as large as that of the eigenvalues."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(InputError, match=r"al.runs: cannot be written \(File too large\); make room, and give the"):
            Runner(runs, 1, Silent()).run(desk.orders(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in runs.folder.iterdir() if path.name != ".lock"] == []
    assert Runner(runs, 1, Silent()).run(desk.orders(1)) == {}


def test_more_ranks_than_cpus_are_refused(runs, local_ray):
    with pytest.raises(InputError, match=r"a DFT run asks for 4096 CPUs .*; lower \[run\] ranks"):
        Runner(runs, 4096, Silent())


SCRIPT = """
import sys
from pathlib import Path
from dftune.cluster.connection import connected
from dftune.cluster.dft.tasks import Runner
from dftune.tests.cluster.dft.test_tasks import Desk
from dftune.trainables.data.generating.results import open_runs
from dftune.trainables.progress import Silent
desk = Desk.__new__(Desk)
desk.folder = Path(sys.argv[1]); desk.seen = desk.folder / "seen.txt"; desk.program = desk.folder / "pw.x"
with open_runs(desk.folder / "al.runs") as runs, connected():
    Runner(runs, 1, Silent()).run(desk.orders(6))
"""


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_a_stopped_process_takes_its_programs_along_and_loses_nothing(desk, number):
    """Stopped while 000 and 001 are finished and others hang: those are computed again, and no program stays."""
    desk.behave("if name > '001' and not os.path.exists('/proc/1/none'): time.sleep(100)")
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, desk.folder], cwd=ROOT.parent, stderr=subprocess.PIPE)
    runs, end = desk.folder / "al.runs", time.monotonic() + 120
    while not ({"000", "001"} <= {p.name for p in runs.glob("*")} and "002" in desk.asked):
        assert time.monotonic() < end
        assert running.poll() is None, running.stderr.read().decode()[-2000:]
        time.sleep(0.1)
    finished = {name: json.loads((runs / name / DONE).read_text()) for name in ("000", "001")}
    os.kill(running.pid, number)
    running.wait(60)
    running.stderr.close()
    while programs(desk.program):
        assert time.monotonic() < end
        time.sleep(0.1)
    desk.behave()
    again = subprocess.run([sys.executable, "-c", SCRIPT, desk.folder], cwd=ROOT.parent, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    assert [desk.asked.count(name) for name in ("000", "001")] == [1, 1]
    assert {name: json.loads((runs / name / DONE).read_text()) for name in finished} == finished
    assert {path.name for path in runs.iterdir()} == {".lock", *(f"{k:03d}" for k in range(6))}


NODES = """
import os, sys, time
from threading import Thread
from dftune.cluster.connection import SETTINGS
from dftune.cluster.embedded import ENVIRONMENT, PATIENCE

os.environ.update(SETTINGS | ENVIRONMENT | {"RAY_AUTH_MODE": "disabled"})  # the nodes listen on loopback
from pathlib import Path
from ray._private import services
from ray.cluster_utils import Cluster
from dftune.cluster.connection import connected
from dftune.cluster.dft.tasks import Runner
from dftune.cluster.ray_private import _patient
from dftune.tests.cluster.dft.test_tasks import Desk, Said, programs
from dftune.trainables.data.generating.results import open_runs

services.get_node = _patient(services.get_node, PATIENCE, raylets=[])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
desk = Desk.__new__(Desk)
desk.folder = Path(sys.argv[1]); desk.seen = desk.folder / "seen.txt"; desk.program = desk.folder / "pw.x"


def strike():
    while not {"002", "003"} <= set(desk.asked):  # one a node
        time.sleep(0.1)
    before = len(programs(desk.program))
    cluster.remove_node(second, allow_graceful=False)
    while len(programs(desk.program)) >= before:  # else its worker may still end, and nothing is lost
        time.sleep(0.1)
    (desk.folder / "struck").touch()


said = Said()
Thread(target=strike, daemon=True).start()
with open_runs(desk.folder / "al.runs") as runs, connected(cluster.address):
    print(Runner(runs, 1, said).run(desk.orders(8)), *said.lines, sep="\\n")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_lost_node_costs_only_what_it_was_computing(desk):
    """The second of two, as it computes; on --address, where inputs and results travel through Ray."""
    struck = str(desk.folder / "struck")
    desk.behave(f"while name > '001' and not os.path.exists({struck!r}): time.sleep(0.1)")
    ran = subprocess.run(
        [sys.executable, "-c", NODES, desk.folder], cwd=ROOT.parent, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    failed, *lines = ran.stdout.splitlines()
    assert failed == "{}"
    (lost,) = [line for line in lines if "its worker was lost" in line]
    assert "node" in lost
    assert {path.name for path in (desk.folder / "al.runs").iterdir()} == {".lock", *(f"{k:03d}" for k in range(8))}
    assert sorted(set(desk.asked)) == [f"{k:03d}" for k in range(8)]
    assert len(desk.asked) <= 9


def programs(path: Path) -> list[int]:
    """Processes that run a script."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(path).encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
