"""A temporary folder is removed at its end, or after its process was killed, and nobody else's ever is."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from dftune.trainables import temporary
from dftune.trainables.files import atomic, atomic_folder
from dftune.trainables.temporary import NAME, remove_left_over, temporary_folder

KILLED = """
import os, signal
from dftune.trainables.temporary import temporary_folder
with temporary_folder("trial") as folder:
    (folder / "training.safetensors").write_bytes(b"0" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from dftune.trainables.files import atomic
with atomic(Path(sys.argv[1])) as temporary:
    if temporary.name.startswith(".al4"):
        temporary.mkdir()
        temporary /= "snapshots.parquet"
    temporary.write_bytes(b"0" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_folder_says_whose_it_is_and_is_removed_at_its_end(tmp_path):
    with temporary_folder("trial") as folder, temporary_folder("tune") as other:
        assert NAME.fullmatch(folder.name)[2] == str(os.getpid())
        (folder / "file").write_text("content")
        assert sorted(tmp_path.iterdir()) == sorted([folder, other]), "that of a live process is kept by the next"
        shutil.rmtree(other)  # what somebody else has removed is no error
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_process_is_removed_by_the_next_one_and_no_others(tmp_path, monkeypatch):
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    others = {
        "of another machine": left.name.replace(NAME.fullmatch(left.name)[1], "0" * 12),
        "of an earlier version": "dftune-abcd1234",
        "of somebody": "dftune-notes-2024-01-02-final",
    }
    for name in others.values():
        (tmp_path / name).mkdir()
    link = tmp_path / left.name.replace("trial", "link")
    link.symlink_to(tmp_path / others["of somebody"])
    with temporary_folder("trial"):
        assert not left.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others.values(), link.name])


def test_that_of_another_user_is_left(tmp_path, monkeypatch):
    gone = tmp_path / f"dftune-trial-{temporary._machine()}-{2**22 + 1}-1-abc"
    gone.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: gone.stat().st_uid + 1)
    remove_left_over(tmp_path)
    assert gone.exists()
    monkeypatch.undo()
    remove_left_over(tmp_path)
    assert not gone.exists()


def test_what_a_killed_process_left_half_written_is_removed_by_who_writes_a_folder_there(tmp_path):
    for name in ("al4", "x" * 255):
        code = [sys.executable, "-c", KILLED_WRITING, str(tmp_path / name)]
        assert subprocess.run(code).returncode == -signal.SIGKILL
    left = sorted(tmp_path.iterdir())
    assert [path.is_dir() for path in left] == [True, False]
    others = [
        tmp_path / ".al4.0123abcd.part",  # of an earlier version, whose process nobody knows
        tmp_path / left[0].name.replace(NAME.fullmatch(left[0].name)[1], "0" * 12),  # of another machine
    ]
    for other in others:
        other.mkdir()
    with atomic(tmp_path / "mine") as mine, atomic_folder(tmp_path / "al4") as folder:
        mine.write_text("being written")
        folder.mkdir()
        assert sorted(tmp_path.iterdir()) == sorted([mine, folder, *others])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["al4", "mine", *(o.name for o in others)])


def test_a_folder_of_a_users_is_hidden_while_it_is_written_to(tmp_path):
    with temporary_folder("ldos", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".dftune-ldos-")
        assert NAME.fullmatch(folder.name)
