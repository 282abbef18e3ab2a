"""Files to import."""

from pathlib import Path

import pytest

from dftune.tests.exported import export


@pytest.fixture
def raw(al4, tmp_path) -> Path:
    """Snapshots 000 to 003 of the bundled dataset as files to import."""
    for snapshot in al4.snapshots[:4]:
        export(al4, snapshot, tmp_path / "raw")
    return tmp_path / "raw"
