"""Where the compiled kernels are kept.  Each test compiles a function of its own in a process of its own.

Within one process a second definition of the function looks for it on disk as a second process does.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Adds one to an array, compiled, and again after each damage ("" is none); says which folder it is kept in, and whether
# it was compiled anew.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from dftune.trainables.descriptors.native import compiled

def add():
    @compiled.compiled
    def step(values):
        values[0] += 1

    values = np.zeros(1)
    compiled.ready("a test", lambda: step(values))
    assert values[0] == 1
    print(compiled.folder(), len(step.stats.cache_misses))

add()
for damage in sys.argv[1:]:
    suffix, _, content = damage.partition("=")
    if suffix:
        (file,) = compiled.folder().glob(f"*.{suffix}")
        code = bytearray(file.read_bytes())
        if content == "a bit":
            code[len(code) // 2] ^= 1
        file.write_bytes(code if content == "a bit" else content.encode() or code[:40])
    add()
"""


@pytest.fixture
def run(tmp_path) -> Callable[..., tuple[list[tuple[Path, bool]], str]]:
    """Run PROGRAM with some damages and environment: each folder and whether it compiled, and what it said."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def run(*damages: str, **environment: str) -> tuple[list[tuple[Path, bool]], str]:
        done = subprocess.run(
            [sys.executable, script, *damages],
            env={**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line.rpartition(" ") for line in done.stdout.splitlines()]
        return [(Path(folder), misses == "1") for folder, _, misses in lines], done.stderr

    return run


def test_a_machine_compiles_once_and_what_is_damaged_again_and_says_so(run, tmp_path):
    # The code, and its index.
    damages = "", "nbc=no pickle", "nbc=a bit", "nbi=no pickle", "nbi=", "done="
    ((folder, compiled), second, *others), said = run(*damages, NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert folder.parent == tmp_path / "kept"
    assert compiled
    assert second == (folder, False)
    assert others == [(folder, True)] * 5, "a damaged cache is made again"
    assert said.count("dftune compiles the kernel of a test, once on this machine") == 1
    assert said.count("dftune compiles the kernel of a test, as what was kept is damaged") == 5
    assert said.count("kept in") == 6


def test_a_folder_that_others_can_write_to_is_not_used(run, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    ((folder, compiled),), _ = run(NUMBA_CACHE_DIR=str(tmp_path / "open"))
    assert compiled
    assert folder.parent == tmp_path / f"dftune-kernels-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run(NUMBA_CACHE_DIR="/proc/no folder can be made here")[0] == [(folder, False)]
