"""A study for the command line that nobody had to train, and a folder with a model."""

import shutil
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from dftune.platform.ledger.ledger import Ledger
from dftune.platform.spec import StudySpec

ACCURACY = {
    **{"n_snapshots": 3, "n_initializations": 2, "by_group": {"all": (16.1, -2.5)}},
    **{"band_energy_mae": 16.1, "band_energy_mae_std": 2.0, "ldos_r2": 0.99, "ldos_r2_std": 0.001},
    **{"dos_rmse": 0.006, "dos_rmse_std": 0.0001},
}


@pytest.fixture
def studies(tmp_path) -> Path:
    """A folder with the ended study "kept"."""
    make_study(tmp_path / "studies", "kept")
    return tmp_path / "studies"


@pytest.fixture(scope="session")
def model_folder(model, tmp_path_factory) -> Path:
    """A folder with a surrogate of aluminium; tests must not change it."""
    path = tmp_path_factory.mktemp("models") / "al4.model"
    model.save(path)
    return path


MADE = tempfile.TemporaryDirectory(prefix="studies-")


def make_study(folder: Path, name: str) -> None:
    """An ended study of four trials, whose numbers are made up."""
    shutil.copytree(_made(name), folder / name)


@cache
def _made(name: str) -> Path:
    """Such a study, which is made once."""
    folder = Path(MADE.name)
    (folder / name).mkdir(parents=True)
    space = {"width": {"type": "int", "low": 4, "high": 64}}
    spec = StudySpec.of({"name": name, "dataset": "/nowhere", "space": space, "method": "rfr", "trials": 4})
    with closing(Ledger.create(folder / name / "ledger.db", spec, "0" * 64)) as ledger:
        for trial, width in enumerate((8, 16, 32, 64)):
            ledger.asked(trial, {"width": width}, seed=trial, scores={"rfr": float(width)})
            report = {"epoch": 3, "best_loss": 1 / width, "seconds": 2.0, "grid_points": 3000}
            ledger.told(trial, 1 / width, report, None)
        ledger.conclude(
            {"trial": 3, "config": {"width": 64}, "value": 1 / 64, "accuracy": ACCURACY, "seconds": {"search": 8.0}}
        )
    return folder / name
