"""Calculations by pw.x and pp.x 6.7 of Debian: two displaced atoms of aluminium, 6 Ry, 4 x 4 x 3 k-points, 9 x 9 x 12
points, 21 energies.

``runs/0`` and ``runs/1`` are whole ones, whose LDOS has a Gaussian kernel.  ``others`` has logs and XML of that of
``runs/0`` under other settings.
"""

import shutil
from pathlib import Path

import pytest

from dftune.tests.places import DATA, unpack


@pytest.fixture(scope="session")
def calculated(tmp_path_factory) -> Path:
    """All of them; tests must not change what is in it."""
    folder = tmp_path_factory.mktemp("quantum_espresso")
    unpack(DATA / "quantum_espresso.tar.xz", folder)
    return folder


@pytest.fixture
def runs(calculated, tmp_path) -> Path:
    """A copy of the two whole calculations, to spoil."""
    return shutil.copytree(calculated / "runs", tmp_path / "runs")


@pytest.fixture
def run(calculated, tmp_path) -> Path:
    """A copy of the first one alone."""
    return shutil.copytree(calculated / "runs" / "0", tmp_path / "run")
