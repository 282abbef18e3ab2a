"""Structures that `dftune model predict` is given: how they are read, and what is said of them."""

import ase.build
import ase.io
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "al4.model"
    model.save(path)
    return path


def predict(folder, *arguments):
    """stderr of a prediction that is refused before anything is computed."""
    result = CliRunner().invoke(cli, ["model", "predict", str(folder), *map(str, arguments)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.stderr.splitlines()


def test_of_a_file_with_several_structures_it_is_said_that_the_last_is_taken(folder, tmp_path):
    good, bad = ase.build.bulk("Al", cubic=True), ase.build.bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "md.xyz", [good, good, bad], format="extxyz")
    note, error = predict(folder, tmp_path / "md.xyz")
    assert note == f"{tmp_path / 'md.xyz'}: holds several structures; the last is taken (--frames : takes all)"
    assert error.endswith("md.xyz: the model knows Al but not Cu")
    (error,) = predict(folder, tmp_path / "md.xyz", "--frames", ":")
    assert "md.xyz 3/3: the model knows Al but not Cu" in error


def test_format_and_types_are_passed_on(folder, tmp_path):
    copper = ase.build.bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "data", copper, format="lammps-data")
    assert "give those of types 1, 2, ... in order, as in --types Al,Cu" in predict(folder, tmp_path / "data")[0]
    assert "the model knows Al but not Cu" in predict(folder, tmp_path / "data", "--types", "Cu")[0]
    assert "as vasp" in predict(folder, tmp_path / "data", "--format", "vasp")[0]


def test_a_model_that_reads_no_formats_says_so(model, monkeypatch):
    monkeypatch.setattr(type(model.surrogate), "read", lambda self, path, frames="-1": [])
    with pytest.raises(ValueError, match="this model takes no format"):
        model.read("POSCAR", format="vasp")
