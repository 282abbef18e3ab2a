import pytest

from dftune.platform.ledger import lease as lease_module


@pytest.fixture(params=["folder", "database"])
def where(request, tmp_path):
    """A folder for studies, and the URL of their ledgers, None where they lie in their folders."""
    return tmp_path, request.getfixturevalue("database") if request.param == "database" else None


@pytest.fixture
def database_only(database, tmp_path):
    return tmp_path, database


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.1)
