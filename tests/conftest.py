"""What several test files share: one local Ray for the session, a dataset that is cheap to work on, and a model.

`make check` runs the tests that need no Ray (``-m "not ray and not slow"``).  A test that takes ``local_ray``, directly
or through another fixture, is marked ``ray`` here; one that starts Ray in another process is marked where it stands.
A test that takes ``shared``, the DFT data outside the repository, is marked ``slow``.
"""

import atexit
import fcntl
import gc
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dftune.tests.places import DATA, ROOT, SHARED
from dftune.tests.plugins import install
from dftune.tests.postgresql_server import Server, programs

# What else the fixtures need they import themselves: pytest-xdist's first process takes no test, and starts the others.
if TYPE_CHECKING:
    from dftune import Model
    from dftune.tests.toy_kind import ToyKind
    from dftune.trainables.data.dataset import Dataset

# A shell that runs the tests in the background has Ctrl-C ignored, by every process that they start, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Fixtures that mark the tests that take them; ``head`` is a Ray in a process of its own, of test_submission.py.
MARKS = {"local_ray": "ray", "head": "ray", "shared": "slow"}

# Files that are begun first, so that the processes of pytest end at about the same time: the longest on Ray; and those
# that wait more than they compute, one after the other, while other processes have the cores.
FIRST = (
    "test_study.py",
    "test_schedulers.py",
    "test_cluster.py",
    "test_comparison.py",
    "test_driver.py",
    "test_endpoint.py",
    "test_toy_kind.py",
    "test_submission.py",
    "test_lease.py",
    "test_client.py",
    "test_remote_ledger.py",
    "test_ledger.py",
    "test_mpi_group.py",
    "test_slurm.py",
    "test_web.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """A process of pytest-xdist ends when all is done: to take apart what it has imported would take it a second."""
    if hasattr(config, "workerinput"):
        atexit.register(os._exit, 0)  # of functions at exit the first that is registered comes last


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Collect without looking for garbage, and never look at what the packages made: it took a third of the time."""
    gc.disable()
    found = yield
    gc.freeze()
    gc.set_threshold(20_000)  # it took a twenty-fifth of the tests' time at 700
    gc.enable()
    return found


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in items:
        for name in MARKS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKS[name])


def start_no_ray(*arguments: object, **settings: object) -> None:
    """In the place of ``ray.init`` in tests without the mark ``ray``."""
    raise AssertionError("a test that starts Ray takes the fixture local_ray, or is marked with pytest.mark.ray")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """A test without the mark ``ray`` fails if it, one of its fixtures or a process that it starts, starts Ray."""
    import ray  # not "ray.init" as a text, which pytest would look up anew for each of thousands of tests

    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("ray") is None:
            patch.setattr(ray, "init", start_no_ray)
            patch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests of this process have started
            patch.setenv("RAY_ADDRESS", "a test without the mark ray")  # no HOST:PORT, so that connecting to it fails
        return (yield)


@pytest.fixture(scope="session")
def local_ray():
    """The embedded Ray that a user gets, shared by the session; `dftune serve` tells it what its web server needs."""
    from dftune.cluster.connection import connected
    from dftune.platform.serve.proxy import ENVIRONMENT

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with connected():
            yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server for the session, that a test may kill and start again."""
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def empty_database(postgresql) -> str:
    """The URL of an empty database, with a password."""
    return postgresql.new_database()


@pytest.fixture(scope="session")
def tables(postgresql) -> str:
    """The URL of a database with Optuna's tables and no study."""
    from dftune.platform.ledger.places import Database
    from dftune.platform.ledger.storage import close

    url = postgresql.new_database()
    close(Database(url)._storage(new=True))
    return url


@pytest.fixture
def database(postgresql, tables) -> str:
    """The URL of a database that has its tables, as all have after their first study: to make them is slow."""
    return postgresql.new_database(like=tables)


@pytest.fixture(scope="session", autouse=True)
def small_without_training() -> Iterator[None]:
    """Studies of this process begin with a small surrogate without training: 1,024 neurons take seconds."""
    from dftune.trainables.ldos.kind import LdosKind

    before = LdosKind.untrained
    LdosKind.untrained = {"training": "none", "width": 32}
    yield
    LdosKind.untrained = before


@pytest.fixture(scope="session")
def al4(tmp_path_factory) -> "Dataset":
    """A copy of the bundled aluminium dataset, without descriptors; tests must not change what is in it."""
    from dftune.trainables.data.dataset import Dataset

    path = tmp_path_factory.mktemp("data") / "al4"
    shutil.copytree(ROOT / "examples" / "al4", path, ignore=shutil.ignore_patterns("descriptors"))
    return Dataset.open(path)


@pytest.fixture(scope="session")
def described(al4) -> "Dataset":
    """The same, with cheap descriptors: a cutoff of 4 Å and 2J = 4."""
    from dftune import BispectrumSettings
    from dftune.trainables.descriptors.bispectrum import bispectrum

    settings = BispectrumSettings(cutoff=4.0, two_j_max=4)
    for s in al4.snapshots:
        al4.write_descriptors(s, settings, bispectrum(s.cell, s.positions, s.numbers, s.grid, settings))
    return al4


@pytest.fixture(scope="session")
def numbers(tmp_path_factory) -> Path:
    """A dataset of the toy kind: numbers near the line y = 2 x; tests must not change it."""
    path = tmp_path_factory.mktemp("data") / "numbers"
    path.mkdir()
    splits = {
        "train": [[1.0, 2.1], [2.0, 3.9], [3.0, 6.2], [4.0, 7.9]],
        "validation": [[1.5, 3.0], [2.5, 5.1]],
        "test": [[1.2, 2.5], [3.5, 6.9]],
    }
    (path / "dataset.json").write_text(json.dumps({"kind": "toy", "numbers": splits}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def toy() -> "Iterator[ToyKind]":
    """The toy kind, which has its name for the tests of one file."""
    from dftune.tests.toy_kind import ToyKind
    from dftune.trainables.kinds import KINDS

    kind = ToyKind()
    KINDS.add("toy", kind)
    yield kind
    del KINDS._ours["toy"]


@pytest.fixture(scope="session")
def with_toy(tmp_path_factory) -> dict[str, str]:
    """The environment of a new process in which the toy kind is installed, as a plug-in."""
    folder = tmp_path_factory.mktemp("plugins")
    made = "from dftune.tests.toy_kind import ToyKind\nTOY = ToyKind()"
    install(folder, "toy_plugin", {"toy": "toy_plugin:TOY"}, made, group="dftune.kinds")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Where a file or folder of the DFT data lies that are not in the repository; without it the test is skipped."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"needs {name} of the DFT data in ../shared/data, which are not in the repository")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def almg(tmp_path_factory) -> "Dataset":
    """Three snapshots of two species, without their pseudopotentials; tests must not change it."""
    from dftune.trainables.data.importing.importers import import_dataset

    path = tmp_path_factory.mktemp("data") / "almg"
    return import_dataset([DATA / "almg"], path, validation=["001"], test=["002"])


@pytest.fixture
def fresh_al4(al4, tmp_path) -> "Dataset":
    """A copy that a test may damage."""
    from dftune.trainables.data.dataset import Dataset

    shutil.copytree(al4.path, tmp_path / "al4", ignore=shutil.ignore_patterns("descriptors"))
    return Dataset.open(tmp_path / "al4")


@pytest.fixture(scope="session")
def model(al4, tmp_path_factory) -> "Model":
    """A surrogate of aluminium trained in five seconds: T = 2, some 15 meV/atom off; tests must not change it."""
    from dftune import Model
    from dftune.tests.small_model import small_model

    with shared_folder(tmp_path_factory, "model") as folder:  # among the processes of pytest-xdist
        if not folder.exists():
            small_model(al4).save(folder)
        return Model.open(folder)


@contextmanager
def shared_folder(tmp_path_factory, name: str) -> Iterator[Path]:
    """A folder that all processes of pytest share, for one of them at a time."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def alloy(tmp_path_factory) -> Path:
    """The folder of a surrogate of CuAu on 32 sites whose last layer was fitted."""
    from dftune.tests.small_model import small_alloy
    from dftune.trainables.alloys.data import AlloyData

    folder = tmp_path_factory.mktemp("models") / "CuAu"
    small_alloy(AlloyData.open(ROOT / "examples" / "alloys" / "CuAu"), training="none").save(folder)
    return folder
