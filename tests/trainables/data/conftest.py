"""Files to import."""

import shutil
from pathlib import Path

import pytest

from dftune.tests.exported import export


@pytest.fixture(scope="session")
def exported(al4, tmp_path_factory) -> Path:
    """What ``raw`` is a copy of."""
    folder = tmp_path_factory.mktemp("exported") / "raw"
    for snapshot in al4.snapshots[:4]:
        export(al4, snapshot, folder)
    return folder


@pytest.fixture
def raw(exported, tmp_path) -> Path:
    """Snapshots 000 to 003 of the bundled dataset as files to import."""
    return Path(shutil.copytree(exported, tmp_path / "raw"))
