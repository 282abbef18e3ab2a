"""The bundled datasets, opened once."""

from pathlib import Path

import pytest

from dftune.tests.places import ROOT
from dftune.trainables.alloys.data import AlloyData

EXAMPLES: Path = ROOT / "examples" / "alloys"


@pytest.fixture(scope="session")
def cuau():
    return AlloyData.open(EXAMPLES / "CuAu")


@pytest.fixture(scope="session")
def fept():
    return AlloyData.open(EXAMPLES / "FePt")
