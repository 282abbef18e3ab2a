"""Work that takes its turn leaves no memory behind."""

import asyncio
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from dftune.platform.serve import turns
from dftune.platform.serve.turns import Turns
from dftune.trainables.errors import InputError
from dftune.trainables.memory import give_back

MB = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def in_pieces(small: list[bytes]) -> list[bytes]:
    """200 MB, with small pieces between that stay, so that the C library gives nothing back by itself."""
    large = []
    for _ in range(2000):
        large.append(b"x" * 100_000)
        small.append(b"y" * 600)
    return large


@pytest.mark.parametrize("fails", [False, True])
def test_memory_of_large_work_goes_back_to_the_system(fails, monkeypatch):
    monkeypatch.setattr(turns, "LONG", 0.0)
    small: list[bytes] = []

    def work(tell):
        large = in_pieces(small)
        assert resident() > before + 150 * MB
        if fails:
            raise InputError("no")
        return len(large)

    async def twice():
        for _ in range(2):
            with pytest.raises(InputError) if fails else nullcontext() as error:  # which is still there, as in a server
                assert await row.run(work) == 2000
            assert resident() < before + 20 * MB, error

    give_back()  # what other tests have left, which this one would use
    row, before = Turns(1, "wait"), resident()
    asyncio.run(twice())
