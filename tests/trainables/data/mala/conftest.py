"""A project of MALA to import and to spoil."""

import shutil
from pathlib import Path

import pytest

from dftune import Dataset
from dftune.tests.mala_project import as_mala_writes_it, described


@pytest.fixture(scope="session")
def ours(al4, tmp_path_factory) -> Dataset:
    """Three snapshots of the bundled dataset, with descriptors."""
    return described(al4, tmp_path_factory.mktemp("described") / "al4")


@pytest.fixture(scope="session")
def written(ours, tmp_path_factory) -> Path:
    return as_mala_writes_it(ours, tmp_path_factory.mktemp("mala") / "al4")


@pytest.fixture
def project(written, tmp_path) -> Path:
    """A project of MALA to spoil: three snapshots with descriptors, and parameters."""
    return Path(shutil.copytree(written, tmp_path / "project"))


@pytest.fixture
def one(project) -> Path:
    """The same with one snapshot."""
    for file in [*project.glob("001.*"), *project.glob("002.*")]:
        file.unlink()
    return project
