"""What several test files share: one local Ray for the session, and a dataset that is cheap to work on."""

import shutil
from pathlib import Path

import pytest

from dftune.cluster.connection import connected
from dftune.trainables.dataset import Dataset

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def local_ray():
    """The embedded Ray that a user gets, shared by the session."""
    with connected():
        yield


@pytest.fixture(scope="session")
def al4(tmp_path_factory) -> Dataset:
    """A copy of the bundled aluminium dataset, without descriptors; tests must not change what is in it."""
    path = tmp_path_factory.mktemp("data") / "al4"
    shutil.copytree(ROOT / "examples" / "al4", path, ignore=shutil.ignore_patterns("descriptors"))
    return Dataset.open(path)


@pytest.fixture
def fresh_al4(al4, tmp_path) -> Dataset:
    """A copy that a test may damage."""
    shutil.copytree(al4.path, tmp_path / "al4", ignore=shutil.ignore_patterns("descriptors"))
    return Dataset.open(tmp_path / "al4")
