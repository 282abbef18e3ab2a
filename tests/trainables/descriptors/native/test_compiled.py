"""Where the compiled kernels are kept.  Each test compiles a function of its own in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Adds one to an array, compiled; says which folder it is kept in, and whether this process compiled it.
PROGRAM = """
import sys
import numpy as np
from dftune.trainables.descriptors.native import compiled

@compiled.compiled
def step(values):
    values[0] += 1

values = np.zeros(1)
compiled.ready("a test", lambda: step(values))
assert values[0] == 1
print(compiled.folder(), len(step.stats.cache_misses))
"""


@pytest.fixture
def run(tmp_path):
    """Run PROGRAM with some environment; its folder, whether it compiled, and what it said."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def run(**environment):
        done = subprocess.run(
            [sys.executable, script],
            env={**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        folder, misses = done.stdout.split()
        return Path(folder), misses == "1", done.stderr

    return run


def test_a_machine_compiles_once_and_says_so(run, tmp_path):
    folder, compiled, said = run(NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert folder.parent == tmp_path / "kept"
    assert compiled
    assert "dftune compiles the kernel of a test, once on this machine" in said
    assert "kept in" in said
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "kept"))[:2] == (folder, False)


def test_a_damaged_cache_is_made_again(run, tmp_path):
    folder, _, _ = run(NUMBA_CACHE_DIR=str(tmp_path))
    for suffix, damage in (("nbc", b"no pickle"), ("nbi", b"no pickle"), ("nbi", b"")):  # the code, and its index
        (file,) = folder.glob(f"*.{suffix}")
        file.write_bytes(damage or file.read_bytes()[:40])
        assert run(NUMBA_CACHE_DIR=str(tmp_path))[:2] == (folder, True)


def test_a_folder_that_others_can_write_to_is_not_used(run, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    folder, compiled, _ = run(NUMBA_CACHE_DIR=str(tmp_path / "open"))
    assert compiled
    assert folder.parent == tmp_path / f"dftune-kernels-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run(NUMBA_CACHE_DIR="/proc/no folder can be made here")[:2] == (folder, False)
