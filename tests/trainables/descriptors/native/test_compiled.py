"""Where the compiled kernels are kept.  Each test compiles a function of its own in a process of its own.

Within one process a second definition of the function looks for it on disk as a second process does.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dftune.tests.forked import Forked
from dftune.trainables.descriptors.native import compiled


def add() -> None:
    """Add one to an array, compiled; print in which folder that is kept, and whether it was compiled anew."""

    @compiled.compiled
    def step(values):
        values[0] += 1

    values = np.zeros(1)
    compiled.ready("a test", lambda: step(values))
    assert values[0] == 1
    print(compiled.folder(), len(step.stats.cache_misses))


def damage(suffix: str, content: str) -> None:
    """Change a bit in the file with that suffix, give it other content, or without content cut it off."""
    (file,) = compiled.folder().glob(f"*.{suffix}")
    code = bytearray(file.read_bytes())
    if content == "a bit":
        code[len(code) // 2] ^= 1
    file.write_bytes(code if content == "a bit" else content.encode() or code[:40])


@pytest.fixture
def run(tmp_path) -> Callable[..., tuple[list[tuple[Path, bool]], str]]:
    """``add`` in a process of its own, once and again after each damage ("" is none), in some environment.

    Each folder and whether it compiled, and what it said.
    """

    def run(*damages: str, **environment: str) -> tuple[list[tuple[Path, bool]], str]:
        def act() -> None:
            os.environ.update(HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path), **environment)
            tempfile.tempdir = None
            compiled.folder.cache_clear()
            add()
            for one in damages:
                if one:
                    damage(*one.split("="))
                add()

        with Forked(act) as process:
            out, said = process.communicate()
        assert process.returncode == 0, said
        lines = [line.rpartition(" ") for line in out.splitlines()]
        return [(Path(folder), misses == "1") for folder, _, misses in lines], said

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
