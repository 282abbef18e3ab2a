"""A copy of a dataset overwrites nothing, is whole or no dataset, and goes on where it was interrupted."""

import os
import signal
import subprocess
import sys

import pytest

from dftune.tests.room import files_of_at_most
from dftune.trainables.data.mirror import copy_dataset
from dftune.trainables.errors import DatasetError, InputError

KILLED = """
import resource, signal, sys
from dftune.trainables.data.mirror import copy_dataset
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills whoever writes past the limit
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
copy_dataset(*sys.argv[1:])
"""


@pytest.fixture
def source(tmp_path):
    """A dataset for whoever copies: dataset.json and other files, one of them of 200 kB."""
    path = tmp_path / "source"
    (path / "ldos").mkdir(parents=True)
    (path / "dataset.json").write_text("{}")
    (path / "ldos" / "000.arrow").write_bytes(b"0" * 100_000)
    (path / "ldos" / "001.arrow").write_bytes(os.urandom(200_000))
    (path / "zz.parquet").write_bytes(b"rows")
    return path


def content(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_copy_on_a_full_disk_is_no_dataset_and_goes_on_with_room(scheme, source, tmp_path):
    there = tmp_path / "there"
    with files_of_at_most(150_000), pytest.raises(InputError, match=r"001.arrow: cannot be written \(File too large\)"):
        copy_dataset(str(source), f"{scheme}{there}")
    whole = {name: text for name, text in content(source).items() if name in content(there)}
    assert content(there) == whole, "what is there is whole"
    assert "dataset.json" not in whole
    assert "ldos/000.arrow" in whole
    before = (there / "ldos" / "000.arrow").stat().st_mtime_ns
    assert copy_dataset(str(source), f"{scheme}{there}") == 4
    assert content(there) == content(source)
    assert (there / "ldos" / "000.arrow").stat().st_mtime_ns == before, "what was there is kept"


def test_a_copy_killed_in_the_middle_of_a_write_goes_on_by_the_same_command(source, tmp_path):
    there = tmp_path / "there"
    killed = subprocess.run([sys.executable, "-c", KILLED, source, there], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr
    named = {name: text for name, text in content(there).items() if not name.endswith(".part")}
    assert named == {name: content(source)[name] for name in named}
    assert "dataset.json" not in named
    assert len(content(there)) > len(named), "a half-written file"
    assert copy_dataset(str(source), str(there)) == 4
    assert content(there) == content(source), "which is removed"


@pytest.mark.parametrize("name", ["ldos/001.arrow", "zz.parquet"])
def test_a_copy_overwrites_no_other_file(name, source, tmp_path):
    there = tmp_path / "there"
    (there / name).parent.mkdir(parents=True)
    (there / name).write_text("somebody else's")
    (there / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=f"there: has another file {name} already, which is not overwritten"):
        copy_dataset(str(source), str(there))
    assert content(there) == {name: b"somebody else's", "notes.txt": b"mine"}, "and nothing was copied"
    (there / name).unlink()
    copy_dataset(str(source), str(there))
    assert content(there) == {**content(source), "notes.txt": b"mine"}
